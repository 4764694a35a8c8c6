"""S3 as the other road to the same bytes, the keys it needs, and the archive where it is mounted."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import shapely
from support.mount import mounted

from s2sr_core.account import ACCOUNT
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.errors import InputError, ProductError
from s2sr_core.products.names import ProductName
from s2sr_core.sources.cdse import slots
from s2sr_core.sources.cdse.client import road_of
from s2sr_core.sources.cdse.keys import S3Keys
from s2sr_core.sources.cdse.mounted import Mounted
from s2sr_core.sources.cdse.road import S3Road
from s2sr_core.sources.cdse.slots import REQUESTS_IN_WINDOW, Slots
from s2sr_core.sources.source import UnusableEntry, s3_path_of
from s2sr_sandbox.server import Fault

ID, SECRET = "AN0ACCESS0KEY", "a-secret/key+of=forty"
PAIR = f"aws_access_key_id = {ID}\naws_secret_access_key = {SECRET}\n"


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ACCOUNT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def private(path: Path, text: str, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=mode)
    path.chmod(mode)
    path.write_text(text)
    return path


def by_keys(client: Any, **changes: Any) -> Any:
    keys = replace(S3Keys("CDSE_S3_KEYS_FILE", client.sandbox.keys_file, "cdse"), **changes)
    return client.downloader(road=S3Road(client.sandbox.s3_url, keys))


# --------------------------------------------------------------------------------------------------------- downloads


def test_the_same_files_come_without_any_login(connect: Any, archive: Path) -> None:
    client = connect()
    product = client.product()
    size = by_keys(client).download(product, ["B04"])
    folder = client.folder / "imagery_raw" / product.name.folder
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sorted(path.suffix for path in files) == [".jp2", ".jp2", ".safe", ".xml"]
    assert size == sum(path.stat().st_size for path in files)
    for path in files:
        assert path.read_bytes() == (archive / path.relative_to(client.folder / "imagery_raw")).read_bytes()
    assert client.sandbox.logins == 0
    assert {request.host for request in client.sandbox.requests} == {"s3"}
    assert by_keys(client).download(product, ["B04"]) == 0


def test_what_broke_off_is_continued_and_a_busy_store_is_asked_again(connect: Any) -> None:
    client = connect()
    client.sandbox.faults.add(Fault.close(r"B04_20m", after=1000, times=1))
    client.sandbox.faults.add(Fault(path=r"manifest\.safe", host="s3", status=503, body="<Error>", times=2))
    by_keys(client).download(client.product(), ["B04"])
    ranges = [request.range for request in client.sandbox.byte_requests() if request.range]
    assert ranges == ["bytes=1000-"]


def test_keys_that_are_refused_end_the_run_and_are_not_shown(connect: Any, tmp_path: Path) -> None:
    client = connect()
    for number, (access, secret, code) in enumerate(
        [(ID, "sandbox-secret-key", "InvalidAccessKeyId"), ("SANDBOX0ACCESS0KEY", SECRET, "SignatureDoesNotMatch")]
    ):
        text = f"[cdse]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n"
        file = private(tmp_path / f"keys-{number}", text)
        with pytest.raises(InputError, match=rf"is refused by S3 \({code}\)") as caught:
            by_keys(client, file=file).download(client.product(), ["B04"])
        assert access not in str(caught.value)
        assert secret not in repr(caught.value.__context__)
    assert len(client.sandbox.requests) == 2


def test_what_concerns_one_product_is_its_own_failure(connect: Any, archive: Path) -> None:
    names = sorted(path.name for path in archive.iterdir())
    client = connect(forbidden={names[0]}, deleted={names[1]})
    with pytest.raises(ProductError, match="HTTP 403: AccessDenied: Access Denied"):
        by_keys(client).download(client.product(0), ["B04"])
    with pytest.raises(ProductError, match=r"HTTP 404: NoSuchKey.*deleted or replaced since the query"):
        by_keys(client).download(client.product(1), ["B04"])
    with pytest.raises(ProductError, match="names no path of it in S3"):
        by_keys(client).download(replace(client.product(2), s3_path=""), ["B04"])


def test_both_roads_share_the_connections_of_the_account(connect: Any) -> None:
    client = connect(connections=3, bandwidth=60_000)
    roads = [client.downloader(connections=2), replace(by_keys(client), slots=Slots(client.folder / "slots", 2))]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: roads[n % 2].download(client.product(n), ["B04"]), range(4)))
    assert client.sandbox.connections_high_water == 2


def test_no_minute_has_too_many_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock moves only while slots wait, so requests come as fast as they may."""
    now = [1_000_003.0]
    times: list[float] = []

    def pause(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(slots, "time", SimpleNamespace(time=lambda: now[0]))
    monkeypatch.setattr(slots, "stopping", SimpleNamespace(pause=pause, check=lambda: None))
    ours = Slots(tmp_path, 4)
    for _ in range(10 * REQUESTS_IN_WINDOW):
        with ours.taken():
            times.append(now[0])
    busiest = max(sum(start <= time < start + 60 for time in times) for start in set(times))
    assert 1500 < busiest <= 2000
    assert len(list(tmp_path.glob("requests-*"))) <= 3


# -------------------------------------------------------------------------------------------------------------- keys


@pytest.mark.parametrize(
    ("environment", "files", "for_cdse_alone", "everywhere"),
    [
        ({}, {}, None, None),
        ({"CDSE_S3_ACCESS_KEY": ID, "CDSE_S3_SECRET_KEY": SECRET}, {}, ID, ID),
        ({"CDSE_S3_KEYS_FILE": "~/keys"}, {"keys": f"[default]\n{PAIR}"}, ID, ID),
        ({}, {".aws/credentials": f"[default]\naws_access_key_id = other\n[cdse]\n{PAIR}"}, ID, ID),
        ({}, {".aws/credentials": f"[default]\n{PAIR}"}, None, ID),
        ({"AWS_PROFILE": "mine"}, {".aws/credentials": f"[default]\n[mine]\n{PAIR}"}, None, ID),
        ({"AWS_ACCESS_KEY_ID": ID, "AWS_SECRET_ACCESS_KEY": SECRET}, {}, None, ID),
    ],
)
def test_where_keys_are_found(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    files: dict[str, str],
    for_cdse_alone: str | None,
    everywhere: str | None,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for name, text in files.items():
        private(tmp_path / "home" / name, text)
    for found, expected in (
        (S3Keys.from_environment(for_cdse_alone=True), for_cdse_alone),
        (S3Keys.from_environment(), everywhere),
    ):
        assert (None if found is None else found.identity) == expected
        if found is not None:
            assert found.read().secret_key == SECRET
            assert SECRET not in repr(found)
    assert road_of("auto") == ("odata" if for_cdse_alone is None else "s3")
    assert (road_of("odata"), road_of("s3")) == ("odata", "s3")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda _file: None, r"^CDSE_S3_KEYS_FILE = '.*keys': cannot be read \(No such file"),
        (lambda file: private(file, f"[cdse]\n{PAIR}", 0o644), r"can be read or changed by others \(mode 0644\)"),
        (lambda file: private(file, PAIR), "is not a file of keys"),
        (lambda file: private(file, "[cdse]\naws_access_key_id = x\n"), "lacks a usable aws_secret_access_key"),
        (lambda file: private(file, f"[other]\n{PAIR}"), "lacks a usable aws_access_key_id"),
        (lambda file: private(file, f"[cdse]\n{PAIR}".replace(SECRET, "a\tb")), "lacks a usable aws_secret"),
    ],
)
def test_a_file_that_is_no_file_of_keys_is_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object], sentence: str
) -> None:
    change(tmp_path / "keys")
    monkeypatch.setenv("CDSE_S3_KEYS_FILE", str(tmp_path / "keys"))
    with pytest.raises(InputError, match=sentence) as caught:
        S3Keys.needed()
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in str(error)
        error = error.__context__


@pytest.mark.parametrize("text", [f"[default]\n{PAIR}", "{not: keys}", "\x00"])
def test_a_file_of_another_service_is_no_business_of_ours(tmp_path: Path, text: str) -> None:
    """Others may read it, or it may be anything: nothing of it is used."""
    private(tmp_path / "home" / ".aws" / "credentials", text, 0o644)
    assert road_of("auto") == "odata"


def test_keys_for_cdse_that_others_can_read_are_not_used_in_silence(tmp_path: Path) -> None:
    private(tmp_path / "home" / ".aws" / "credentials", f"[cdse]\n{PAIR}", 0o644)
    with pytest.raises(InputError, match=r"^AWS_SHARED_CREDENTIALS_FILE = .*can be read or changed by others"):
        road_of("auto")


def test_without_keys_the_remedy_is_said() -> None:
    with pytest.raises(InputError, match=r"^CDSE_S3_KEYS_FILE = '': is not set, and S3 wants keys; make keys at"):
        S3Keys.needed()


# ------------------------------------------------------------------------------------------------------------- paths

NAME = "S2A_MSIL2A_20190615T220531_N0212_R072_T05WPM_20190616T010732.SAFE"


@pytest.mark.parametrize(
    ("path", "is_usable"),
    [
        (f"/eodata/Sentinel-2/MSI/L2A/2019/06/15/{NAME}", True),
        (f"/eodata/{NAME}", True),
        (f"/eodata/../../etc/{NAME}", False),
        (f"/eodata/./{NAME}", False),
        (f"eodata/Sentinel-2/{NAME}", False),
        (f"/eodata//{NAME}", False),
        (f"/eodata/a?b=c/{NAME}", False),
        (f"/eodata/a b/{NAME}", False),
        (f"/eodata/a/{NAME}/", False),
        ("/eodata/a/S2B_other.SAFE", False),
        ("/eodata/" + "a" * 300 + f"/{NAME}", False),
        (None, False),
        (7, False),
    ],
)
def test_a_path_of_the_catalogue_leads_to_its_product_or_nowhere(path: object, is_usable: bool) -> None:
    assert s3_path_of(ProductName.parse(NAME), path) == (path if is_usable else "")


# ------------------------------------------------------------------------------------------------------------- mount


def test_a_mount_is_read_in_place(connect: Any, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Products are where the catalogue says, and one that is not there says so."""
    client = connect()
    entries = sorted(client.sandbox.catalogue, key=lambda entry: entry.name)
    mount = mounted(entries[1:], archive, tmp_path / "eodata")
    monkeypatch.setenv("S2SR_CATALOGUE_URL", client.sandbox.catalogue_url)
    source = Mounted(mount)
    source.check("all")
    cell = Gridcell("a", shapely.box(-149.61, 68.62, -149.59, 68.64))
    found = {}
    for each in source.find([cell], datetime(2015, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)):
        assert not isinstance(each, UnusableEntry)
        found[each.title] = each
    missing, *others = (found[entry.name.removesuffix(".SAFE")] for entry in entries)
    with pytest.raises(ProductError, match=r"is not there: .*/eodata/Sentinel-2/MSI/L2A"):
        missing.describe()
    for each in others:
        product = each.describe()
        assert source.open(product) is product
        assert product.path == each.path
    assert client.sandbox.byte_requests() == []


def test_a_mount_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"^access = 'mount': finds no folder Sentinel-2 in .*; mount the bucket there"
    ):
        Mounted(tmp_path).check("all")
