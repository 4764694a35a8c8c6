"""What a source of products is: where they are found, and how they get onto the disk of a run.

A new source is a package next to ``archive`` and ``cdse``, and a line in :func:`s2sr_core.sources.source_of`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from shapely import MultiPolygon, Polygon

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.fields import Stage
from s2sr_core.geo.lattice import Window
from s2sr_core.products.names import ProductName
from s2sr_core.products.safe import Product

#: Folders of letters, digits, ``.``, ``_`` and ``-`` below a bucket; none of them leads upwards.
_S3_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._-]{1,255}){2,20}")


class ProductDescription(Protocol):
    """What is said of a product, on disk or in a catalogue, before a pixel of it is read.

    ``cloud_cover`` is in percent, ``footprint`` in EPSG:4326; each is None if it is not known.
    """

    @property
    def name(self) -> ProductName: ...
    @property
    def cloud_cover(self) -> float | None: ...
    @property
    def footprint(self) -> Polygon | MultiPolygon | None: ...


@dataclass(frozen=True, slots=True)
class RemoteProduct:
    """A product that has to be fetched, as its source describes it: one row of the query manifest.

    Attributes
    ----------
    id: what the source calls it.
    size: bytes of the whole product; 0 if the source does not know.
    cloud_cover: percent, None if the source does not say.
    online: whether its bytes can be had.
    footprint: EPSG:4326, None if the source gives none that can be used.
    s3_path: ``/<bucket>/<folders>/<name>.SAFE`` in an object storage or below a mount; empty if there is none.
    """

    id: str
    name: ProductName
    size: int
    cloud_cover: float | None
    online: bool
    footprint: Polygon | MultiPolygon | None
    s3_path: str = ""


def s3_path_of(name: ProductName, path: object) -> str:
    """``path`` if it can be that of the product ``name``, else empty: it becomes part of addresses and of paths."""
    is_usable = isinstance(path, str) and _S3_PATH.fullmatch(path) and path.rpartition("/")[2] == name.folder
    return str(path) if is_usable else ""


@dataclass(frozen=True, slots=True)
class UnusableEntry:
    """Something a source lists that cannot be used, with the reason; ``title`` may be empty.

    ``is_other_kind`` says that nothing is wrong with it: it is a product of another kind, and is left out.
    """

    id: str
    title: str
    reason: str
    is_other_kind: bool = False


@dataclass(frozen=True, slots=True)
class FoundProduct[P: ProductDescription]:
    """A product that a source found.

    Attributes
    ----------
    title: its name without ``.SAFE``, or what stands in its place.
    describe: gives its description, or raises ProductError or OSError. It is called only if the name does not rule the
        product out, so it may read files.
    name: its name taken apart, if the source has done it.
    path: its folder, or the archive file that holds it; None if it is not on disk.
    unavailable: why its bytes cannot be had; empty if they can.
    without_bands: whether this copy has SCL and no band at all. It is called only if the product counts otherwise.
    lacking: which images of SCL and the given bands this copy lacks, empty if none. It is called only if a source
        has more than one copy of the product.
    """

    title: str
    describe: Callable[[], P]
    path: Path | None = None
    name: ProductName | None = None
    unavailable: str = ""
    without_bands: Callable[[P], bool] = lambda _product: False
    lacking: Callable[[P, Sequence[str]], Sequence[str]] = lambda _product, _bands: ()


class Source[P: ProductDescription](Protocol):
    """Where the products of a run come from; ``P`` is how it describes them.

    A source is a small value that can be pickled: sessions and open files are made when they are needed. Its methods
    are called from several threads at once.
    """

    @property
    def folder(self) -> Path:
        """Where its products are on disk, as ``<name>.SAFE``, once they are fetched."""
        ...

    @property
    def fetches(self) -> bool:
        """Whether products must be fetched before they can be opened. If not, :meth:`fetch` is never called."""
        ...

    def check(self, stage: Stage) -> None:
        """Look at what can be known before any work starts.

        Raises
        ------
        InputError
            If ``stage`` cannot work with this source: an account that is missing, something that is not an address.
        """
        ...

    def find(
        self, cells: Sequence[Gridcell], start: datetime, end: datetime
    ) -> Iterator[FoundProduct[P] | UnusableEntry]:
        """Every product that may touch ``cells`` with start ≤ sensing time < end, in any order.

        More may be given than was asked for: each is judged by its name and description.

        Raises
        ------
        InputError
            If what the user named holds no product at all.
        SourceError
            If the source refuses to answer, keeps failing, or is out of reach.
        """
        ...

    def begin(self, products: Sequence[P]) -> None:
        """Called once by a run, before it fetches any of ``products``, which are all that it may fetch.

        Raises
        ------
        InputError
            If none can be had, because of what the user gave.
        """
        ...

    def fetch(self, product: P, bands: Sequence[str], windows: Sequence[Window] | None = None) -> int:
        """Complete the product's metadata, SCL and ``bands`` below :attr:`folder`; returns the bytes that came.

        What is there and right is not fetched again. ``windows`` are the pixels of the bands that count: a source may
        leave the others out (:mod:`s2sr_core.products.partial_images`). None wants whole images.

        Raises
        ------
        ProductError
            If this product cannot be had. The step ``connection`` asks for another attempt later.
        InputError
            If no product can be had, because of what the user gave.
        SourceDownError
            If the source is out of reach for longer than the run waits.
        """
        ...

    def open(self, product: P) -> Product:
        """The product as it is on disk.

        Raises
        ------
        ProductError
            If its files cannot be used.
        """
        ...
