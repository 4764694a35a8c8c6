"""Which of the products that a source has count: judged by name, by description, and against one another."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import batched
from operator import attrgetter
from typing import Any

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.errors import OtherKindError, ProductError, Step
from s2sr_core.garbage import seldom_collected
from s2sr_core.parameters import RunParameters
from s2sr_core.products.bands import SCL
from s2sr_core.products.baselines import is_operational
from s2sr_core.products.names import ProductName
from s2sr_core.products.tiles import outline_of
from s2sr_core.selection.candidates import Candidate
from s2sr_core.selection.near_cells import CellsNear
from s2sr_core.selection.repetitions import without_repetitions
from s2sr_core.sources.source import FoundProduct, ProductDescription, Source, UnusableEntry

#: Products that are judged together.
_BATCH = 1000


@seldom_collected()
def find_products[P: ProductDescription](
    source: Source[P],
    parameters: RunParameters,
    cells: Sequence[Gridcell],
    progress: Callable[[], None] = lambda: None,
) -> list[Candidate[P]]:
    """Every product that ``source`` has for the cells and the window, judged, by name.

    ``progress`` is called once for each. Of several copies of one product on disk, the most complete one that can be
    used counts. A product that cannot be had is left out before the preferred ones of each sensing time are chosen, so
    that another takes its place.

    Raises
    ------
    InputError, SourceError
        If the source holds nothing at all, or cannot be asked.
    """
    near = _Near(cells)
    candidates: list[Candidate[P]] = []
    on_disk: dict[str, list[FoundProduct[P]]] = {}
    for batch in batched(source.find(cells, parameters.start, parameters.end), _BATCH):
        remote = []
        for found in batch:
            if isinstance(found, UnusableEntry):
                candidates.append(_unusable(found))
            elif found.path is None:
                remote.append(found)
            else:
                on_disk.setdefault(found.title, []).append(found)
                continue
            progress()
        candidates += _judged(remote, parameters, near)
    for copies in on_disk.values():
        candidates += _judged_copies(copies, parameters, near)
        for _ in copies:
            progress()
    if not parameters.keep_duplicates:
        candidates = without_repetitions(candidates)
    return sorted(candidates, key=attrgetter("title"))


class _Near:
    """Whether any selected cell is near footprints, or near the granules of a tile."""

    def __init__(self, cells: Sequence[Gridcell]) -> None:
        near = CellsNear(cells)
        self.footprints = near.any
        self.tile = functools.cache(lambda tile: near.any([outline_of(tile)])[0])


def _unusable(entry: UnusableEntry) -> Candidate[Any]:
    title = entry.title or entry.id
    if entry.is_other_kind:
        return Candidate(title, None, "filtered", entry.reason)
    return Candidate(title, None, "failed", entry.reason, Step.QUERY)


def _judged_copies[P: ProductDescription](
    copies: Sequence[FoundProduct[P]], parameters: RunParameters, near: _Near
) -> list[Candidate[P]]:
    """The copies of one product: the most complete one as it is judged, the others as its duplicates.

    The others keep their description if they can take its place. If none can be used, each has failed for its own
    reason.
    """
    judged = _judged(copies, parameters, near)
    if len(copies) == 1:
        return judged
    lacks = [_lacking(copy, candidate, parameters.bands) for copy, candidate in zip(copies, judged, strict=True)]
    best, *others = sorted(range(len(copies)), key=lambda index: (_shortfall(judged[index], lacks[index]), index))
    if judged[best].status == "failed":
        return judged
    for place, index in enumerate(others, start=1):
        copy, reason = judged[index], f"the same product lies at {judged[best].path}"
        if copy.status == "failed":
            reason += f"; this copy cannot be used: {copy.reason}"
        elif lacks[index]:
            reason += f"; this copy lacks {' '.join(lacks[index])}"
        product = copy.product if copy.status == "selected" else None
        judged[index] = replace(copy, product=product, status="duplicate", reason=reason, step=None, copy=place)
    return judged


def _lacking[P: ProductDescription](
    copy: FoundProduct[P], candidate: Candidate[P], bands: Sequence[str]
) -> Sequence[str]:
    return () if candidate.product is None else copy.lacking(candidate.product, bands)


def _shortfall(candidate: Candidate[Any], lacks: Sequence[str]) -> tuple[bool, bool, int, bool]:
    """Sort key of copies, the best one first: one without SCL has nothing; metadata says more than a bare name."""
    product = candidate.product
    return candidate.status == "failed", SCL in lacks, len(lacks), product is None or product.cloud_cover is None


def _judged[P: ProductDescription](
    some: Sequence[FoundProduct[P]], parameters: RunParameters, near: _Near
) -> list[Candidate[P]]:
    """Each product by itself.

    A footprint can be wrong. It decides about what would have to be downloaded; of what is on disk, all that a granule
    of the tile may show is looked at in phase 1.
    """
    described = [_described(found, parameters) for found in some]
    asked = [
        (number, candidate.product.footprint)
        for number, (found, candidate) in enumerate(zip(some, described, strict=True))
        if candidate.status == "selected"
        and candidate.product is not None
        and not (found.path is not None and near.tile(candidate.product.name.tile))
    ]
    are_near = near.footprints([footprint for _, footprint in asked])
    far = {number for (number, _), is_near in zip(asked, are_near, strict=True) if not is_near}
    return [
        _placed(found, candidate, is_near=number not in far)
        for number, (found, candidate) in enumerate(zip(some, described, strict=True))
    ]


def _described[P: ProductDescription](found: FoundProduct[P], parameters: RunParameters) -> Candidate[P]:
    """A product judged by its name first, so that no file is read of what the name rules out, then by its clouds.

    It is described if its name does not rule it out.
    """
    title, path, name = found.title, found.path, found.name
    try:
        name = name or ProductName.parse(title)
        if reason := ruled_out_by_name(name, parameters):
            return Candidate(title, None, "filtered", reason, name=name, path=path)
        product = found.describe()
    except OtherKindError as error:
        return Candidate(title, None, "filtered", error.reason, path=path)
    except ProductError as error:
        return Candidate(title, None, "failed", error.reason, error.step, name, path)
    except OSError as error:
        return Candidate(title, None, "failed", f"cannot be read: {error}", Step.READ, name, path)
    limit = parameters.max_cloud_cover
    if limit is not None and product.cloud_cover is not None and product.cloud_cover > limit:
        reason = f"cloud cover {product.cloud_cover:.1f} % > {limit:g} %"
        return Candidate(title, product, "filtered", reason, name=name, path=path)
    return Candidate(title, product, "selected", name=name, path=path)


def _placed[P: ProductDescription](found: FoundProduct[P], candidate: Candidate[P], *, is_near: bool) -> Candidate[P]:
    """A product that counts so far, judged by where it is, and by whether its bands can be had."""
    if candidate.status != "selected" or candidate.product is None:
        return candidate
    if not is_near:
        which = "its footprint touches no" if found.path is None else "neither its tile nor its footprint touches a"
        return replace(candidate, status="no cell", reason=f"{which} selected gridcell")
    if found.unavailable:
        return replace(candidate, status="offline", reason=found.unavailable)
    if found.without_bands(candidate.product):
        reason = "SCL alone is there: the run that downloaded it did not need its bands"
        return replace(candidate, status="no bands", reason=reason)
    return candidate


def ruled_out_by_name(name: ProductName, parameters: RunParameters) -> str:
    """Why the name alone leaves a product out; empty if it does not."""
    if not parameters.start <= name.sensing_time < parameters.end:
        return "sensing time outside start … end"
    if parameters.months is not None and name.sensing_time.month not in parameters.months:
        return f"month {name.sensing_time.month} not asked for"
    if parameters.tiles is not None and name.tile not in parameters.tiles:
        return f"tile {name.tile} not asked for"
    least = parameters.min_baseline
    if least is not None and not is_operational(name.baseline):
        return f"baseline {name.baseline} is not of the operational series, so it cannot be compared with {least}"
    if least is not None and name.baseline < least:
        return f"baseline {name.baseline} < {least}"
    return ""
