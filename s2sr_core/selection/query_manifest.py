"""The query manifest: every product that a source listed, whether it counts, and why not; read again to download.

It may have hundreds of thousands of rows, so rows are read and written some at a time.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import batched, chain
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import shapely
from shapely import MultiPolygon, Polygon

from s2sr_core.errors import InputError, ProductError
from s2sr_core.files import table_in, written_atomically
from s2sr_core.garbage import seldom_collected
from s2sr_core.geo.geometry import from_wkt, polygonal
from s2sr_core.products.names import ProductName
from s2sr_core.scenes.scene import Scene
from s2sr_core.selection.candidates import NOT_NEEDED, Candidate, Status
from s2sr_core.sources.source import RemoteProduct, s3_path_of

#: Rows that are read or written together.
_BATCH = 1000
#: Statuses of products that count; each run decides from SCL which of the two it is.
_WANTED = ("selected", *NOT_NEEDED)
#: Statuses of products that can take the place of others, or show more than footprints say.
_IN_RESERVE: Mapping[str, Status] = {"duplicate": "duplicate", "twin": "twin"}


class _Row(NamedTuple):
    """A row as text; its fields are the columns, in their order."""

    product: str
    id: str = ""
    status: str = ""
    reason: str = ""
    mission: str = ""
    tile: str = ""
    sensing_time: str = ""
    relative_orbit: str = ""
    baseline: str = ""
    cloud_cover: str = ""
    size: str = ""
    online: str = ""
    bytes_saved: str = ""
    footprint: str = ""
    s3_path: str = ""


@seldom_collected()
def write_query_manifest(path: Path, candidates: Sequence[Candidate[RemoteProduct]]) -> None:
    """Write one row for each candidate, in their order; its columns are in docs/cdse.md."""
    _write(path, chain.from_iterable(map(_table_rows, batched(candidates, _BATCH))))


def _write(path: Path, rows: Iterable[_Row]) -> None:
    with (
        written_atomically(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_Row._fields)
        writer.writerows(rows)


def _rows(path: Path) -> Iterator[_Row]:
    """Each row of the manifest; a column that is missing is empty.

    Raises
    ------
    OSError, ValueError
        If it cannot be read, or is not a table with products and their statuses.
    """
    try:
        reader = csv.reader(io.TextIOWrapper(table_in(path), "utf-8-sig", newline=""))
        header = next(reader, [])
        if not {"product", "status"} <= set(header):
            raise ValueError("it has no columns product and status")
        width, place_of = len(header), {column: place for place, column in enumerate(header)}
        fields_of = itemgetter(*(place_of.get(column, width) for column in _Row._fields))
        for row in filter(None, reader):
            if len(row) != width:
                row = (row + width * [""])[:width]
            yield _Row._make(fields_of([*row, ""]))  # what stands behind the last column is in no column
    except csv.Error as error:
        raise ValueError(str(error)) from error


def _table_rows(candidates: Sequence[Candidate[RemoteProduct]]) -> Iterator[_Row]:
    footprints = np.array([each.product and each.product.footprint for each in candidates], object)
    texts = shapely.to_wkt(footprints, rounding_precision=-1)
    return map(_row, candidates, texts)


def _row(candidate: Candidate[RemoteProduct], footprint: str | None) -> _Row:
    product = candidate.product
    if product is None:
        return _Row(candidate.title, status=candidate.status, reason=candidate.reason)
    name = product.name
    return _Row(
        product=candidate.title,
        id=product.id,
        status=candidate.status,
        reason=candidate.reason,
        mission=name.mission,
        tile=name.tile,
        sensing_time=f"{name.sensing_time.isoformat(timespec='seconds')[:19]}Z",
        relative_orbit=str(name.relative_orbit),
        baseline=name.baseline,
        cloud_cover="" if product.cloud_cover is None else str(product.cloud_cover),
        size=str(product.size),
        online=str(product.online),
        footprint=footprint or "",
        s3_path=product.s3_path,
    )


@seldom_collected()
def read_query_manifest(path: Path) -> list[Candidate[RemoteProduct]]:
    """The products of a query manifest that count, and those that repeat them as far as footprints tell.

    Those that were not needed count: another selection may need their bands.

    Raises
    ------
    InputError
        If there is no manifest, or it is not one.
    """
    try:
        rows = (row for row in _rows(path) if row.status.strip() in (*_WANTED, *_IN_RESERVE))
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
    return ((row.product, row.status.strip()) for row in _rows(path))


def _candidates(rows: Sequence[_Row]) -> Iterator[Candidate[RemoteProduct]]:
    return map(_candidate, rows, _footprints([row.footprint for row in rows]))


def _candidate(row: _Row, footprint: Polygon | MultiPolygon | None) -> Candidate[RemoteProduct]:
    name = ProductName.parse(row.product)
    product = RemoteProduct(
        id=row.id,
        name=name,
        size=int(row.size),
        cloud_cover=float(row.cloud_cover) if row.cloud_cover else None,
        online=row.online == "True",
        footprint=footprint,
        s3_path=s3_path_of(name, row.s3_path),
    )
    status = _IN_RESERVE.get(row.status.strip())
    return Candidate(str(name), product, status or "selected", row.reason if status else "", name=name)


def _footprints(texts: Sequence[str]) -> list[Polygon | MultiPolygon | None]:
    """The outlines that rows give, None where one gives none."""
    outlines = np.array(from_wkt(texts), object)
    is_outline = shapely.is_valid(outlines)
    coordinates, owners = shapely.get_coordinates(outlines, return_index=True)
    is_outline[owners[~np.isfinite(coordinates).all(axis=1)]] = False
    for text in (texts[number] for number in np.flatnonzero(~is_outline).tolist()):
        if text:
            raise ValueError(f"{text[:40]!r} is not an outline")
    return [None if outline is None else polygonal(outline) for outline in outlines.tolist()]


def mark_not_needed(path: Path, scenes: Sequence[Scene]) -> None:
    """Mark ``scenes`` in a query manifest as not needed, with the reason and the bytes saved, and no other product."""
    not_needed = {str(scene.product.name): scene for scene in scenes}

    def marked(row: _Row) -> _Row:
        row = row._replace(bytes_saved="")
        if row.status.strip() in NOT_NEEDED:
            row = row._replace(status="selected", reason="")
        scene = not_needed.get(row.product)
        if scene is None or row.status.strip() != "selected":
            return row
        saved = str(scene.bytes_not_needed())
        return row._replace(status="not needed", reason=scene.not_needed_because, bytes_saved=saved)

    _write(path, map(marked, _rows(path)))
