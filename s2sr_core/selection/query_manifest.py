"""The query manifest: every product that a source listed, whether it counts, and why not; read again to download.

It may have hundreds of thousands of rows, so rows are read and written some at a time.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import batched, chain
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely import MultiPolygon, Polygon

from s2sr_core.errors import InputError, ProductError
from s2sr_core.files import table_in, written_atomically
from s2sr_core.geo.geometry import from_wkt, polygonal
from s2sr_core.products.names import ProductName
from s2sr_core.scenes.scene import Scene
from s2sr_core.selection.candidates import NOT_NEEDED, Candidate, Status
from s2sr_core.sources.source import RemoteProduct, s3_path_of

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
    "s3_path",
)
#: Rows that are read or written together.
_BATCH = 1000
#: Statuses of products that count; each run decides from SCL which of the two it is.
_WANTED = ("selected", *NOT_NEEDED)
#: Statuses of products that can take the place of others, or show more than footprints say.
_IN_RESERVE: tuple[Status, ...] = ("duplicate", "twin")


def write_query_manifest(path: Path, candidates: Sequence[Candidate[RemoteProduct]]) -> None:
    """Write one row for each candidate, in their order; its columns are in docs/cdse.md."""
    _write(path, chain.from_iterable(map(_table_rows, batched(candidates, _BATCH))))


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with (
        written_atomically(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        writer = csv.DictWriter(file, _COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _rows(path: Path) -> Iterator[dict[str, str]]:
    """Each row of the manifest by column; a column that is missing is empty.

    Raises
    ------
    OSError, ValueError
        If it cannot be read, or is not a table with products and their statuses.
    """
    try:
        reader = csv.DictReader(io.TextIOWrapper(table_in(path), "utf-8-sig", newline=""), restval="")
        if not {"product", "status"} <= set(reader.fieldnames or ()):
            raise ValueError("it has no columns product and status")
        for row in reader:
            yield {column: row.get(column, "") for column in _COLUMNS}
    except csv.Error as error:
        raise ValueError(str(error)) from error


def _table_rows(candidates: Sequence[Candidate[RemoteProduct]]) -> Iterator[dict[str, Any]]:
    footprints = np.array([each.product and each.product.footprint for each in candidates], object)
    texts = shapely.to_wkt(footprints, rounding_precision=-1)
    return map(_row, candidates, texts)


def _row(candidate: Candidate[RemoteProduct], footprint: str | None) -> dict[str, Any]:
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
        "footprint": footprint or "",
        "s3_path": product.s3_path,
    }


def read_query_manifest(path: Path) -> list[Candidate[RemoteProduct]]:
    """The products of a query manifest that count, and those that repeat them as far as footprints tell.

    Those that were not needed count: another selection may need their bands.

    Raises
    ------
    InputError
        If there is no manifest, or it is not one.
    """
    try:
        rows = (row for row in _rows(path) if row["status"].strip() in (*_WANTED, *_IN_RESERVE))
        candidates = list(chain.from_iterable(map(_candidates, batched(rows, _BATCH))))
        selected = [candidate.title for candidate in candidates if candidate.status == "selected"]
        if len(set(selected)) < len(selected):
            raise ValueError("it lists a product twice")
        return candidates
    except FileNotFoundError as error:
        raise InputError("stage", "download", f"finds no {path}", "run --stage query first") from error
    except (OSError, ValueError, ProductError, shapely.errors.ShapelyError) as error:
        raise InputError("stage", "download", f"cannot read {path} ({error})", "run --stage query again") from error


def statuses_in(path: Path) -> Iterator[tuple[str, str]]:
    """Each product of a query manifest or scene index, with its status.

    Raises
    ------
    OSError, ValueError
        If it cannot be read, or is not a table with products and their statuses.
    """
    return ((row["product"], row["status"].strip()) for row in _rows(path))


def _candidates(rows: Sequence[dict[str, str]]) -> Iterator[Candidate[RemoteProduct]]:
    return map(_candidate, rows, _footprints([row["footprint"] for row in rows]))


def _candidate(row: dict[str, str], footprint: Polygon | MultiPolygon | None) -> Candidate[RemoteProduct]:
    name = ProductName.parse(row["product"])
    product = RemoteProduct(
        id=row["id"],
        name=name,
        size=int(row["size"]),
        cloud_cover=float(row["cloud_cover"]) if row["cloud_cover"] else None,
        online=row["online"] == "True",
        footprint=footprint,
        s3_path=s3_path_of(name, row.get("s3_path")),
    )
    status = next((status for status in _IN_RESERVE if status == row["status"].strip()), None)
    return Candidate(str(name), product, status or "selected", row["reason"] if status else "", name=name)


def _footprints(texts: Sequence[str]) -> list[Polygon | MultiPolygon | None]:
    """The outlines that rows give, None where one gives none."""
    outlines = from_wkt(texts)
    for text, outline, is_valid in zip(texts, outlines, shapely.is_valid(outlines), strict=True):
        if text and (not is_valid or not np.isfinite(shapely.get_coordinates(outline)).all()):
            raise ValueError(f"{text[:40]!r} is not an outline")
    return [None if outline is None else polygonal(outline) for outline in outlines]


def mark_not_needed(path: Path, scenes: Sequence[Scene]) -> None:
    """Mark ``scenes`` in a query manifest as not needed, with the reason and the bytes saved, and no other product."""
    not_needed = {str(scene.product.name): scene for scene in scenes}

    def marked(row: dict[str, str]) -> dict[str, str]:
        row["bytes_saved"] = ""
        if row["status"].strip() in NOT_NEEDED:
            row["status"], row["reason"] = "selected", ""
        scene = not_needed.get(row["product"])
        if scene is not None and row["status"].strip() == "selected":
            row["status"], row["reason"] = "not needed", scene.not_needed_because
            row["bytes_saved"] = str(scene.bytes_not_needed())
        return row

    _write(path, map(marked, _rows(path)))
