"""``python -m s2sr_core.sandbox``: make a small archive of Sentinel-2 L2A products whose truth is known."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from s2sr_core.errors import InputError
from s2sr_core.sandbox.archive import make_archive
from s2sr_core.sandbox.grid import FULL_SIZE, Grid
from s2sr_core.sandbox.landscape import BANDS
from s2sr_core.sandbox.products import BANDS_20M

_TOOLIK = (-149.6, 68.63)  # Toolik Lake, Alaska


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; gives the exit code, 2 for bad input."""
    given = _parser().parse_args(arguments)
    try:
        size = FULL_SIZE if given.full else given.size
        lon, lat = given.centre
        grid = Grid.covering(*given.bbox) if given.bbox else Grid.utm(lon, lat, size)
        products = make_archive(given.out, grid, dates=given.dates, seed=given.seed, bands=given.bands)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    total = sum(file.stat().st_size for product in products for file in product.rglob("*") if file.is_file())
    print(f"{given.out}: {len(products)} products, {total} bytes")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m s2sr_core.sandbox",
        description="Make a small archive of Sentinel-2 L2A products (.SAFE) over a made-up Arctic landscape: dates on "
        "both sides of baseline 04.00 under different clouds, one reprocessed duplicate, one granule on the edge of "
        "the swath, one split pair, one pair of twins.",
        epilog="The same options make the same bytes. A box settles the size: --size and --full go with --centre.",
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="folder for the products")
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
        help="default: Toolik Lake, {:g} {:g}".format(*_TOOLIK),
    )
    add("--size", type=int, default=800, metavar="PX", help="rows and columns of 20 m; default: %(default)s")
    add("--full", action="store_true", help=f"a full granule, {FULL_SIZE} x {FULL_SIZE} pixels")
    add("--dates", type=int, default=6, metavar="N", help="how many sensing times; default: %(default)s")
    add(
        "--seed",
        type=int,
        default=0,
        metavar="S",
        help="another seed, another landscape and other skies; default: %(default)s",
    )
    add("--bands", nargs="+", choices=BANDS, default=BANDS_20M, metavar="BAND", help=f"default: {' '.join(BANDS_20M)}")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
