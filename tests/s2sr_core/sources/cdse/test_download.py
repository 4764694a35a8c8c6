from __future__ import annotations

import hashlib
import json
import multiprocessing
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.waiting import DEADLINE

from s2sr_core.errors import InputError, ProductError, Step
from s2sr_core.sources.cdse import slots
from s2sr_core.sources.cdse.http import CdseError, Http
from s2sr_core.sources.cdse.slots import Slots
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
        (Fault.error("B04", 403, "DAT-ZIP-608", "forbidden"), "403", 1),
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


def test_what_a_killed_download_left_is_cleared_away(connect) -> None:
    client = connect()
    downloader, product = client.downloader(), client.product()
    downloader.download(product, ["B04"])
    left = roles(client.folder / "imagery_raw")["B04"].with_name(".x.jp2.host.1.1.part")
    left.write_bytes(b"half")
    downloader.download(product, ["B04"])
    assert not left.exists()


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
    through_catalogue = replace(client.downloader(), url=client.sandbox.catalogue_url)
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
    with pytest.raises(InputError, match="CDSE refused"):
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
        Http((client.sandbox.catalogue_url,)).request("GET", client.sandbox.download_url, token="t")
    assert client.sandbox.requests == []
