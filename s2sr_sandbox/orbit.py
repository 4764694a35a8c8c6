"""Which orbit a satellite was on: enough for plausible names, not for anything else."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

from s2sr_core.products.names import ProductName

#: 143 orbits repeat every 10 days (Sentinel-2 mission guide); the second satellite follows 5 days later.
ORBITS, CYCLE = 143, timedelta(days=10)
#: Degrees of longitude between neighbouring ground tracks; a swath is wider than two of them in the far north.
TRACK_SPACING = 360 / ORBITS

# Absolute orbits as two real products have them: S2A_MSIL2A_20230625T234621_N0509_R073_T01WCS_20230626T022157 and
# S2B_MSIL2A_20220413T150759_N0400_R025_T33XWJ_20220414T082126.
_KNOWN = {
    "S2A": (41826, datetime(2023, 6, 25, 23, 46, 21, tzinfo=UTC)),
    "S2B": (26649, datetime(2022, 4, 13, 15, 7, 59, tzinfo=UTC)),
}
# The known S2A orbit is R073 and passed about here at 69° N.
_KNOWN_RELATIVE, _KNOWN_LON = 73, -175.0


def absolute_orbit(name: ProductName) -> int:
    """The absolute orbit number of a product, in step with its relative orbit (S2A, S2B)."""
    number, at = _KNOWN.get(name.mission, _KNOWN["S2A"])
    estimate = number + round((name.sensing_time - at) / CYCLE * ORBITS)
    # S2A's relative orbit is (absolute + 2) mod 143 + 1, S2B's (absolute − 27) mod 143 + 1.
    start = -27 if name.mission == "S2B" else 2
    ahead = (name.relative_orbit - 1 - start - estimate) % ORBITS
    return estimate + (ahead if ahead <= ORBITS // 2 else ahead - ORBITS)


def relative_orbit(lon: float) -> int:
    """A relative orbit whose ground track passes near ``lon`` in the far north."""
    # The tracks of all orbits lie 360/143° apart, the next orbit's 10 such steps further west; 43 · 10 = 1 modulo 143.
    steps_west = round((_KNOWN_LON - lon) / TRACK_SPACING)
    return (_KNOWN_RELATIVE - 1 + 43 * steps_west) % ORBITS + 1


def mission_on(day: date) -> str:
    """The satellite that passes on ``day``: S2A in one half of the cycle, S2B in the other."""
    return "S2A" if (day - _KNOWN["S2A"][1].date()) % CYCLE < CYCLE / 2 else "S2B"


def sensing_time(lon: float, day: date) -> datetime:
    """Noon by the sun at ``lon`` on ``day``, which is when Sentinel-2 passes in the far north; UTC, to the second."""
    since_midnight = timedelta(hours=12 - lon / 15) % timedelta(days=1)
    return datetime.combine(day, time(), UTC) + timedelta(seconds=since_midnight // timedelta(seconds=1))
