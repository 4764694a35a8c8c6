"""``python -m s2sr_sandbox``: make Sentinel-2 L2A products whose truth is known, and serve them."""

from __future__ import annotations

from s2sr_core.import_path import leave_out_current_folder
from s2sr_core.installation import require_gdal

if __name__ == "__main__":  # before anything is imported that may lie in the current folder, or needs GDAL
    leave_out_current_folder()
    require_gdal("sandbox")

import argparse
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from pydantic import ValidationError

from s2sr_core.errors import InputError
from s2sr_core.validation import input_error
from s2sr_sandbox.archive import make_archive
from s2sr_sandbox.grid import FULL_SIZE, Grid
from s2sr_sandbox.landscape import BANDS
from s2sr_sandbox.products import BANDS_20M
from s2sr_sandbox.server import PLANS, SandboxSettings, running
from s2sr_sandbox.server.fault_plans import check_plans, described_plans

_TOOLIK = (-149.6, 68.63)  # Toolik Lake, Alaska
# Folder of the products that are made to be served, unless --out names another.
_OUT = Path("sandbox-cdse")


# Options of the server alone; each is named as the setting that it changes.
_SERVER_OPTIONS = (
    "identity_port",
    "catalogue_port",
    "download_port",
    "s3_port",
    "connections",
    "access_token_seconds",
    "refresh_token_seconds",
    "bandwidth",
    "request_log",
    "proxy",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code, 2 for bad input."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        if "list" in given.fault:
            print(described_plans())
            return 0
        if given.folder is not None and given.out is not None:
            parser.error("--out and --folder exclude each other")
        if given.folder is None and given.out is None:
            given.out, given.serve = _OUT, True
        settings = _settings(given)
        if given.folder is None:
            _make(given)
        if settings is not None:
            _serve(given.folder or given.out, settings, given.fault)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _make(given: argparse.Namespace) -> None:
    """Make the archive and print its size."""
    lon, lat = given.centre
    if given.bbox:
        grid = Grid.covering(*given.bbox)
    else:
        grid = Grid.granule(lon, lat) if given.full else Grid.utm(lon, lat, given.size)
    products = make_archive(given.out, grid, dates=given.dates, seed=given.seed, bands=given.bands)
    total = sum(file.stat().st_size for product in products for file in product.rglob("*") if file.is_file())
    print(f"{given.out}: {len(products)} products, {total} bytes", flush=True)


def _settings(given: argparse.Namespace) -> SandboxSettings | None:
    """The server's settings; None if no server is wanted."""
    check_plans(given.fault)
    options = {name: value for name in ("folder", *_SERVER_OPTIONS) if (value := getattr(given, name)) is not None}
    if not given.serve:
        if given.fault:
            options["fault"] = " ".join(given.fault)
        for field, value in options.items():
            raise InputError(field, value, "has no effect without --serve", "add --serve, or leave it out")
        return None
    options.pop("folder", None)
    try:
        return SandboxSettings(**options)
    except ValidationError as error:
        raise input_error(SandboxSettings, error) from error


def _serve(folder: Path, settings: SandboxSettings, plans: Sequence[str]) -> None:
    """Serve the products in ``folder`` until Ctrl-C or SIGTERM."""
    stopped = threading.Event()
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with running(folder, settings, plans=plans) as sandbox:
            for name, value in (sandbox.environment() | sandbox.proxy_environment()).items():
                print(f"export {name}={shlex.quote(value)}")
            print(f"# with --access s3: export CDSE_S3_KEYS_FILE={shlex.quote(str(sandbox.keys_file))}")
            for name in plans:
                print(f"# fault {name}: {PLANS[name].description}")
            print(f"# {len(sandbox.catalogue)} products of {folder} on loopback; Ctrl-C stops the server.", flush=True)
            stopped.wait()
    except KeyboardInterrupt:
        return
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m s2sr_sandbox",
        description="Make a small archive of Sentinel-2 L2A products (.SAFE) over a made-up Arctic landscape: dates on "
        "both sides of baseline 04.00 under different clouds, one reprocessed duplicate, one granule on the edge of "
        "the swath, one split pair, one pair of twins. With --serve, also serve them as Copernicus Data Space would.",
        epilog="The same options make the same bytes. --bbox decides the size; --size and --full are for --centre.",
    )
    add = parser.add_argument
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help=f"folder for the products; without --out and --folder they are written to {_OUT} and served",
    )
    add(
        "--bbox",
        type=float,
        nargs=4,
        metavar=("XMIN", "YMIN", "XMAX", "YMAX"),
        help="make the granule cover this box, degrees",
    )
    add(
        "--centre",
        type=float,
        nargs=2,
        default=_TOOLIK,
        metavar=("LON", "LAT"),
        help="centre of the granule, degrees; default: Toolik Lake, {:g} {:g}".format(*_TOOLIK),
    )
    add("--size", type=int, default=800, metavar="PX", help="rows and columns, in pixels of 20 m; default: %(default)s")
    add(
        "--full",
        action="store_true",
        help=f"make the centre's full granule, {FULL_SIZE} x {FULL_SIZE} pixels",
    )
    add("--dates", type=int, default=6, metavar="N", help="number of sensing times; default: %(default)s")
    add(
        "--seed",
        type=int,
        default=0,
        metavar="S",
        help="number that decides landscape and skies; default: %(default)s",
    )
    add(
        "--bands",
        nargs="+",
        choices=BANDS,
        default=BANDS_20M,
        metavar="BAND",
        help=f"bands to make; default: {' '.join(BANDS_20M)}",
    )
    _add_server_options(parser)
    return parser


def _add_server_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("serving", "Serve the products on loopback, as Copernicus Data Space would.")
    add = group.add_argument
    add("--serve", action="store_true", help="print the variables to export, then serve until Ctrl-C")
    add("--folder", type=Path, metavar="DIR", help="serve the existing products in DIR; make none")
    for host in ("identity", "catalogue", "download", "s3"):
        add(f"--{host}-port", metavar="PORT", help=f"port of the {host} host; default: any free port")
    add("--connections", metavar="N", help="most downloads of the account at once; default: 4")
    add(
        "--token-seconds",
        dest="access_token_seconds",
        metavar="S",
        help="lifetime of an access token, seconds; default: 600",
    )
    add(
        "--refresh-seconds",
        dest="refresh_token_seconds",
        metavar="S",
        help="lifetime of a session, seconds; default: 3600",
    )
    add("--bandwidth", metavar="B", help="bytes per second of each connection; default: unlimited")
    add("--request-log", metavar="FILE", help="append each request to FILE as a line of JSON")
    add(
        "--fault",
        action="append",
        default=[],
        metavar="NAME",
        help="let something go wrong that clients have met at CDSE; can be repeated; 'list' prints the names",
    )
    add(
        "--proxy",
        action="store_true",
        default=None,
        help="also start an HTTPS proxy that stands in for CDSE's own hosts, for clients with fixed host names",
    )


if __name__ == "__main__":
    raise SystemExit(main())
