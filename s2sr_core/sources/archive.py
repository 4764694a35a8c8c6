"""Products that are on disk already: a folder of .SAFE trees, and what an earlier run downloaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.errors import InputError
from s2sr_core.fields import Stage
from s2sr_core.products.safe import Product, read_product, safe_folders
from s2sr_core.sources.source import FoundProduct


@dataclass(frozen=True, slots=True)
class Archive:
    """Every product below ``folder``, which is only read."""

    folder: Path

    @property
    def fetches(self) -> bool:
        return False

    def check(self, stage: Stage) -> None:
        """Nothing: that the folder exists was checked with the parameters."""

    def find(self, cells: Sequence[Gridcell], start: datetime, end: datetime) -> Iterator[FoundProduct[Product]]:
        """All products below the folder, whatever they show; their files are read only if they are described.

        Raises
        ------
        InputError
            If there is none at all.
        """
        path = None
        for path in safe_folders(self.folder):
            yield FoundProduct(path.name.removesuffix(".SAFE"), partial(read_product, path), path)
        if path is None:
            raise self._empty()

    def _empty(self) -> InputError:
        return InputError("source", self.folder, "holds no .SAFE product", "give the folder that holds them")

    def fetch(self, product: Product, bands: Sequence[str]) -> int:
        """Nothing: all that can be had is there."""
        return 0

    def open(self, product: Product) -> Product:
        return product


@dataclass(frozen=True, slots=True)
class Downloaded(Archive):
    """What an earlier run downloaded into its folder, for the stage that composites it."""

    def _empty(self) -> InputError:
        return InputError("stage", "composite", f"finds no product in {self.folder}", "download some first")
