"""The names of composites, taken apart: ``cell_<cell_id>[_<period>]_<band>_<statistic>_clip.tif``.

:class:`~s2sr_core.workspace.Workspace` puts them together.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from s2sr_core.cells.gridcell_csv import is_safe_id
from s2sr_core.periods import is_label
from s2sr_core.products.bands import ALL_BANDS

_REST = re.compile(rf"(?P<band>{'|'.join(ALL_BANDS)})_(?P<statistic>[a-z][a-z0-9_]*)_clip\.(?:tif|json)")
#: The statistic whose variable is called as the band.
_PLAIN = "median"


class CompositeName(NamedTuple):
    """What the name of a raster or record says; ``period`` is a label, empty in a run without periods."""

    cell_id: str
    period: str
    band: str
    statistic: str

    @property
    def about(self) -> tuple[str, str, str]:
        """Cell, period and band: what a record and a row of the index are about."""
        return self.cell_id, self.period, self.band

    @property
    def variable(self) -> str:
        """``B04`` for the median, otherwise ``B04_count``."""
        return self.band if self.statistic == _PLAIN else f"{self.band}_{self.statistic}"


def name_of(path: Path) -> CompositeName | None:
    """What the name of a file says, if that is the name of a composite or record of its folder's cell and period."""
    folder, above = path.parent.name, path.parent.parent.name
    for cell_id, period in ((folder, ""), (above, folder)):
        prefix = "_".join(filter(None, ("cell", cell_id, period))) + "_"
        if path.name.startswith(prefix) and is_safe_id(cell_id) and is_label(period):
            match = _REST.fullmatch(path.name.removeprefix(prefix))
            if match is not None:
                return CompositeName(cell_id, period, match["band"], match["statistic"])
    return None


def rasters_beside(path: Path) -> dict[Path, CompositeName]:
    """All rasters of the cell, period and band of the composite ``path``, itself included, sorted by path."""
    own = name_of(path)
    named = {each: name_of(each) for each in sorted(path.parent.glob("cell_*_clip.tif"))}
    return {each: name for each, name in named.items() if name and own and name.about == own.about}
