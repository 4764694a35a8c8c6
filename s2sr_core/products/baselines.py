"""Processing baselines: which are of ESA's operational series, and the radiometric offset that one implies.

From 04.00 on, 1000 is added to the DN of every band (PSD 14.8, BOA_ADD_OFFSET), so −1000 harmonises them.
"""

from __future__ import annotations

#: Baselines of products made by a user's own Sen2Cor: they say nothing of the processing.
_USER_MADE = frozenset({"00.01", "99.99"})
_FIRST_WITH_OFFSET = "04.00"
_OFFSET = -1000


def is_operational(baseline: str) -> bool:
    """Whether ``baseline`` (``05.09``) is of the operational series, so that a higher number is later processing."""
    return baseline not in _USER_MADE


def implied_offset(baseline: str) -> int | None:
    """DN to add to harmonise a product of ``baseline``: 0 or −1000; None if the baseline does not tell."""
    if not is_operational(baseline):
        return None
    return _OFFSET if baseline >= _FIRST_WITH_OFFSET else 0
