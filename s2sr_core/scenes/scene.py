"""Scenes: products whose images were opened and whose VRTs are written; what phase 1 hands to phase 2."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shapely import MultiPolygon, Polygon

from s2sr_core.errors import ProductError
from s2sr_core.geo.lattice import Lattice, Window
from s2sr_core.geo.raster_grid import RasterGrid
from s2sr_core.products.safe import BandFile, Product

#: Note of scenes of which an image was not compared with its checksum.
NOT_CHECKED = "images were not compared with the checksums of the manifest"


@dataclass(frozen=True, slots=True)
class WarpedPiece:
    """A warped VRT and the window of the lattice that it holds."""

    path: Path
    lattice: Lattice
    window: Window


@dataclass(frozen=True, slots=True)
class SceneBand:
    """One band of a scene, ready for stacks.

    Attributes
    ----------
    file: the image.
    offset: DN added to harmonise it.
    masked: the masked VRT, on the scene's own grid.
    pieces: its warped VRTs; more than one if the scene crosses ±180 or each cell has its own lattice.
    """

    file: BandFile
    offset: int
    masked: Path
    pieces: tuple[WarpedPiece, ...]

    def piece_for(self, lattice: Lattice, window: Window) -> WarpedPiece | None:
        """The piece that holds pixels of ``window``, if any; at most one does."""
        return next((piece for piece in self.pieces if piece.lattice == lattice and piece.window & window), None)


@dataclass(frozen=True, slots=True)
class GivenMask:
    """The user's own mask of a scene.

    Attributes
    ----------
    file, checksum: as it was given; ``sha256:…`` of its bytes.
    raster: UInt8 on the scene's grid, 0 where it is clear; None if no pixel of the scene counts even without it.
    """

    file: Path
    checksum: str
    raster: Path | None


@dataclass(frozen=True, slots=True)
class Scene:
    """A product that phase 1 prepared.

    Attributes
    ----------
    product: as its files describe it.
    grid: of its bands' images.
    outline: of its raster (EPSG:4326), nodata included.
    scale: lattice pixels per pixel of its images, along x and y.
    occupancy: the file that says which of its pixels count; None if the run only downloads.
    scl: the scene classification's file.
    valid_share: share of its pixels in and next to the selected cells that SCL, and the user's mask if there is one,
        leave unmasked, 0 … 1.
    cells: ids of the selected cells that share area with the outline.
    bands: those that can be used.
    is_not_needed: whether its bands may be missing, because SCL masks all that its cells see of it.
        Its ``bands`` are then as the product lists them, and none of their VRTs is written.
    notes: what is odd about its images but not wrong, for the scene index.
    given_mask: the user's own mask; None if there is none.
    scl_factor: how many pixels of its bands a pixel of SCL is wide and high.
    has_others: whether there are other products of its observation, or other copies of it.
    """

    product: Product
    grid: RasterGrid
    outline: Polygon | MultiPolygon
    scale: tuple[float, float]
    occupancy: Path | None
    scl: BandFile
    valid_share: float
    cells: tuple[str, ...]
    bands: tuple[SceneBand, ...]
    is_not_needed: bool = False
    notes: tuple[str, ...] = ()
    given_mask: GivenMask | None = None
    scl_factor: int = 1
    has_others: bool = False

    def band(self, name: str) -> SceneBand | None:
        return next((band for band in self.bands if band.file.band == name), None)

    @property
    def is_not_checked(self) -> bool:
        """Whether an image of it may differ from what the product's manifest describes."""
        return NOT_CHECKED in self.notes

    @property
    def not_needed_because(self) -> str:
        """Why its bands are not needed."""
        seen = "SCL leaves none of its pixels unmasked in the selected gridcells"
        return seen if self.cells else "its images touch no selected gridcell"

    def bytes_not_needed(self) -> int:
        """Size of the bands that are not there because they are not needed."""
        return sum(band.file.size for band in self.bands if self.is_not_needed and not band.file.path.exists())


@dataclass(frozen=True, slots=True)
class Preparation:
    """The result of phase 1 for one product: a scene unless it failed, and every error."""

    product: str
    scene: Scene | None
    errors: tuple[ProductError, ...]
