"""The record of a composite: what it was made of, and the key that says whether the same would be made again.

A record is written last, so a composite without one is not complete.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import s2sr_core
from s2sr_core import __version__
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.geo.lattice import Lattice
from s2sr_core.periods import Period
from s2sr_core.run_context import RunContext
from s2sr_core.scenes.scene import Scene, SceneBand

#: The modules, below ``s2sr_core``, that decide pixels: what happens to a pixel and how GDAL is asked for it
#: (``pixels``, ``pixel_functions``), how images are decoded (``jpeg2000``), how both engines compute (``engines``), on
#: which grids, in which windows and which pixels count (``geo``, ``scenes``), how they are clipped and written
#: (``render``, ``cog``). Not those that decide what a record itself holds: scenes and offsets (``products``,
#: ``selection``), polygons (``cells``), parameters.
PIXEL_CODE = (
    "compiled.py",
    "jpeg2000/*.py",
    "pixel_functions.py",
    "pixels/*.py",
    "engines/*.py",
    "geo/*.py",
    "scenes/*.py",
    "composites/render.py",
    "composites/cog.py",
    "composites/tags.py",
)


Scenes = Sequence[tuple[Scene, SceneBand]]
"""Scenes of a composite, each with the band."""


def inputs_of(
    context: RunContext, cell: Gridcell, band: str, scenes: Mapping[str, Scenes], period: Period
) -> dict[str, Any]:
    """All that decides the pixels of a composite, as plain JSON: scenes, polygon, parameters, lattice, software.

    The engine is not part of it (all give the same pixels), nor is where files are, nor when ``period`` begins and
    ends: of it only the label is, so that a longer time window recomputes what has new scenes. ``scenes`` are by band;
    those of other bands are inputs if a statistic is joint.
    """
    parameters = context.parameters
    others = [each for each in scenes if each != band] if context.is_joint else []
    return {
        **({"period": period.label} if period.label else {}),
        "software": f"s2sr {__version__}",
        "code": code_digest(Path(s2sr_core.__file__).parent),
        "cell_id": cell.cell_id,
        "polygon": cell.wkt,
        "band": band,
        "statistic": context.statistics[0].name,
        "min_count": parameters.min_count,
        "group_by": parameters.group_by,
        "lattice": lattice_record(parameters.lattice_of(cell), parameters.tap),
        "resolution": parameters.resolution,
        "resampling": parameters.resampling,
        "mask": context.mask.record(),
        **({"gdal_scale": True} if parameters.gdal_scale else {}),
        "scenes": _entries(band, scenes[band]),
        "joint": {each: _entries(each, scenes[each]) for each in others},
    }


def _entries(band: str, scenes: Scenes) -> list[dict[str, Any]]:
    return [
        {
            "product": str(scene.product.name),
            "offset": scene_band.offset,
            band: scene_band.file.checksum,
            "SCL": scene.scl.checksum,
            **({} if scene.given_mask is None else {"mask": scene.given_mask.checksum}),
        }
        for scene, scene_band in sorted(scenes, key=lambda pair: pair[0].product.name)
    ]


def inputs_in(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """The inputs that a record names; None if it names none.

    Older records call them ``made_of``, and the scenes among them ``inputs``.
    """
    if isinstance(inputs := record.get("inputs"), dict):
        return inputs
    if isinstance(made_of := record.get("made_of"), dict):
        others = {key: value for key, value in made_of.items() if key != "inputs"}
        return {**others, "scenes": made_of.get("inputs", [])}
    return None


def scenes_in(inputs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The scenes among the inputs of a record, by product; what is not a scene's entry is left out."""
    return _by_product(inputs.get("scenes"))


def joint_scenes_in(inputs: Mapping[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """The scenes of other bands among the inputs of a record, by band and product; none without joint statistics."""
    joint = inputs.get("joint")
    return {str(band): _by_product(scenes) for band, scenes in joint.items()} if isinstance(joint, dict) else {}


def _by_product(scenes: object) -> dict[str, dict[str, Any]]:
    entries = [scene for scene in scenes if isinstance(scene, dict)] if isinstance(scenes, list) else []
    return {entry["product"]: entry for entry in entries if isinstance(entry.get("product"), str)}


def pixels_in(record: Mapping[str, Any]) -> dict[str, int] | None:
    """The pixels of a composite that its record counts, ``owned`` and ``valid``; None if it does not."""
    counts = record.get("pixels")
    if not isinstance(counts, dict) or not all(type(counts.get(name)) is int for name in ("owned", "valid")):
        return None
    return counts if 0 <= counts["valid"] <= counts["owned"] else None


def left_out_in(record: Mapping[str, Any]) -> dict[str, str]:
    """The products whose image could not be decoded when the composite was made, each with the reason.

    They are not among its inputs. Earlier versions left none out.
    """
    left_out = record.get("left_out")
    return {str(product): str(reason) for product, reason in left_out.items()} if isinstance(left_out, dict) else {}


def substitutes_in(record: Mapping[str, Any]) -> dict[str, list[str]]:
    """The products that a composite was made with instead of others, each with the names of these.

    They are among its inputs. Earlier versions used none.
    """
    found = record.get("substitutes")
    named = found.items() if isinstance(found, dict) else ()
    return {str(product): list(map(str, names)) for product, names in named if isinstance(names, list)}


def key_of(inputs: Mapping[str, Any]) -> str:
    """A digest of :func:`inputs_of`."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


@functools.cache
def code_digest(package: Path) -> str:
    """A digest of the files of :data:`PIXEL_CODE` below ``package``, so that other code never passes for the same.

    A checkout changes without its version. Computed once per process; some twenty files are read.
    """
    digest = hashlib.sha256()
    for path in sorted(path for pattern in PIXEL_CODE for path in package.glob(pattern)):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(package).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def lattice_record(lattice: Lattice, tap: bool) -> dict[str, Any]:
    """A lattice as plain JSON."""
    return {"tap": tap, **asdict(lattice)}
