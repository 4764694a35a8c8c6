"""Products that repeat one another: of one sensing time and tile, which are needed to cover what all of them show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby

from shapely import MultiPolygon, Polygon

from s2sr_core.geo import geometry
from s2sr_core.products.baselines import is_operational
from s2sr_core.products.names import ProductName
from s2sr_core.selection.candidates import Candidate
from s2sr_core.sources.source import ProductDescription

#: How far a footprint may stick out of another that is said to cover it, metres. Reprocessing moves the outline of
#: the same data by some tens of metres (geometric refinement) and draws it with other vertices.
COVER_TOLERANCE_M = 500.0


def preference(name: ProductName) -> tuple[str, float, str]:
    """Sort key of products of one sensing time and tile, the preferred one last.

    Baselines outside the operational series come first, whatever their number, which says nothing of age or quality;
    then operational baselines by number; discriminators by time decide within each.
    """
    baseline = name.baseline if is_operational(name.baseline) else ""
    return baseline, name.discriminator.timestamp(), str(name)


def without_repetitions[P: ProductDescription](candidates: Iterable[Candidate[P]]) -> list[Candidate[P]]:
    """Of one sensing time and tile, drop those whose footprint the preferred ones cover.

    Split pairs of two downlink stations hold different parts of a tile, so both stay. A product without a footprint
    covers nothing and is covered by nothing.
    """

    def key(candidate: Candidate[P]) -> tuple[str, str]:
        name = candidate.name
        return ("", "") if name is None else (name.sensing_time.isoformat(), name.tile)

    judged: list[Candidate[P]] = []
    for _, group in groupby(sorted(candidates, key=key), key):
        kept: list[ProductDescription] = []
        selected: list[tuple[P, Candidate[P]]] = []
        for candidate in group:
            if candidate.status == "selected" and candidate.product is not None:
                selected.append((candidate.product, candidate))
            else:
                judged.append(candidate)
        for product, candidate in sorted(selected, key=lambda pair: preference(pair[0].name), reverse=True):
            preferred = _covering(product, kept)
            if not preferred:
                kept.append(product)
                judged.append(candidate)
            else:
                same = all(name.baseline == product.name.baseline for name in preferred)
                verbs = "is preferred and covers it" if len(preferred) == 1 else "are preferred and cover it"
                reason = f"{' and '.join(map(str, preferred))} {verbs}"
                judged.append(replace(candidate, status="twin" if same else "duplicate", reason=reason))
    return judged


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
        if geometry.covers(geometry.union(covers), product.footprint, COVER_TOLERANCE_M):
            return names
    return []
