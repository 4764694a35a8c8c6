"""Every parameter of a run: type, bounds, default, unit and description, checked before any work.

:class:`RunParameters` is the single source for the command line, the flow's signature, Prefect's form and the API.
The types carry their checks, so whatever is built from the fields alone (a JSON schema, a function's signature)
refuses what the model refuses; only rules between fields are the model's own.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.errors import InputError
from s2sr_core.geo.lattice import Bounds, Lattice
from s2sr_core.pixels.rules import SCL_CLASSES
from s2sr_core.products.names import is_tile
from s2sr_core.workspace import Workspace

#: 20 m of latitude at 69° N in degrees of the grid used for pan-Arctic mapping.
DEFAULT_TR = 0.000179663056824

_MONTHS = re.compile(r"(0?[1-9]|1[0-2])(?:-(0?[1-9]|1[0-2]))?")
_BASELINE = re.compile(r"[0-9]{2}\.[0-9]{2}")

Band = Literal["B02", "B03", "B04", "B05", "B06", "B07", "B8A", "B11", "B12"]
Resampling = Literal["bilinear", "nearest", "cubic"]
EngineName = Literal["fast", "reference"]
Stage = Literal["all", "query", "download", "composite"]
ClusterName = Literal["local", "mpi", "slurm", "pbs", "lsf", "sge", "oar", "htcondor"]


def _check_bbox(bbox: Bounds) -> Bounds:
    xmin, ymin, xmax, ymax = bbox
    if not (-180 <= xmin <= 180 and -180 <= xmax <= 180):
        raise ValueError("longitudes must be −180 … 180; write xmin ymin xmax ymax in degrees")
    if not (-90 <= ymin <= 90 and -90 <= ymax <= 90):
        raise ValueError("latitudes must be −90 … 90; write xmin ymin xmax ymax in degrees")
    if xmin == xmax or (xmin, xmax) == (180, -180) or ymin >= ymax:
        raise ValueError("holds no area; write xmin ymin xmax ymax (only xmin > xmax is meant: across ±180)")
    return bbox


def _parse_time(value: Any) -> Any:
    """A date means its midnight; digits alone are no time."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value.strip())
        except ValueError as error:
            raise ValueError("is no ISO time; write 2019-06-01 or 2019-06-01T00:00:00Z") from error
    if isinstance(value, datetime):
        return value
    raise ValueError("is no ISO time; write 2019-06-01 or 2019-06-01T00:00:00Z")


def _to_utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("is no time of UTC's years 1 to 9999; write 2019-06-01 or 2019-06-01T00:00:00Z") from error


def _parse_months(value: Any) -> Any:
    """``6-8``, ``11-2`` or ``6 7 8`` as a sorted list of months."""
    if value is None:
        return None
    items = value if isinstance(value, list | tuple | set) else [value]
    months: set[int] = set()
    for item in " ".join(map(str, items)).replace(",", " ").split():
        match = _MONTHS.fullmatch(item)
        if match is None:
            raise ValueError(f"{item!r} is neither a month (1 to 12) nor a span of months; write 6-8, or 6 7 8")
        low, high = int(match[1]), int(match[2] or match[1])
        months.update(range(low, high + 1) if low <= high else [*range(low, 13), *range(1, high + 1)])
    if not months:
        raise ValueError("name no month; write 6-8, or leave it out")
    return sorted(months)


def _check_tiles(tiles: list[str] | None) -> list[str] | None:
    if tiles is None:
        return None
    if not tiles:
        raise ValueError("name no tile; write one like 05WPM, or leave it out")
    cleaned = sorted({tile.upper().removeprefix("T") for tile in tiles})
    for tile in cleaned:
        if not is_tile(tile):
            raise ValueError(f"{tile!r} is no MGRS tile; write one like 05WPM")
    return cleaned


def _check_dilation(dilation: dict[int, float]) -> dict[int, float]:
    for value, metres in dilation.items():
        if value not in SCL_CLASSES:
            raise ValueError(f"{value} is no SCL class; give classes of 0 to 11")
        if not 0 < metres <= 5000:
            raise ValueError(f"{metres:g} m for class {value} is not above 0 and at most 5000; write it like 9=100")
    return dilation


def _check_baseline(baseline: str) -> str:
    if not _BASELINE.fullmatch(baseline):
        raise ValueError("is no processing baseline; write one like 05.00")
    return baseline


def _check_bands(bands: list[Band]) -> list[Band]:
    if not bands:
        raise ValueError("name no band; write at least one like B04")
    return list(dict.fromkeys(bands))


def _expand(path: Path) -> Path:
    try:
        if "\0" not in str(path):
            return path.expanduser().absolute()
    except RuntimeError:  # ~name of nobody on this machine
        pass
    raise ValueError("is no path here; give one without ~")


def _check_source(path: Path) -> Path:
    if not path.is_dir():
        raise ValueError("is no folder; give the folder that holds .SAFE products")
    return path


Bbox = Annotated[tuple[float, float, float, float], AfterValidator(_check_bbox)]
Time = Annotated[datetime, BeforeValidator(_parse_time), AfterValidator(_to_utc)]
Baseline = Annotated[
    str, AfterValidator(_check_baseline), WithJsonSchema({"type": "string", "pattern": r"^[0-9]{2}\.[0-9]{2}$"})
]
PixelSize = Annotated[float, Field(ge=1e-6, le=10.0)]
ExpandedPath = Annotated[Path, AfterValidator(_expand)]


class RunParameters(BaseModel):
    """Parameters of one run, in the order a form shows them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bbox: Annotated[
        Bbox, Field(description="Area of interest: xmin ymin xmax ymax, degrees (WGS84); xmin > xmax crosses ±180.")
    ]
    grid_csv: Annotated[
        ExpandedPath,
        Field(description="CSV of gridcells: cell_id (or id) and geometry (or wkt), or xmin, ymin, xmax, ymax; WGS84."),
    ]
    start: Annotated[Time, Field(description="First sensing time, inclusive; ISO, UTC unless it says otherwise.")]
    end: Annotated[Time, Field(description="Sensing time before which to stop, exclusive; ISO, UTC.")]
    work_dir: Annotated[ExpandedPath, Field(description="Folder of the run: indices, logs, tmp and composites.")]
    source: Annotated[
        Annotated[ExpandedPath, AfterValidator(_check_source)] | None,
        Field(
            description="Folder of .SAFE products, searched recursively and only read; without it products are queried "
            "and downloaded from Copernicus Data Space."
        ),
    ] = None
    stage: Annotated[
        Stage,
        Field(
            description="What to do: all; or query, download or composite alone, on one work_dir. Composite uses what "
            "was downloaded and needs no network."
        ),
    ] = "all"
    download_connections: Annotated[
        int, Field(ge=1, le=64, description="Byte connections to CDSE at once; an account may have 4.")
    ] = 4
    scl_first: Annotated[
        bool,
        Field(
            description="Download SCL of all products first, then the bands only of those that have an unmasked pixel "
            "in the selected gridcells; means something without source only."
        ),
    ] = True
    bands: Annotated[
        list[Band],
        AfterValidator(_check_bands),
        Field(min_length=1, description="20 m bands to composite; SCL is always read."),
    ] = ["B02", "B03", "B04"]
    tr: Annotated[
        tuple[PixelSize, PixelSize],
        Field(description="Output pixel size: longitude latitude, degrees (1e-6 to 10)."),
    ] = (DEFAULT_TR, DEFAULT_TR)
    tap: Annotated[
        bool,
        Field(
            description="Align pixels to multiples of the pixel size from 0/0, so that neighbouring cells fit; without "
            "it each cell's pixels start at its own north-west corner."
        ),
    ] = False
    resampling: Annotated[Resampling, Field(description="Kernel of the warp to WGS84.")] = "bilinear"
    max_cloud_cover: Annotated[
        float | None, Field(ge=0, le=100, description="Leave out products with more cloud cover, percent.")
    ] = None
    months: Annotated[
        list[Annotated[int, Field(ge=1, le=12)]] | None,
        BeforeValidator(_parse_months),
        Field(description="Months of the window that count, e.g. 6-8; all by default."),
    ] = None
    tiles: Annotated[
        list[str] | None, AfterValidator(_check_tiles), Field(description="Only these MGRS tiles, e.g. 05WPM.")
    ] = None
    min_baseline: Annotated[
        Baseline | None, Field(description="Leave out products of an older processing baseline, e.g. 05.00.")
    ] = None
    keep_duplicates: Annotated[
        bool, Field(description="Count every product, also those that repeat a sensing time and tile.")
    ] = False
    scl_mask: Annotated[
        list[Annotated[int, Field(ge=0, le=11)]],
        AfterValidator(lambda values: sorted(set(values))),
        Field(description="SCL classes to mask (0 to 11); an unknown class is masked always."),
    ] = [0, 1, 2, 3, 7, 8, 9, 10, 11]
    scl_dilation: Annotated[
        dict[int, float],
        AfterValidator(_check_dilation),
        Field(description="Widen the mask of SCL classes: metres by class, e.g. 9=100 3=60; none by default."),
    ] = {}
    count: Annotated[
        bool, Field(description="Write the number of values behind each pixel beside each composite (UInt16).")
    ] = False
    quicklook: Annotated[bool, Field(description="Draw a PNG of each cell beside its composites.")] = False
    overwrite: Annotated[bool, Field(description="Compute every composite anew, also those that are up to date.")] = (
        False
    )
    keep_tmp: Annotated[bool, Field(description="Keep tmp/ (VRTs and intermediates) when the run ends.")] = False
    engine: Annotated[EngineName, Field(description="How pixels are computed; every engine gives the same.")] = "fast"
    workers: Annotated[
        int | None, Field(ge=1, le=1024, description="Dask workers on this machine; one a core by default.")
    ] = None
    cluster: Annotated[
        ClusterName,
        Field(description="Where workers run: this machine, the ranks of mpirun, or jobs of a batch system."),
    ] = "local"
    site: Annotated[
        ExpandedPath | None, Field(description="YAML file with the settings of the batch system (docs/hpc.md).")
    ] = None

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.start >= self.end:
            raise InputError(
                "start",
                self.start.isoformat(),
                f"is not before end ({self.end.isoformat()})",
                "give an earlier start or a later end",
            )
        if self.source is not None and self.stage in ("query", "download"):
            raise InputError("stage", self.stage, "has nothing to do where source is given", "leave one of them out")
        if self.site is not None and self.cluster == "local":
            raise InputError("site", self.site, "is of no use on this machine alone", "give --cluster as well")
        if set(self.scl_mask) >= set(SCL_CLASSES):
            raise InputError("scl_mask", self.scl_mask, "masks every class", "leave out the clear ones, 4 5 6")
        if clear := sorted(set(self.scl_dilation) - set(self.scl_mask)):
            raise InputError(
                "scl_dilation", clear, "widens the mask of a class that is not masked", "add it to scl_mask as well"
            )
        return self

    @property
    def archive(self) -> Path:
        """The folder of products that the run reads."""
        return self.source or Workspace(self.work_dir).imagery_raw

    @property
    def may_lack_bands(self) -> bool:
        """Whether bands may be missing of products whose SCL masks all that the selected cells see of them."""
        return self.scl_first and self.source is None

    @property
    def is_offline(self) -> bool:
        """Whether products are there, in :attr:`archive`, and nothing is asked of CDSE."""
        return self.source is not None or self.stage == "composite"

    @property
    def lattice(self) -> Lattice:
        """The lattice all cells share under ``tap``; without it, its pixel size alone means something."""
        return Lattice(*self.tr)

    def lattice_of(self, cell: Gridcell) -> Lattice:
        """The lattice of a cell: the common one, or one anchored at its xmin/ymax."""
        if self.tap:
            return self.lattice
        xmin, _, _, ymax = cell.bounds
        return Lattice(*self.tr, x_anchor=xmin, y_anchor=ymax)
