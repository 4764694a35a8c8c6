"""A source of products that is none of the program's: arrays in a dictionary, written when they are fetched."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import shapely
from support.independent import RawScene

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.errors import ProductError, Step
from s2sr_core.geo.lattice import Window
from s2sr_core.parameters import Stage
from s2sr_core.products.names import ProductName
from s2sr_core.products.safe import Product, read_product
from s2sr_core.sources.source import FoundProduct, RemoteProduct, UnusableEntry
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.products import write_product


@dataclass(frozen=True)
class Shelf:
    """Products on one ``grid``: each band's pixels by product name; one without pixels cannot be had."""

    products: Mapping[ProductName, Mapping[str, RawScene]]
    grid: Grid
    folder: Path

    @property
    def fetches(self) -> bool:
        return True

    def check(self, stage: Stage) -> None:
        """There is nothing that could be missing."""

    def find(
        self, cells: Sequence[Gridcell], start: datetime, end: datetime
    ) -> Iterator[FoundProduct[RemoteProduct] | UnusableEntry]:
        yield UnusableEntry("dust", "", "is not a product")
        for name in self.products:
            product = RemoteProduct(str(name), name, 0, None, online=True, footprint=shapely.box(-150, 68, -149, 69))
            yield FoundProduct(str(name), lambda product=product: product)

    def begin(self, products: Sequence[RemoteProduct]) -> None:
        """There is nothing to prepare."""

    def fetch(self, product: RemoteProduct, bands: Sequence[str], windows: Sequence[Window] | None = None) -> int:
        """Write the whole product elsewhere, and keep metadata, SCL and ``bands`` of it."""
        scenes = self.products[product.name]
        if not scenes:
            raise ProductError(product.id, "it fell off the shelf", step=Step.DOWNLOAD)
        target, size = self.folder / product.name.folder, 0
        arrays = {band: scene.dn for band, scene in scenes.items()}
        scl = next(iter(scenes.values())).scl
        with TemporaryDirectory() as elsewhere:
            whole = write_product(Path(elsewhere), product.name, self.grid, arrays, scl)
            for path in whole.rglob("*"):
                copy = target / path.relative_to(whole)
                band = path.stem.split("_")[-2] if path.suffix == ".jp2" else ""
                if path.is_file() and not copy.exists() and band in ("", "SCL", *bands):
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, copy)
                    size += path.stat().st_size
        return size

    def open(self, product: RemoteProduct) -> Product:
        return read_product(self.folder / product.name.folder)


def covered(scene: RawScene, scl_class: int) -> RawScene:
    """``scene``, of which SCL says the same everywhere."""
    return RawScene(scene.dn, np.full_like(scene.scl, scl_class), scene.crs, scene.geotransform, scene.offset)
