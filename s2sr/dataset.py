"""The composites of a work folder as a lazy dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s2sr_core.errors import InstallationError

if TYPE_CHECKING:
    import xarray


def open_dataset(work_dir: Path, cells: Sequence[str] | None, bands: Sequence[str] | None = None) -> xarray.Dataset:
    """See :func:`s2sr.open`; of these ``bands``, or of all.

    Raises
    ------
    InputError
        If there are no composites, or they do not lie on one lattice.
    InstallationError
        If xarray is not installed.
    """
    try:
        import xarray

        from s2sr.backend import CompositesBackend
    except ImportError as error:
        raise InstallationError(f"{error.name} is not installed; add it: pip install 's2sr[xarray]'.") from error
    return xarray.open_dataset(work_dir, engine=CompositesBackend, chunks={}, cells=cells, bands=bands)
