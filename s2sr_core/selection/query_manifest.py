"""The query manifest: every product that a source listed, whether it counts, and why not; read again to download."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import shapely
from shapely import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from s2sr_core.errors import InputError, ProductError
from s2sr_core.files import table_in, written_atomically
from s2sr_core.geo.geometry import from_wkt, polygonal
from s2sr_core.products.names import ProductName
from s2sr_core.scenes.scene import Scene
from s2sr_core.selection.candidates import NOT_NEEDED, Candidate
from s2sr_core.sources.source import RemoteProduct

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
#: Statuses of products that can be downloaded; each run decides from SCL which of the two it is.
_WANTED = ("selected", *NOT_NEEDED)


def write_query_manifest(path: Path, candidates: Sequence[Candidate[RemoteProduct]]) -> None:
    """Write one row for each candidate, in their order; its columns are in docs/cdse.md."""
    table = pd.DataFrame([_row(candidate) for candidate in candidates], columns=list(_COLUMNS), dtype=object)
    outlines = [None if candidate.product is None else candidate.product.footprint for candidate in candidates]
    table["footprint"] = shapely.to_wkt(np.array(outlines, object), rounding_precision=-1)
    with written_atomically(path) as temporary:
        table.to_csv(temporary, index=False)


def _row(candidate: Candidate[RemoteProduct]) -> dict[str, Any]:
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


def read_query_manifest(path: Path) -> list[Candidate[RemoteProduct]]:
    """The products of a query manifest that count, including those not needed: another selection may need their bands.

    Raises
    ------
    InputError
        If there is no manifest, or it is not one.
    """
    try:
        table = pd.read_csv(table_in(path), dtype=str, keep_default_na=False)
        rows = table.loc[table["status"].str.strip().isin(_WANTED)].to_dict("records")
        outlines = from_wkt([str(row["footprint"]) for row in rows])
        candidates = [
            _candidate({str(key): str(value) for key, value in row.items()}, outline)
            for row, outline in zip(rows, outlines, strict=True)
        ]
        if len({candidate.title for candidate in candidates}) < len(candidates):
            raise ValueError("it lists a product twice")
        return candidates
    except FileNotFoundError as error:
        raise InputError("stage", "download", f"finds no {path}", "run --stage query first") from error
    except (OSError, ValueError, KeyError, ProductError, shapely.errors.ShapelyError) as error:
        raise InputError("stage", "download", f"cannot read {path} ({error})", "run --stage query again") from error


def _candidate(row: dict[str, str], outline: BaseGeometry | None) -> Candidate[RemoteProduct]:
    name = ProductName.parse(row["product"])
    product = RemoteProduct(
        id=row["id"],
        name=name,
        size=int(row["size"]),
        cloud_cover=float(row["cloud_cover"]) if row["cloud_cover"] else None,
        online=row["online"] == "True",
        footprint=_footprint(row["footprint"], outline),
    )
    return Candidate(row["product"], product, "selected", name=name)


def _footprint(text: str, outline: BaseGeometry | None) -> Polygon | MultiPolygon | None:
    """The outline that a row gives, None if it gives none."""
    if not text:
        return None
    if outline is None or not np.isfinite(shapely.get_coordinates(outline)).all() or not outline.is_valid:
        raise ValueError(f"{text[:40]!r} is not an outline")
    return polygonal(outline)


def mark_not_needed(path: Path, scenes: Sequence[Scene]) -> None:
    """Mark ``scenes`` in a query manifest as not needed, with the reason and the bytes saved, and no other product."""
    table = pd.read_csv(table_in(path), dtype=str, keep_default_na=False)
    table.loc[table["status"].str.strip().isin(NOT_NEEDED), ["status", "reason"]] = "selected", ""
    table["bytes_saved"] = ""
    not_needed = {str(scene.product.name): scene for scene in scenes}
    for index in table.index[table["product"].isin(not_needed) & (table["status"].str.strip() == "selected")]:
        scene = not_needed[str(table.loc[index, "product"])]
        columns = ["status", "reason", "bytes_saved"]
        table.loc[index, columns] = "not needed", scene.not_needed_because, str(scene.bytes_not_needed())
    with written_atomically(path) as temporary:
        table.to_csv(temporary, index=False)
