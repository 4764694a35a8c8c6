"""From the catalogue to the query manifest: every product seen, whether it counts, and why not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import shapely
from shapely import Polygon
from shapely.geometry.base import BaseGeometry

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.errors import InputError, ProductError
from s2sr_core.files import written_beside
from s2sr_core.geo.geometry import polygonal
from s2sr_core.parameters import RunParameters
from s2sr_core.products.names import ProductName
from s2sr_core.scenes.scene import Scene
from s2sr_core.selection.candidates import Candidate
from s2sr_core.selection.near_cells import CellsNear
from s2sr_core.selection.selection import judge, ruled_out_by_name, without_repetitions
from s2sr_core.sources.cdse.catalogue import Catalogue, CatalogueProduct, Unnamed, is_uuid

_COLUMNS = (
    "product",
    "id",
    "status",
    "reason",
    "mission",
    "tile",
    "sensing_time",
    "relative_orbit",
    "baseline",
    "cloud_cover",
    "size",
    "online",
    "bytes_saved",
    "footprint",
)
#: Statuses of a product whose bands are not needed, because SCL masks them; earlier versions wrote "spared".
_NOT_NEEDED = ("not needed", "spared")
#: Statuses of products that can be downloaded; each run decides from SCL which of the two it is.
_WANTED = ("selected", *_NOT_NEEDED)


def query_products(
    parameters: RunParameters,
    cells: Sequence[Gridcell],
    catalogue: Catalogue,
    progress: Callable[[], None] = lambda: None,
) -> list[Candidate[CatalogueProduct]]:
    """Every product the catalogue gives for the cells and the window, judged, ordered by name.

    A product that is not online cannot be had, so it is left out before the preferred of each sensing time are chosen.
    """
    near = CellsNear(cells)
    found: dict[str, Candidate[CatalogueProduct]] = {}
    for area in envelopes(cells):
        for entry in catalogue.search(area, parameters.start, parameters.end):
            if entry.id not in found:
                found[entry.id] = _judge(entry, parameters, near)
                progress()
    candidates = list(found.values())
    if not parameters.keep_duplicates:
        candidates = without_repetitions(candidates)
    return sorted(candidates, key=lambda candidate: candidate.title)


def envelopes(cells: Sequence[Gridcell]) -> list[Polygon]:
    """The box around all cells; two where that is shorter across the antimeridian, one on each side of it."""
    bounds = shapely.bounds([cell.polygon for cell in cells])
    west, east = bounds[bounds[:, 2] <= 0], bounds[bounds[:, 0] >= 0]
    if len(west) + len(east) == len(bounds) and len(west) and len(east):
        around = 360 - (east[:, 0].min() - west[:, 2].max())
        if around < bounds[:, 2].max() - bounds[:, 0].min():
            return [_box(west), _box(east)]
    return [_box(bounds)]


def _box(bounds: Any) -> Polygon:
    xmin, ymin = bounds[:, :2].min(axis=0)
    xmax, ymax = bounds[:, 2:].max(axis=0)
    return shapely.box(float(xmin), float(ymin), float(xmax), float(ymax))


def _judge(
    entry: CatalogueProduct | Unnamed, parameters: RunParameters, near: CellsNear
) -> Candidate[CatalogueProduct]:
    if isinstance(entry, Unnamed):
        return Candidate(entry.title or entry.id, None, "failed", entry.reason, "query")
    title = str(entry.name)
    if reason := ruled_out_by_name(entry.name, parameters):
        return Candidate(title, entry, "filtered", reason, name=entry.name)
    status, reason = judge(entry, parameters, near)
    if status == "selected" and not entry.online:
        status, reason = "offline", "its bytes are not online at CDSE"
    return Candidate(title, entry, status, reason, name=entry.name)


def write_manifest(path: Path, candidates: Sequence[Candidate[CatalogueProduct]]) -> None:
    """``indices/query_manifest.csv``: one row a product seen."""
    table = pd.DataFrame([_row(candidate) for candidate in candidates], columns=list(_COLUMNS), dtype=object)
    outlines = [None if candidate.product is None else candidate.product.footprint for candidate in candidates]
    table["footprint"] = shapely.to_wkt(np.array(outlines, object), rounding_precision=-1)
    with written_beside(path) as temporary:
        table.to_csv(temporary, index=False)


def _row(candidate: Candidate[CatalogueProduct]) -> dict[str, Any]:
    row: dict[str, Any] = {"product": candidate.title, "status": candidate.status, "reason": candidate.reason}
    product = candidate.product
    if product is None:
        return row
    return row | {
        "id": product.id,
        "mission": product.name.mission,
        "tile": product.name.tile,
        "sensing_time": f"{product.name.sensing_time.isoformat(timespec='seconds')[:19]}Z",
        "relative_orbit": product.name.relative_orbit,
        "baseline": product.name.baseline,
        "cloud_cover": product.cloud_cover,
        "size": product.size,
        "online": product.online,
    }


def read_manifest(path: Path) -> list[Candidate[CatalogueProduct]]:
    """The products of a query manifest that count, including those not needed: another selection may need their bands.

    Raises
    ------
    InputError
        Where there is no manifest, or a row of it is none.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        rows = table.loc[table["status"].str.strip().isin(_WANTED)].to_dict("records")
        outlines = shapely.from_wkt([row["footprint"] or None for row in rows])
        candidates = [
            _candidate({str(key): str(value) for key, value in row.items()}, outline)
            for row, outline in zip(rows, outlines, strict=True)
        ]
        if len({candidate.title for candidate in candidates}) < len(candidates):
            raise ValueError("a product stands in it twice")
        return candidates
    except FileNotFoundError as error:
        raise InputError("stage", "download", f"finds no {path}", "run --stage query first") from error
    except (OSError, ValueError, KeyError, ProductError, shapely.errors.ShapelyError) as error:
        raise InputError("stage", "download", f"cannot read {path} ({error})", "run --stage query again") from error


def update_not_needed(path: Path, scenes: Sequence[Scene]) -> None:
    """Mark ``scenes`` in a query manifest as not needed, with the reason and the bytes saved, and no other product."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table.loc[table["status"].str.strip().isin(_NOT_NEEDED), ["status", "reason"]] = "selected", ""
    table["bytes_saved"] = ""
    not_needed = {str(scene.product.name): scene for scene in scenes}
    for index in table.index[table["product"].isin(not_needed) & (table["status"].str.strip() == "selected")]:
        scene = not_needed[str(table.loc[index, "product"])]
        columns = ["status", "reason", "bytes_saved"]
        table.loc[index, columns] = "not needed", scene.not_needed_because, str(scene.bytes_not_needed())
    with written_beside(path) as temporary:
        table.to_csv(temporary, index=False)


def _candidate(row: dict[str, str], outline: BaseGeometry | None) -> Candidate[CatalogueProduct]:
    name = ProductName.parse(row["product"])
    if not is_uuid(row["id"]):
        raise ValueError(f"{row['id'][:40]!r} is no UUID")
    product = CatalogueProduct(
        id=row["id"],
        name=name,
        size=int(row["size"]),
        cloud_cover=float(row["cloud_cover"]) if row["cloud_cover"] else None,
        online=row["online"] == "True",
        footprint=None if outline is None else polygonal(outline),
    )
    return Candidate(row["product"], product, "selected", name=name)
