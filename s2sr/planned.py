"""What a run would do, as tables, text and a map."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from deployments.clusters import cluster_of
from s2sr_core.machine import check_machine
from s2sr_core.outputs.maps import cells_map
from s2sr_core.parameters import RunParameters
from s2sr_core.planning import plan as planning


@dataclass(frozen=True)
class Plan:
    """What a run would do. Printed, it is what ``--plan`` prints; a notebook shows the map below it.

    Attributes
    ----------
    parameters: of the run.
    """

    parameters: RunParameters
    _plan: planning.Plan

    @cached_property
    def products(self) -> pd.DataFrame:
        """Every product that was found, by sensing time: ``status`` says whether it counts, ``reason`` why not."""
        rows = [
            {
                "product": candidate.title,
                "status": candidate.status,
                "reason": candidate.reason,
                "sensing_time": candidate.name and candidate.name.sensing_time,
                "tile": candidate.name and candidate.name.tile,
                "relative_orbit": candidate.name and candidate.name.relative_orbit,
                "baseline": candidate.name and candidate.name.baseline,
                "cloud_cover": candidate.product and candidate.product.cloud_cover,
                "footprint": candidate.product and candidate.product.footprint,
            }
            for candidate in self._plan.found
        ]
        columns = ["product", "status", "reason", "sensing_time", "tile", "relative_orbit", "baseline", "cloud_cover"]
        table = pd.DataFrame(rows, columns=[*columns, "footprint"])
        return table.sort_values(["sensing_time", "product"], ignore_index=True)

    @cached_property
    def cells(self) -> pd.DataFrame:
        """The selected gridcells, with their polygons in EPSG:4326."""
        return pd.DataFrame({"cell_id": cell.cell_id, "geometry": cell.polygon} for cell in self._plan.cells)

    @cached_property
    def map(self) -> bytes:
        """The cells and the footprints of the selected products, a PNG."""
        selected = [candidate.product for candidate in self._plan.found if candidate.status == "selected"]
        footprints = [product.footprint for product in selected if product and product.footprint]
        return cells_map([cell.polygon for cell in self._plan.cells], footprints, self.parameters.work_dir.name)

    def __str__(self) -> str:
        return str(self._plan)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        picture = base64.b64encode(self.map).decode("ascii")
        return f'<pre>{html.escape(str(self))}</pre><img alt="map" src="data:image/png;base64,{picture}">'


def plan_of(parameters: RunParameters) -> Plan:
    """The plan of a run with these parameters.

    Raises
    ------
    InputError, SourceError
        If the input is bad, or the source of products cannot be asked.
    """
    check_machine()
    return Plan(parameters, planning.plan(parameters, cluster_of(parameters).worker_count()))
