"""Which of the products that a source has count: judged by name, by description, and against one another."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.errors import ProductError, Step
from s2sr_core.parameters import RunParameters
from s2sr_core.products.baselines import is_operational
from s2sr_core.products.names import ProductName
from s2sr_core.selection.candidates import Candidate, Status
from s2sr_core.selection.near_cells import CellsNear
from s2sr_core.selection.repetitions import without_repetitions
from s2sr_core.sources.source import FoundProduct, ProductDescription, Source, UnusableEntry


def find_products[P: ProductDescription](
    source: Source[P],
    parameters: RunParameters,
    cells: Sequence[Gridcell],
    progress: Callable[[], None] = lambda: None,
) -> list[Candidate[P]]:
    """Every product that ``source`` has for the cells and the window, judged, by name.

    ``progress`` is called once for each. A product that cannot be had is left out before the preferred ones of each
    sensing time are chosen, so that another takes its place.

    Raises
    ------
    InputError, SourceError
        If the source holds nothing at all, or cannot be asked.
    """
    near = CellsNear(cells)
    candidates: list[Candidate[P]] = []
    on_disk: dict[str, Candidate[P]] = {}
    for found in source.find(cells, parameters.start, parameters.end):
        if isinstance(found, UnusableEntry):
            candidate: Candidate[P] = Candidate(found.title or found.id, None, "failed", found.reason, Step.QUERY)
        elif found.path is None:
            candidate = _judged(found, parameters, near)
        else:
            candidate = _copy_of(on_disk.get(found.title), found) or _judged(found, parameters, near)
            if candidate.status != "duplicate":
                on_disk[found.title] = candidate
        candidates.append(candidate)
        progress()
    if not parameters.keep_duplicates:
        candidates = without_repetitions(candidates)
    return sorted(candidates, key=lambda candidate: candidate.title)


def _copy_of[P: ProductDescription](earlier: Candidate[P] | None, found: FoundProduct[P]) -> Candidate[P] | None:
    """The duplicate that ``found`` is if the same product was found in another folder, and can be used there."""
    if earlier is None or earlier.status == "failed":
        return None
    reason = f"the same product lies at {earlier.path}"
    return Candidate(earlier.title, None, "duplicate", reason, name=earlier.name, path=found.path)


def _judged[P: ProductDescription](found: FoundProduct[P], parameters: RunParameters, near: CellsNear) -> Candidate[P]:
    """One product by itself: by its name first, so that no file is read of what the name rules out."""
    title, path, name = found.title, found.path, None
    try:
        name = ProductName.parse(title)
        if reason := ruled_out_by_name(name, parameters):
            return Candidate(title, None, "filtered", reason, name=name, path=path)
        product = found.describe()
    except ProductError as error:
        return Candidate(title, None, "failed", error.reason, error.step, name, path)
    except OSError as error:
        return Candidate(title, None, "failed", f"cannot be read: {error}", Step.READ, name, path)
    status, reason = _judged_by_description(product, parameters, near)
    if status == "selected" and found.unavailable:
        status, reason = "offline", found.unavailable
    return Candidate(title, product, status, reason, name=name, path=path)


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


def _judged_by_description(
    product: ProductDescription, parameters: RunParameters, near: CellsNear
) -> tuple[Status, str]:
    """Whether a product counts by what is said of it beyond its name, and why not."""
    limit = parameters.max_cloud_cover
    if limit is not None and product.cloud_cover is not None and product.cloud_cover > limit:
        return "filtered", f"cloud cover {product.cloud_cover:.1f} % > {limit:g} %"
    if not near.any(product.footprint):
        return "no cell", "its footprint touches no selected gridcell"
    return "selected", ""
