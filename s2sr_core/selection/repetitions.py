"""Products that repeat one another, as far as footprints tell: a first guess, before any SCL is looked at."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import shapely
from shapely import MultiPolygon, Polygon

from s2sr_core.geo import geometry
from s2sr_core.products.baselines import is_operational
from s2sr_core.products.names import ProductName
from s2sr_core.scenes.coverage import OUTLINE_TOLERANCE_M
from s2sr_core.selection.candidates import Candidate, Status
from s2sr_core.sources.source import ProductDescription


def preference(name: ProductName) -> tuple[str, float, str]:
    """Sort key of products of one sensing time and tile, the preferred one last.

    Baselines outside the operational series come first, whatever their number, which says nothing of age or quality;
    then operational baselines by number; discriminators by time decide within each.
    """
    baseline = name.baseline if is_operational(name.baseline) else ""
    return baseline, name.discriminator.timestamp(), str(name)


def observation_key(candidate: Candidate[Any]) -> str:
    """Sensing time and tile: products that share them show the same observation, or parts of it."""
    return "" if candidate.name is None else candidate.name.observation


def without_repetitions[P: ProductDescription](candidates: Iterable[Candidate[P]]) -> list[Candidate[P]]:
    """Of one sensing time and tile, drop those whose footprint the preferred ones cover.

    Split pairs of two downlink stations hold different parts of a tile, so both stay. A product without a footprint
    covers nothing and is covered by nothing. What is dropped keeps its description: phase 1 decides by the images
    (:mod:`s2sr_core.selection.observations`).
    """
    groups: defaultdict[str, list[Candidate[P]]] = defaultdict(list)
    for candidate in candidates:
        groups[observation_key(candidate)].append(candidate)
    lines = {key: _line(group) for key, group in groups.items() if len(group) > 1}
    repeats_first = iter(_repeats_first(lines.values()))
    judged: list[Candidate[P]] = []
    for key, group in groups.items():
        if key not in lines:
            judged += group
            continue
        judged += [candidate for candidate in group if candidate.status != "selected" or candidate.product is None]
        kept: list[P] = []
        for product, candidate in lines[key]:
            is_repeated = bool(kept) and next(repeats_first)
            preferred = [kept[0].name] if is_repeated else _covering(product, kept)
            if not preferred:
                kept.append(product)
                judged.append(candidate)
            else:
                status, reason = repetition(product.name, preferred)
                judged.append(replace(candidate, status=status, reason=reason))
    return judged


def _line[P: ProductDescription](group: Iterable[Candidate[P]]) -> list[tuple[P, Candidate[P]]]:
    """The products of one observation that count so far, the preferred one first."""
    line = [(each.product, each) for each in group if each.status == "selected" and each.product is not None]
    return sorted(line, key=lambda pair: preference(pair[0].name), reverse=True)


def _repeats_first(lines: Iterable[Sequence[tuple[ProductDescription, Any]]]) -> list[bool]:
    """Of all but the first product of each line, in their order: whether the first one, which stays, covers it alone.

    That is how nearly all repetitions end, and all of them are compared at once.
    """
    pairs = [(line[0][0].footprint, other.footprint) for line in lines for other, _ in line[1:]]
    repeats = np.zeros(len(pairs), bool)
    firsts, others = np.array(pairs, object).reshape(-1, 2).T
    met = np.flatnonzero(shapely.intersects(firsts, others))  # none of those without a footprint
    repeats[met] = geometry.covers_each(firsts[met].tolist(), others[met].tolist(), OUTLINE_TOLERANCE_M)
    return repeats.tolist()


def repetition(name: ProductName, preferred: Sequence[ProductName]) -> tuple[Status, str]:
    """Status and reason of a product that ``preferred`` ones repeat."""
    same = all(other.baseline == name.baseline for other in preferred)
    verbs = "is preferred and covers it" if len(preferred) == 1 else "are preferred and cover it"
    return "twin" if same else "duplicate", f"{' and '.join(map(str, preferred))} {verbs}"


def _covering(product: ProductDescription, kept: Sequence[ProductDescription]) -> list[ProductName]:
    """The best of ``kept`` that together cover ``product``; none if not even all of them do."""
    if product.footprint is None:
        return []
    names: list[ProductName] = []
    covers: list[Polygon | MultiPolygon] = []
    for other in kept:
        if other.footprint is None or not other.footprint.intersects(product.footprint):
            continue
        names.append(other.name)
        covers.append(other.footprint)
        if geometry.covers(geometry.union(covers), product.footprint, OUTLINE_TOLERANCE_M):
            return names
    return []
