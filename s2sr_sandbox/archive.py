"""A small archive of products around one place: what a search at CDSE for a season finds, oddities included."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

from s2sr_core.errors import InputError
from s2sr_core.products.names import ProductName
from s2sr_sandbox.grid import Grid, mgrs_tile
from s2sr_sandbox.landscape import Landscape
from s2sr_sandbox.orbit import TRACK_SPACING, mission_on, relative_orbit, sensing_time
from s2sr_sandbox.products import BANDS_20M, make_product
from s2sr_sandbox.sky import Sky
from s2sr_sandbox.swath import WHOLE, Swath

# First day of sensing in each baseline: https://documentation.dataspace.copernicus.eu/Data/Others/Sentinel2_L2A_baseline.html
# and the L1C page next to it; approximate before 02.14 and for 05.11.
_BASELINES = (
    (date(2018, 11, 21), "02.11"),
    (date(2019, 5, 6), "02.12"),
    (date(2019, 7, 8), "02.13"),
    (date(2020, 2, 4), "02.14"),
    (date(2021, 3, 30), "03.00"),
    (date(2021, 6, 30), "03.01"),
    (date(2022, 1, 25), "04.00"),
    (date(2022, 12, 6), "05.09"),
    (date(2023, 12, 13), "05.10"),
    (date(2024, 7, 23), "05.11"),
)
# The baseline of Collection 1, in which the whole archive was processed again.
_COLLECTION_1 = "05.00"

# A pass every fifth day of a summer; the first of 2019 is one of S2A's days on R072, as that of 2023 four years later.
_PASSES = tuple(
    tuple(date(year, 6, 26) + timedelta(days=5 * n) for n in range(13)) for year in (2019, 2022, 2023, 2024)
)
_CLOUDINESS = (0.10, 0.35, 0.20, 0.55, 0.15, 0.30, 0.80)
_HAZE = (0.004, 0.010, 0.002, 0.014, 0.006)
# On which of three neighbouring ground tracks the satellite passes: the place's own, the next in the east, in the west.
_TRACKS = (0, 1, -1)
_SNOW = {6: 0.012, 7: 0.005, 8: 0.002}


@dataclass(frozen=True)
class Acquisition:
    """One product to be made: its name, the sky at its sensing time and the part of the granule that it holds."""

    name: ProductName
    sky: Sky
    swath: Swath = WHOLE


def summer_dates(count: int) -> list[date]:
    """``count`` days of summer (1 … 26): half of them in 2019, half in 2022 to 2024, from baseline 04.00 on.

    Raises
    ------
    InputError
        If there are not that many.
    """
    early, late = _PASSES[0], [day for season in _PASSES[1:] for day in season]
    if not 1 <= count <= 2 * len(early):
        raise InputError(
            "dates", count, "is more than the number of passes, or less than 1", f"give 1 to {2 * len(early)}"
        )
    half = (count + 1) // 2
    return [*_spread(early, half), *_spread(late, count - half)]


def acquisitions(lon: float, tile: str, dates: Sequence[date], seed: int = 0) -> list[Acquisition]:
    """The products of an archive, one or two for each of ``dates``; ``lon`` decides the orbits and the time of day.

    The dates come from three neighbouring orbits in turn, so that the place is seen from both sides, under more or less
    haze. Snow melts from June to August.

    The second date has a reprocessed duplicate (Collection 1), the third is on the edge of the swath, the fourth is a
    split pair (two stations, complementary parts), the fifth are twins (discriminators one second apart).
    """
    return [made for number, day in enumerate(dates) for made in _on(day, number, lon, tile, seed)]


def make_archive(
    folder: Path,
    grid: Grid,
    *,
    tile: str | None = None,
    dates: Sequence[date] | int = 6,
    seed: int = 0,
    bands: Sequence[str] = BANDS_20M,
) -> list[Path]:
    """Make an archive of products in ``folder``; returns the .SAFE folders in the order in which they were made.

    Parameters
    ----------
    grid:
        The granule's grid: ``Grid.utm`` or ``Grid.covering``.
    tile:
        MGRS tile without the T for the names; the one at the grid's centre unless given.
    dates:
        The days of sensing, or how many of ``summer_dates``.
    seed:
        0 or more; the same seed makes the same bytes.

    Raises
    ------
    InputError
        If there are not that many dates, or the seed is negative.
    """
    if seed < 0:
        raise InputError("seed", seed, "is negative", "give 0 or more")
    days = summer_dates(dates) if isinstance(dates, int) else dates
    landscape = Landscape(seed)
    lon, lat = grid.centre
    return [
        make_product(folder, made.name, grid, landscape, made.sky, bands=bands, swath=made.swath)
        for made in acquisitions(lon, tile or mgrs_tile(lon, lat), days, seed)
    ]


def _on(day: date, number: int, lon: float, tile: str, seed: int) -> Iterator[Acquisition]:
    """The products of the archive's date ``number``."""
    track = lon + TRACK_SPACING * _TRACKS[number % len(_TRACKS)]
    sensed = sensing_time(track, day)
    published = sensed + timedelta(hours=4, minutes=11, seconds=7)
    name = ProductName(mission_on(day), sensed, _baseline_on(day), relative_orbit(track), tile, published)
    sky = Sky(
        1_000 * seed + number + 1,
        _CLOUDINESS[number % len(_CLOUDINESS)],
        snow=_SNOW.get(day.month, 0.005),
        haze=_HAZE[number % len(_HAZE)],
        track=track,
    )
    whole = Acquisition(name, sky)
    match number:
        case 1:
            again = replace(name, baseline=_COLLECTION_1, discriminator=published + timedelta(days=1_430))
            yield from (whole, replace(whole, name=again))
        case 2:
            yield replace(whole, swath=Swath(across=(0.45, 1.0)))
        case 3:
            other = replace(name, discriminator=published + timedelta(hours=3, minutes=2, seconds=20))
            yield replace(whole, swath=Swath(along=(0.0, 0.55)))
            yield replace(whole, name=other, swath=Swath(along=(0.55, 1.0)))
        case 4:
            twin = replace(name, discriminator=published + timedelta(seconds=1))
            yield from (whole, replace(whole, name=twin))
        case _:
            yield whole


def _baseline_on(day: date) -> str:
    """The baseline in which products of ``day`` were first published; before the first known baseline, that one."""
    return max((baseline for first, baseline in _BASELINES if first <= day), default=_BASELINES[0][1])


def _spread(days: Sequence[date], count: int) -> list[date]:
    """``count`` of ``days``, evenly spread."""
    return [days[(2 * n + 1) * len(days) // (2 * count)] for n in range(count)]
