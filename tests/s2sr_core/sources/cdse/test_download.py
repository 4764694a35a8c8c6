from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
import shutil
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.waiting import DEADLINE, until

from s2sr_core.errors import InputError, ProductError, Step
from s2sr_core.products.checked_files import CheckedFiles
from s2sr_core.products.safe import band_files, read_product
from s2sr_core.sources.cdse import download, reception, slots
from s2sr_core.sources.cdse.http import CdseError, Http
from s2sr_core.sources.cdse.road import Bearer, ODataRoad
from s2sr_core.sources.cdse.slots import Slots
from s2sr_core.workspace import Workspace
from s2sr_sandbox.server import Fault

FILES = {"manifest.safe", "MTD_MSIL2A.xml", "SCL", "B04"}


def roles(folder: Path) -> dict[str, Path]:
    """The files below a product's folder: by name at its root, by band in it."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            match = re.search(r"_(SCL|B..)_20m\.jp2$", path.name)
            found[match[1] if match else path.name] = path
    return found


def values_asked(client) -> list[str]:
    """Names of the files whose bytes were asked for, in order."""
    return [re.findall(r"Nodes\(([^)]*)\)", request.path)[-1] for request in client.sandbox.byte_requests()]


def test_only_what_was_asked_for_comes_and_it_is_the_same_to_the_byte(connect, archive: Path) -> None:
    client, product = connect(), connect().product()
    size = client.downloader().download(product, ["B04"])
    folder = client.folder / "imagery_raw" / product.name.folder
    found = roles(folder)
    assert set(found) == FILES
    for path in found.values():
        assert path.read_bytes() == (archive / product.name.folder / path.relative_to(folder)).read_bytes()
    assert size == sum(path.stat().st_size for path in found.values())
    order = values_asked(client)
    assert order[:2] == ["manifest.safe", "MTD_MSIL2A.xml"]
    assert "SCL" in order[2]


@pytest.mark.parametrize("odd", ["", "../Products", "1)/Nodes(x", "0-0"])
def test_an_id_that_is_not_a_uuid_is_refused_before_anything_is_asked(connect, odd: str) -> None:
    """It may come from a manifest that somebody edited, and would become part of an address."""
    client = connect()
    with pytest.raises(ProductError, match=r"is not a UUID; run --stage query again$") as caught:
        client.downloader().download(replace(client.product(), id=odd), ["B04"])
    assert caught.value.step == Step.DOWNLOAD
    assert client.sandbox.requests == []


def test_right_files_are_not_asked_for_again_and_a_further_band_alone_is(connect) -> None:
    client = connect()
    downloader, product = client.downloader(), client.product()
    downloader.download(product, ["B04"])
    client.sandbox.clear_requests()
    assert downloader.download(product, ["B04"]) == 0
    assert client.sandbox.requests == []
    downloader.download(product, ["B04", "B03"])
    assert [name[-11:-8] for name in values_asked(client)] == ["B03"]


def test_what_was_compared_while_it_came_is_not_read_for_that_again(
    connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor by a later download, nor by the stage that composites it; but again once it has changed."""
    client, checked = connect(), CheckedFiles(Workspace(tmp_path / "run"))
    downloader, product = client.downloader(), client.product()
    read: list[str] = []
    hashed = reception.hashed
    for module in (download, reception):
        noted = lambda stream, digest: read.append(stream.name) or hashed(stream, digest)  # noqa: E731
        monkeypatch.setattr(module, "hashed", noted)
    assert downloader.download(product, ["B04"], checked) > 0
    assert downloader.download(product, ["B04"], checked) == 0
    assert read == []
    folder = client.folder / "imagery_raw" / product.name.folder
    files = [band_files(read_product(folder), ("SCL", "B04"))[band] for band in ("SCL", "B04")]
    assert all(checked.knows(str(product.name), file.path, file.checksum) for file in files)
    image = files[1].path
    right = image.read_bytes()
    image.write_bytes(bytes([right[0] ^ 1]) + right[1:])
    assert downloader.download(product, ["B04"], checked) == len(right)
    assert read == [str(image)]
    assert downloader.download(product, ["B04"]) == 0  # without the memory
    assert len(read) == 4


@pytest.mark.parametrize("how", ["truncated", "other bytes", "missing"])
@pytest.mark.parametrize("role", ["SCL", "MTD_MSIL2A.xml", "manifest.safe"])
def test_a_wrong_file_is_fetched_again(connect, role: str, how: str) -> None:
    client = connect()
    downloader, product = client.downloader(), client.product()
    downloader.download(product, ["B04"])
    path = roles(client.folder / "imagery_raw")[role]
    right = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(right[:-10] if how == "truncated" else bytes([right[0] ^ 1]) + right[1:])
    client.sandbox.clear_requests()
    assert downloader.download(product, ["B04"]) == len(right)
    assert path.read_bytes() == right
    assert len(client.sandbox.byte_requests()) == 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault.close("B04", after=1000, times=2),
        Fault.corrupt("B04", at=17, times=2),
        Fault.error("B04", 200, "DAT", "an error that looks like success", times=2),
        Fault.html("B04", times=2),
        Fault.error("B04", 503, times=2),
        Fault.error("B04", 429, "DAT-ZIP-100", "Max session number exceeded", times=2),
        Fault.error("B04", 429, "DAT-ZIP-100", "Max session number exceeded", retry_after=0, times=2),
        Fault.close("manifest.safe", after=500, times=2),
    ],
    ids=lambda fault: f"{fault.path} {fault.status or ''}{fault.close_after or ''}{fault.corrupt_at or ''}",
)
def test_what_came_wrong_is_fetched_again(connect, archive: Path, fault: Fault) -> None:
    client = connect()
    client.sandbox.faults.add(fault)
    product = client.product()
    client.downloader().download(product, ["B04"])
    for role, path in roles(client.folder / "imagery_raw").items():
        original = roles(archive / product.name.folder)[role]
        assert hashlib.md5(path.read_bytes()).digest() == hashlib.md5(original.read_bytes()).digest()


@pytest.mark.parametrize("files", [("manifest.safe",), ("manifest.safe", "MTD_MSIL2A.xml"), ("MTD_MSIL2A.xml",)])
@pytest.mark.parametrize("is_twin", [True, False], ids=["a twin", "another day"])
def test_files_of_another_product_are_fetched_again(
    connect, archive: Path, files: tuple[str, ...], is_twin: bool
) -> None:
    """What one wrong answer of a server left; a twin's manifest fits by its names, and its metadata fit to it."""
    client = connect()
    names = sorted(path.name for path in archive.glob("*.SAFE"))
    sensed = [name[11:26] for name in names]
    own = next(name for name in names if sensed.count(name[11:26]) > 1)
    other = next(name for name in names if name != own and (name[11:26] == own[11:26]) == is_twin)
    product = next(found for found in map(client.product, range(len(names))) if found.name.folder == own)
    folder = client.folder / "imagery_raw" / own
    folder.mkdir(parents=True)
    for file in files:
        (folder / file).write_bytes((archive / other / file).read_bytes())
    if files == ("manifest.safe",) and is_twin:  # nothing in it names the twin; the task tries again
        with pytest.raises(ProductError, match=r"not the manifest.s|the manifest says") as caught:
            client.downloader().download(product, ["B04"])
        assert caught.value.step == Step.CONNECTION
    client.downloader().download(product, ["B04"])
    for path in roles(folder).values():
        assert path.read_bytes() == (archive / own / path.relative_to(folder)).read_bytes()
    assert set(roles(folder)) == FILES


def test_a_manifest_that_is_none_is_not_kept(connect) -> None:
    """An error page that comes with status 200, twice and then always."""
    client = connect()
    client.sandbox.faults.add(Fault.html("manifest.safe", times=2))
    client.downloader().download(client.product(0), ["B04"])
    client.sandbox.faults.add(Fault.html("manifest.safe"))
    with pytest.raises(ProductError, match=r"the file received as manifest\.safe"):
        client.downloader().download(client.product(1), ["B04"])
    assert not (client.folder / "imagery_raw" / client.product(1).name.folder / "manifest.safe").exists()


def test_what_stays_wrong_is_an_error_with_its_reason_and_leaves_nothing_half(connect) -> None:
    client = connect()
    client.sandbox.faults.add(Fault.corrupt("B04"))
    with pytest.raises(ProductError, match="is not the manifest's"):
        client.downloader().download(client.product(), ["B04"])
    assert set(roles(client.folder / "imagery_raw")) == FILES - {"B04"}


@pytest.mark.parametrize(
    ("fault", "reason", "tries"),
    [
        (Fault.error("B04", 404, "", "not found"), r"404.*deleted or replaced since the query", 1),
        (Fault.answer("B04", 404, '{"detail": "Product not found"}'), r"404.*deleted or replaced", 1),
        (Fault.html("B04", 404), "404.*deleted or replaced", 4),
        (Fault.html("B04", 403), "403", 4),
        (Fault.answer("B04", 403, '{"error": "WAF", "message": "Rate limit exceeded"}'), "403.*WAF", 4),
        (Fault.answer("B04", 408), "408", 4),
        (Fault.error("B04", 403, "DAT-ZIP-608", "forbidden"), "403", 1),
        (Fault.error("B04", 401, "DAT-ZIP-604", "no token"), "DAT-ZIP-604", 4),
        (Fault.answer("B04", 401, '{"detail": "Unauthorized"}'), "Unauthorized", 4),
        (Fault.error("B04", 422, "DAT-ZIP-111", "malformed"), "422", 1),
        (Fault.error("B04", 401, "DAT-ZIP-609", "wrong audience"), "DAT-ZIP-609", 1),
        (Fault.error("B04", 500, "", "boom"), "500.*boom", 4),
    ],
)
def test_final_answers_are_not_asked_again(connect, fault: Fault, reason: str, tries: int) -> None:
    client = connect()
    client.sandbox.faults.add(fault)
    with pytest.raises(ProductError, match=reason):
        client.downloader().download(client.product(), ["B04"])
    assert sum("_B04_" in name for name in values_asked(client)) == tries


# ------------------------------------------------------------------------------------------------ files on their way


def left_behind(client, content: bytes, owner: str) -> tuple[Path, Path]:
    """A download without B04, and what a process left of it; the image and the partial file."""
    product = client.product()
    client.downloader().download(product, ["B04"])
    image = roles(client.folder / "imagery_raw")["B04"]
    image.unlink()
    part = image.with_name(f".{image.name}.{owner}.part")
    part.write_bytes(content)
    client.sandbox.clear_requests()
    return image, part


def original(client, archive: Path) -> bytes:
    return roles(archive / client.product().name.folder)["B04"].read_bytes()


def dead_process() -> str:
    """``host.process.thread`` of a process that has ended."""
    process = multiprocessing.get_context("spawn").Process(target=int)
    process.start()
    process.join()
    return f"{socket.gethostname()}.{process.pid}.1"


def asked_for(client) -> list[tuple[str | None, int, int]]:
    return [(request.range, request.status, request.bytes) for request in client.sandbox.byte_requests()]


def test_what_a_killed_process_received_is_continued(connect, archive: Path) -> None:
    client = connect(ranges=True)
    whole, owner = original(client, archive), dead_process()
    size = len(whole)
    image, part = left_behind(client, whole[:1000], owner)
    assert client.downloader().download(client.product(), ["B04"]) == size - 1000
    assert asked_for(client) == [("bytes=1000-", 206, size - 1000)]
    assert image.read_bytes() == whole
    assert not part.exists()

    # What is not this file's beginning is found out by the checksum of the whole; then it comes from the start.
    image, part = left_behind(client, b"x" * 1000, owner)
    client.downloader().download(client.product(), ["B04"])
    assert asked_for(client) == [("bytes=1000-", 206, size - 1000), (None, 200, size)]
    assert image.read_bytes() == whole

    # A file that was whole when its process was killed only gets its name; a longer one is thrown away.
    for content, expected in ((whole, []), (whole + b"x", [(None, 200, size)])):
        image, part = left_behind(client, content, owner)
        client.downloader().download(client.product(), ["B04"])
        assert asked_for(client) == expected
        assert image.read_bytes() == whole
        assert not list(client.folder.rglob("*.part"))


@pytest.mark.parametrize("fault", [None, 416, 400, 403, 404, 501])
def test_a_server_that_gives_no_parts_is_asked_for_the_whole_file(connect, archive: Path, fault: int | None) -> None:
    client = connect()
    whole = original(client, archive)
    image, _ = left_behind(client, whole[:1000], dead_process())
    if fault is not None:
        client.sandbox.faults.add(Fault(path="B04", ranged=True, status=fault, times=1 if fault == 501 else None))
    client.downloader().download(client.product(), ["B04"])
    statuses = [status for _, status, _ in asked_for(client)]
    assert statuses == ([200] if fault is None else [fault, 200])
    assert image.read_bytes() == whole
    assert not list(client.folder.rglob("*.part"))


@pytest.mark.parametrize(
    "answer",
    [
        {"body": "x" * 1000, "headers": {"content-range": "bytes 0-999/5000"}},
        {"body": "x" * 1000, "headers": {"content-range": "bytes 1000-1999/99"}},
        {"body": "x", "headers": {}},
        {"body": "x", "headers": {"content-range": "nonsense"}},
        {"body": "x" * 9, "headers": {"content-range": "bytes 500-508/*"}},
    ],
)
def test_parts_that_were_not_asked_for_are_no_use(connect, archive: Path, answer: dict) -> None:
    client = connect(ranges=True)
    whole = original(client, archive)
    image, _ = left_behind(client, whole[:1000], dead_process())
    client.sandbox.faults.add(Fault(path="B04", ranged=True, status=206, **answer))
    client.downloader().download(client.product(), ["B04"])
    assert image.read_bytes() == whole


def test_a_file_that_changes_on_the_server_comes_from_the_start(connect, archive: Path, tmp_path: Path) -> None:
    """Its first part has an ETag; with If-Range the server sends the new file whole."""
    copy = tmp_path / "copy"
    shutil.copytree(archive, copy)
    client = connect(copy, ranges=True)
    path = roles(copy / client.product().name.folder)["B04"]

    client.sandbox.faults.add(Fault.close("B04", 1000, times=1))
    taken = threading.Event()

    def touch() -> None:
        until(lambda: any("B04" in request.path for request in client.sandbox.byte_requests()))
        os.utime(path)
        taken.set()

    watcher = threading.Thread(target=touch)
    watcher.start()
    client.downloader().download(client.product(), ["B04"])
    watcher.join()
    assert taken.is_set()
    assert roles(client.folder / "imagery_raw")["B04"].read_bytes() == path.read_bytes()


def test_a_connection_that_breaks_again_and_again_but_brings_something_is_no_failure(connect, archive: Path) -> None:
    """Twelve times a few hundred bytes, with four tries in all."""
    client = connect(ranges=True)
    whole = original(client, archive)
    step = len(whole) // 12
    client.sandbox.faults.add(Fault.close("B04", step))
    client.downloader().download(client.product(), ["B04"])
    received = [count for _, _, count in asked_for(client)][3:]
    assert len(received) >= 12
    assert sum(received) == len(whole)
    assert roles(client.folder / "imagery_raw")["B04"].read_bytes() == whole


def test_what_another_process_may_still_write_is_left_alone(connect, archive: Path) -> None:
    """One of this process, one of another host that was written a moment ago, and one that has rested for an hour."""
    client = connect(ranges=True)
    whole = original(client, archive)
    owners = {
        "parent": f"{socket.gethostname()}.{os.getppid()}.1",
        "away": "another.host.1.1",
        "rested": "another.host.2.1",
    }
    image, _ = left_behind(client, whole[:1000], owners["parent"])
    parts = {name: image.with_name(f".{image.name}.{owner}.part") for name, owner in owners.items()}
    for name in ("away", "rested"):
        parts[name].write_bytes(whole[:500])
    hour_ago = time.time() - 3600
    os.utime(parts["rested"], (hour_ago, hour_ago))
    outside = client.folder / "outside"
    outside.write_bytes(b"mine")
    link = image.with_name(f".{image.name}.{dead_process()}.part")
    link.symlink_to(outside)
    client.downloader().download(client.product(), ["B04"])
    assert asked_for(client)[0][0] == "bytes=500-"
    assert {name: part.exists() for name, part in parts.items()} == {"parent": True, "away": True, "rested": False}
    assert outside.read_bytes() == b"mine"
    assert image.read_bytes() == whole


def test_a_proxy_that_compresses_everything_is_no_obstacle(connect, archive: Path) -> None:
    for plan in ("gzip", "gzip-always"):
        client = connect(plans=[plan], ranges=True)
        client.downloader().download(client.product(), ["B04"])
        assert roles(client.folder / "imagery_raw")["B04"].read_bytes() == original(client, archive)
        assert {status for _, status, _ in asked_for(client)} == {200}
        shutil.rmtree(client.folder / "imagery_raw")


def test_a_token_that_expires_in_the_middle_is_renewed_without_a_login(connect) -> None:
    client = connect()
    downloader = client.downloader()
    downloader.download(client.product(0), ["B04"])
    client.sandbox.expire_access_tokens()
    downloader.download(client.product(1), ["B04"])
    assert (client.sandbox.logins, client.sandbox.renewals) == (1, 1)
    assert 401 in [request.status for request in client.sandbox.byte_requests()]


def test_a_redirect_between_cdses_hosts_keeps_the_token(connect) -> None:
    """The catalogue host answers byte requests with 301 to the download host, where plain clients lose their token."""
    client = connect()
    product = client.product()
    through_catalogue = client.downloader(road=ODataRoad(client.sandbox.catalogue_url, client.tokens))
    through_catalogue.download(product, ["B04"])
    statuses = {request.status for request in client.sandbox.requests if "/$value" in request.path}
    assert statuses == {301, 200}


def test_a_redirect_to_a_foreign_host_is_refused_and_no_token_goes_there(connect) -> None:
    client, foreign = connect(), connect()
    client.sandbox.faults.add(
        Fault.answer("manifest.safe", 302, headers={"location": f"{foreign.sandbox.download_url}/steal"})
    )
    with pytest.raises(ProductError, match="not one of its known hosts"):
        client.downloader().download(client.product(), ["B04"])
    assert foreign.sandbox.requests == []


def test_an_href_that_leaves_the_folder_is_refused(connect, archive: Path) -> None:
    client = connect()
    product = client.product()
    manifest = (archive / product.name.folder / "manifest.safe").read_text()
    evil = re.sub(r'href="\./GRANULE/', 'href="./../../GRANULE/', manifest)
    client.sandbox.faults.add(Fault.answer("manifest.safe", 200, evil, headers={"content-type": "application/xml"}))
    with pytest.raises(ProductError, match="outside the product"):
        client.downloader().download(product, ["B04"])
    assert list(client.folder.rglob("*.jp2")) == []


def test_a_file_larger_than_the_manifest_says_is_cut_off(connect, archive: Path) -> None:
    client = connect()
    product = client.product()
    manifest = (archive / product.name.folder / "manifest.safe").read_text()
    smaller = re.sub(r'size="\d+"', 'size="100"', manifest)
    client.sandbox.faults.add(Fault.answer("manifest.safe", 200, smaller, headers={"content-type": "application/xml"}))
    with pytest.raises(ProductError, match="more bytes were received"):
        client.downloader().download(product, ["B04"])


def test_no_token_or_password_is_in_any_message(connect, caplog: pytest.LogCaptureFixture) -> None:
    client = connect()
    token = client.tokens.token()
    client.sandbox.faults.add(
        Fault.answer("B04", 500, f"you sent Authorization: Bearer {token} password: sandbox-password")
    )
    with pytest.raises(ProductError) as caught:
        client.downloader().download(client.product(), ["B04"])
    seen = f"{caught.value} {caught.value.__cause__} {caplog.text}"
    assert token not in seen
    assert "sandbox-password" not in seen


def test_wrong_credentials_stop_a_download_at_once(connect) -> None:
    client = connect()
    client.sandbox.faults.add(Fault.answer("/token", 401, json.dumps({"error": "invalid_grant"})))
    with pytest.raises(InputError, match=r"CDSE refused this name with its password \(invalid_grant\)"):
        client.downloader().download(client.product(), ["B04"])
    assert client.sandbox.byte_requests() == []


def test_never_more_connections_than_slots_over_all_threads(connect) -> None:
    """The server allows one more and holds each connection a while: it never sees more than two, and refuses none."""
    client = connect(connections=3, bandwidth=60_000)
    downloader = client.downloader(connections=2)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: downloader.download(client.product(number), ["B04"]), range(6)))
    assert client.sandbox.connections_high_water == 2
    assert {request.status for request in client.sandbox.byte_requests()} == {200}


def _hold(folder: Path, taken: object) -> None:
    """Take a slot, say so, and keep it for as long as the process lives."""
    with Slots(folder, 2).taken():
        taken.put(True)  # type: ignore[attr-defined]
        threading.Event().wait()


def test_slots_hold_over_processes_and_come_free_when_one_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = multiprocessing.get_context("spawn")
    taken = context.Queue()
    processes = [context.Process(target=_hold, args=(tmp_path, taken), daemon=True) for _ in range(2)]
    for process in processes:
        process.start()
    for _ in processes:
        taken.get(timeout=DEADLINE)
    waits, entered, pause = threading.Semaphore(0), threading.Event(), time.sleep

    def sleep(seconds: float) -> None:
        waits.release()
        pause(seconds)

    monkeypatch.setattr(slots, "stopping", SimpleNamespace(pause=sleep))

    def third() -> None:
        with Slots(tmp_path, 2).taken():
            entered.set()

    thread = threading.Thread(target=third)
    thread.start()
    for _ in range(3):  # it has found no slot, three times
        assert waits.acquire(timeout=DEADLINE)
    assert not entered.is_set()
    processes[0].kill()
    assert entered.wait(DEADLINE)
    thread.join()
    processes[1].kill()
    for process in processes:
        process.join()


def test_an_unknown_address_is_refused_before_anything_is_sent(connect) -> None:
    client = connect()
    with pytest.raises(CdseError, match="not one of its known hosts"):
        Http((client.sandbox.catalogue_url,)).ask("GET", client.sandbox.download_url, auth=Bearer("t"))
    assert client.sandbox.requests == []
