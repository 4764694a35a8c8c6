"""Judging products: by name, by metadata, and against one another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from shapely import MultiPolygon, Polygon

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.errors import InputError, ProductError
from s2sr_core.geo import geometry
from s2sr_core.parameters import RunParameters
from s2sr_core.products.names import ProductName
from s2sr_core.products.safe import Product, find_products, read_product
from s2sr_core.selection.candidates import Candidate, Described, Status
from s2sr_core.selection.near_cells import CellsNear


def select_products(
    parameters: RunParameters, cells: Sequence[Gridcell], progress: Callable[[], None] = lambda: None
) -> list[Candidate[Product]]:
    """Every product below ``parameters.source``, judged, ordered by name; ``progress`` is called once for each.

    Raises
    ------
    InputError
        Where there is none at all.
    """
    near = CellsNear(cells)
    candidates: list[Candidate[Product]] = []
    copies: dict[str, Candidate[Product]] = {}
    for path in find_products(parameters.archive):
        copy = copies.get(path.name)
        if copy is None or copy.status == "failed":
            candidate = copies[path.name] = _judge(path, parameters, near)
        else:
            reason = f"the same product lies at {copy.path}"
            candidate = Candidate(copy.title, None, "duplicate", reason, name=copy.name, path=path)
        candidates.append(candidate)
        progress()
    if not candidates and parameters.source is None:
        raise InputError("stage", parameters.stage, f"finds no product in {parameters.archive}", "download some first")
    if not candidates:
        raise InputError("source", parameters.source, "holds no .SAFE product", "give the folder that holds them")
    if not parameters.keep_duplicates:
        candidates = without_repetitions(candidates)
    return sorted(candidates, key=lambda candidate: candidate.title)


def _judge(path: Path, parameters: RunParameters, near: CellsNear) -> Candidate[Product]:
    """One product by itself: name first, so that what the name rules out is not read."""
    title, name = path.name.removesuffix(".SAFE"), None
    try:
        name = ProductName.parse(path.name)
        if reason := ruled_out_by_name(name, parameters):
            return Candidate(title, None, "filtered", reason, name=name, path=path)
        product = read_product(path)
    except ProductError as error:
        return Candidate(title, None, "failed", error.reason, error.step, name, path)
    except OSError as error:
        return Candidate(title, None, "failed", f"cannot be read: {error}", "read", name, path)
    status, reason = judge(product, parameters, near)
    return Candidate(title, product, status, reason, name=name, path=path)


def judge(product: Described, parameters: RunParameters, near: CellsNear) -> tuple[Status, str]:
    """Whether a product counts by what is said of it beyond its name, and why not."""
    limit = parameters.max_cloud_cover
    if limit is not None and product.cloud_cover is not None and product.cloud_cover > limit:
        return "filtered", f"cloud cover {product.cloud_cover:.1f} % > {limit:g} %"
    if not near.any(product.footprint):
        return "no cell", "its footprint touches no selected gridcell"
    return "selected", ""


def ruled_out_by_name(name: ProductName, parameters: RunParameters) -> str:
    """Why the name alone leaves a product out; empty where it does not."""
    if not parameters.start <= name.sensing_time < parameters.end:
        return "sensing time outside start … end"
    if parameters.months is not None and name.sensing_time.month not in parameters.months:
        return f"month {name.sensing_time.month} not asked for"
    if parameters.tiles is not None and name.tile not in parameters.tiles:
        return f"tile {name.tile} not asked for"
    if parameters.min_baseline is not None and not name.is_user_made and name.baseline < parameters.min_baseline:
        return f"baseline {name.baseline} < {parameters.min_baseline}"
    return ""


def preference(name: ProductName) -> tuple[bool, str, float]:
    """Sort key of products of one sensing time and tile, the preferred one last.

    A user-made baseline comes first, then the baselines rise, then the discriminators.
    """
    return not name.is_user_made, name.baseline, name.discriminator.timestamp()


def without_repetitions[P: Described](candidates: Iterable[Candidate[P]]) -> list[Candidate[P]]:
    """Of one sensing time and tile, drop those whose footprint the preferred ones cover.

    Split pairs of two downlink stations hold different parts of a tile, so both stay. A product without a footprint
    covers nothing and is covered by nothing.
    """

    def key(candidate: Candidate[P]) -> tuple[str, str]:
        name = candidate.name
        return ("", "") if name is None else (name.sensing_time.isoformat(), name.tile)

    judged: list[Candidate[P]] = []
    for _, group in groupby(sorted(candidates, key=key), key):
        kept: list[Described] = []
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


def _covering(product: Described, kept: Sequence[Described]) -> list[ProductName]:
    """The best of ``kept`` that together cover ``product``; none where all of them do not."""
    if product.footprint is None:
        return []
    names: list[ProductName] = []
    covers: list[Polygon | MultiPolygon] = []
    for other in kept:
        if other.footprint is None or not other.footprint.intersects(product.footprint):
            continue
        names.append(other.name)
        covers.append(other.footprint)
        if geometry.covers(geometry.union(covers), product.footprint):
            return names
    return []
