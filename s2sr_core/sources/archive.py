"""Products that are on disk already: a folder of .SAFE trees, and what an earlier run downloaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.errors import InputError
from s2sr_core.fields import Stage
from s2sr_core.files import shown
from s2sr_core.geo.lattice import Window
from s2sr_core.products.bands import RESOLUTION
from s2sr_core.products.names import product_named_in
from s2sr_core.products.safe import Product, has_scl_alone, lacking, product_paths, read_product, title_of
from s2sr_core.sources.source import FoundProduct, UnusableEntry


@dataclass(frozen=True, slots=True)
class OnDisk:
    """Products that are read where they are: what all sources of this kind have in common.

    Attributes
    ----------
    folder: what they lie in, which is only read.
    resolution: of the bands that are wanted, metres.
    """

    folder: Path
    resolution: int = RESOLUTION

    @property
    def fetches(self) -> bool:
        return False

    def found(
        self, title: str, path: Path | None, describe: Callable[[], Product], **known: Any
    ) -> FoundProduct[Product]:
        """What is found there; ``known`` are more fields of it."""
        missing = partial(lacking, resolution=self.resolution)
        return FoundProduct(title, describe, path, without_bands=self._without_bands, lacking=missing, **known)

    def _without_bands(self, product: Product) -> bool:
        return has_scl_alone(product, self.resolution)

    def begin(self, products: Sequence[Product]) -> None:
        """Nothing: all that can be had is there."""

    def fetch(self, product: Product, bands: Sequence[str], windows: Sequence[Window] | None = None) -> int:
        """Nothing: all that can be had is there."""
        return 0

    def open(self, product: Product) -> Product:
        return product


@dataclass(frozen=True, slots=True)
class Archive(OnDisk):
    """Every product below the folder.

    Packed products (zip, tar …) are found too, but cannot be described: each says that it must be unpacked. Of products
    of which nothing is there but files or folders that are named after them, there is an entry with the reason.
    """

    def check(self, stage: Stage) -> None:
        """Nothing: that the folder exists was checked with the parameters."""

    def find(
        self, cells: Sequence[Gridcell], start: datetime, end: datetime
    ) -> Iterator[FoundProduct[Product] | UnusableEntry]:
        """All products below the folder, whatever they show; their files are read only if they are described.

        Raises
        ------
        InputError
            If there is none at all.
        """
        there: set[str | None] = set()
        others: dict[str | None, Path] = {}
        for path in product_paths(self.folder, lambda other: others.setdefault(product_named_in(other.name), other)):
            title = shown(title_of(path))
            there.add(product_named_in(title))
            yield self.found(title, path, partial(read_product, path))
        for product, other in others.items():
            if product not in there:
                reason = f"is not there as a product; {other.relative_to(self.folder)} is only named after it"
                yield UnusableEntry(str(product), str(product), shown(reason), is_other_kind=True)
        if not (there or others):
            raise self._empty()

    def _empty(self) -> InputError:
        return InputError("source", self.folder, "holds no .SAFE product", "give the folder that holds them")


@dataclass(frozen=True, slots=True)
class Downloaded(Archive):
    """What an earlier run downloaded into its folder, for the stage that composites it."""

    def _without_bands(self, product: Product) -> bool:
        """SCL decides whether its bands are needed, and if they are, they have to be downloaded."""
        return False

    def _empty(self) -> InputError:
        return InputError("stage", "composite", f"finds no product in {self.folder}", "download some first")
