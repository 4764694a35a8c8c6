"""Processing baselines: which are of ESA's operational series, and the radiometric offset that one implies.

From 04.00 on, 1000 is added to the DN of every band (PSD 14.8, BOA_ADD_OFFSET), so −1000 harmonises them.
"""

from __future__ import annotations

#: The series (the part before the point) in which ESA has published Level-2A, 02 to 05, and the next one to come
#: (docs/design-decisions.md, "The operational series"). Any other number is that of somebody's own Sen2Cor (00.01,
#: 99.99) or of a validation run, and says nothing of age, quality or offset.
_OPERATIONAL_SERIES = frozenset({"02", "03", "04", "05", "06"})
_FIRST_WITH_OFFSET = "04.00"
#: From this one on (February 2026), the headers of images list how long each JPEG 2000 tile is (TLM).
_FIRST_WITH_TILE_LENGTHS = "05.12"
_OFFSET = -1000


def is_operational(baseline: str) -> bool:
    """Whether ``baseline`` (``05.09``) is of the operational series, so that a higher number is later processing."""
    return baseline[:2] in _OPERATIONAL_SERIES


def lists_tiles(baseline: str) -> bool:
    """Whether the images of products of ``baseline`` say in their headers where their JPEG 2000 tiles are."""
    return is_operational(baseline) and baseline >= _FIRST_WITH_TILE_LENGTHS


def implied_offset(baseline: str) -> int | None:
    """DN to add to harmonise a product of ``baseline``: 0 or −1000; None if that is not operational."""
    if not is_operational(baseline):
        return None
    return _OFFSET if baseline >= _FIRST_WITH_OFFSET else 0
