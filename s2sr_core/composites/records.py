"""The record of a composite: what it was made of, and the key that tells whether it still is what would be made.

A record is written last, so a composite without one is not complete.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from s2sr_core import __version__
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.geo.lattice import Lattice
from s2sr_core.parameters import RunParameters
from s2sr_core.scenes.scene import Scene, SceneBand


def ingredients(
    cell: Gridcell, band: str, scenes: Sequence[tuple[Scene, SceneBand]], parameters: RunParameters
) -> dict[str, Any]:
    """All that decides the pixels of a composite, as plain JSON: inputs, polygon, parameters, lattice, software.

    The engine is not among it (all give the same pixels), nor is where files lie.
    """
    return {
        "software": f"s2sr {__version__}",
        "cell_id": cell.cell_id,
        "polygon": cell.wkt,
        "band": band,
        "lattice": lattice_record(parameters.lattice_of(cell.bounds), parameters.tap),
        "resampling": parameters.resampling,
        "scl_mask": list(parameters.scl_mask),
        "scl_dilation": {str(value): metres for value, metres in sorted(parameters.scl_dilation.items())},
        "inputs": [
            {
                "product": str(scene.product.name),
                "offset": scene_band.offset,
                band: scene_band.file.checksum,
                "SCL": scene.scl.checksum,
            }
            for scene, scene_band in sorted(scenes, key=lambda pair: pair[0].product.name)
        ],
    }


def key_of(made_of: Mapping[str, Any]) -> str:
    """A digest of :func:`ingredients`."""
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


def lattice_record(lattice: Lattice, tap: bool) -> dict[str, Any]:
    """A lattice as plain JSON."""
    return {"tap": tap, **asdict(lattice)}
