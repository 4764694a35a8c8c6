"""Products that repeat one another, as far as footprints tell: a first guess, before any SCL is looked at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

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
    judged: list[Candidate[P]] = []
    for _, group in groupby(sorted(candidates, key=observation_key), observation_key):
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
                status, reason = repetition(product.name, preferred)
                judged.append(replace(candidate, status=status, reason=reason))
    return judged


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
