"""The parameters of a run and of a grid: type, bounds, default, unit and description, checked before any work.

The models are the single source for the command lines, the flows' signatures, Prefect's forms and the API. Fields stand
in the order of their groups, those that are required first. Only rules between fields are the models' own: the others
stand with the types in :mod:`s2sr_core.fields`.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from s2sr_core.errors import InputError
from s2sr_core.fields import (
    PIXELS_IN_DEGREES,
    PIXELS_IN_UNITS,
    Access,
    Bands,
    Baseline,
    Bbox,
    Checking,
    ClusterName,
    Crs,
    DownloadMode,
    EngineName,
    Every,
    ExpandedPath,
    Group,
    GroupBy,
    Layers,
    MaskValues,
    MetresByClass,
    Months,
    PixelSizes,
    Resampling,
    Resolution,
    Scheduler,
    SclClasses,
    Shown,
    SourceFolder,
    Stage,
    Statistics,
    Tiles,
    Time,
    WorkFolder,
)
from s2sr_core.files import check_exists, check_folder, check_readable, check_writable
from s2sr_core.geo.lattice import WGS84, Bounds, Lattice
from s2sr_core.periods import MOST_PERIODS, Period, periods_of
from s2sr_core.pixels.scl import MASKED_BY_DEFAULT, SCL_CLASSES
from s2sr_core.pixels.statistic_names import JOINT_STATISTICS, in_files
from s2sr_core.products.bands import RESOLUTION, bands_at
from s2sr_core.workspace import Workspace

#: 20 m of latitude at 69° N in degrees, the pixel size of pan-Arctic mapping.
DEFAULT_TR = 0.000179663056824


def default_pixel_size(crs: str, resolution: int = RESOLUTION) -> tuple[float, float]:
    """The pixel size of composites unless another is asked for: of the images of ``resolution`` metres, in ``crs``."""
    size = DEFAULT_TR if crs == WGS84 else 20.0
    return (size * resolution / RESOLUTION, size * resolution / RESOLUTION)


class Outlined(Protocol):
    """A place with an outline, such as a gridcell."""

    def bounds_in(self, crs: str) -> Bounds:
        """Its bounds in units of ``crs``."""


class RunParameters(BaseModel):
    """Parameters of one run, in the order in which forms and help show them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bbox: Annotated[
        Bbox,
        Shown(Group.WHAT, "XMIN YMIN XMAX YMAX"),
        Field(
            description="Area of interest: west, south, east and north, degrees (WGS84). Every gridcell that shares "
            "area with it is composited, whole. A box with west > east crosses the antimeridian (±180), and may be "
            "180° wide; for a wider one add 360 to east."
        ),
    ]
    grid_csv: Annotated[
        ExpandedPath,
        Shown(Group.WHAT, "FILE"),
        Field(
            description="CSV of gridcells, as s2sr-make-grid, QGIS, Excel, PostGIS or geopandas writes it: cell_id (or "
            "id), and geometry (or wkt) as WKT or xmin, ymin, xmax, ymax; degrees (WGS84)."
        ),
    ]
    start: Annotated[
        Time,
        Shown(Group.WHAT, "TIME"),
        Field(
            description="Start of the time window, inclusive: sensing time in ISO 8601, UTC unless it has an offset; "
            "2019-06-01 or 2019-06-01T00:00:00Z."
        ),
    ]
    end: Annotated[Time, Shown(Group.WHAT, "TIME"), Field(description="End of the time window, exclusive.")]
    work_dir: Annotated[
        WorkFolder,
        Shown(Group.WHAT, "DIR"),
        Field(
            description="Folder of the run, created if it does not exist: downloads, tables, logs and composites. One "
            "run at a time uses it."
        ),
    ]
    bands: Annotated[
        Bands,
        Shown(Group.WHAT, "BAND"),
        Field(
            description="Bands to composite, of B02 B03 B04 B05 B06 B07 B8A B11 B12 or, with resolution 10, of B02 B03 "
            "B04 B08. SCL is always read."
        ),
    ] = ["B02", "B03", "B04"]
    resolution: Annotated[
        Resolution,
        Shown(Group.WHAT, "METRES"),
        Field(description="Pixels of the images that are used, metres: 20 or 10. SCL is always the one of 20 m."),
    ] = 20

    source: Annotated[
        SourceFolder | None,
        Shown(Group.PRODUCTS, "DIR"),
        Field(
            description="Folder of .SAFE products, searched recursively and only read. Without it, products are "
            "queried and downloaded from Copernicus Data Space (CDSE)."
        ),
    ] = None
    access: Annotated[
        Access,
        Shown(Group.PRODUCTS, "ROAD"),
        Field(
            description="How the bytes of products come from CDSE: odata (user name and password), s3 (S3 keys), or "
            "mount (read in place where the archive is mounted, /eodata). auto is s3 if there are keys for CDSE, else "
            "odata. Has no effect if source is given."
        ),
    ] = "auto"
    download: Annotated[
        DownloadMode,
        Shown(Group.PRODUCTS, "WHAT"),
        Field(
            description="What of a band is downloaded: whole images; ranges, the JPEG 2000 tiles with a pixel that "
            "counts; or auto, ranges if they save a quarter at least (three quarters before baseline 05.12). With "
            "stage download, or without SCL first, images come whole. No checksum covers ranges."
        ),
    ] = "auto"
    months: Annotated[
        Months,
        Shown(Group.PRODUCTS, "MONTH"),
        Field(description="Months to use, in every year of the time window: 6-8, 6 7 8 or 11-2. Default: all."),
    ] = None
    every: Annotated[
        Every,
        Shown(Group.PRODUCTS, "PERIOD"),
        Field(
            description="Cut the time window into periods, each with composites of its own: year, month, season (three "
            "months, from December on) or a number of days, 10d. Default: one composite of the whole window."
        ),
    ] = None
    tiles: Annotated[
        Tiles, Shown(Group.PRODUCTS, "TILE"), Field(description="MGRS tiles to use, e.g. 05WPM. Default: all.")
    ] = None
    min_baseline: Annotated[
        Baseline | None,
        Shown(Group.PRODUCTS, "NN.NN"),
        Field(description="Lowest processing baseline to use, e.g. 05.00. Default: any."),
    ] = None
    max_cloud_cover: Annotated[
        float | None,
        Shown(Group.PRODUCTS, "PERCENT"),
        Field(ge=0, le=100, description="Highest cloud cover to use, percent of the product. Default: any."),
    ] = None
    keep_duplicates: Annotated[
        bool,
        Shown(Group.PRODUCTS),
        Field(description="Use every product, also those that repeat a sensing time and tile."),
    ] = False
    scl_first: Annotated[
        bool,
        Shown(Group.PRODUCTS),
        Field(
            description="Download SCL of all products first, then bands only of those with an unmasked pixel in the "
            "selected gridcells. Has no effect if source is given."
        ),
    ] = True
    imagery: Annotated[
        ExpandedPath | None,
        Shown(Group.PRODUCTS, "DIR"),
        Field(
            description="Folder of downloaded products, which any number of runs may share, also at the same time. "
            "Default: imagery_raw in the work folder. Has no effect if source is given."
        ),
    ] = None
    check_files: Annotated[
        Checking,
        Shown(Group.PRODUCTS, "WHEN"),
        Field(
            description="When to compare images with the checksums of their manifest: once (again when a file "
            "changed), always or never. Downloads are always compared when they come."
        ),
    ] = "once"
    download_connections: Annotated[
        int,
        Shown(Group.PRODUCTS, "N"),
        Field(ge=1, le=64, description="Simultaneous downloads from CDSE; an account is allowed 4."),
    ] = 4

    scl_mask: Annotated[
        SclClasses,
        Shown(Group.METHOD, "CLASS"),
        Field(
            description="SCL classes to mask, by number from 0 to 11 or by name: 9 cloud_shadow. Or none. A value that "
            "is not a class is always masked."
        ),
    ] = list(MASKED_BY_DEFAULT)
    scl_opening: Annotated[
        MetresByClass,
        Shown(Group.METHOD, "CLASS=METRES"),
        Field(
            description="Keep specks of these SCL classes: mask only what a disc of this radius fits into, up to "
            "5000 m: 8=40 cloud_shadow=40. Comes before the dilation. Default: none."
        ),
    ] = {}
    scl_min_size: Annotated[
        float,
        Shown(Group.METHOD, "METRES2"),
        Field(
            ge=0,
            le=40_000,
            allow_inf_nan=False,
            description="Keep small patches: mask only connected pixels of masked classes that cover at least so many "
            "square metres, up to 40000; 2000 is five pixels of 20 m. Comes before the dilation. Default: any size.",
        ),
    ] = 0.0
    scl_dilation: Annotated[
        MetresByClass,
        Shown(Group.METHOD, "CLASS=METRES"),
        Field(description="Dilate the mask of these SCL classes, up to 5000 m: 9=100 3=60. Default: none."),
    ] = {}
    mask_dir: Annotated[
        ExpandedPath | None,
        Shown(Group.METHOD, "DIR"),
        Field(
            description="Folder of masks of your own, one GeoTIFF per product, whose name begins with the product's. "
            "Pixels that either it or scl_mask rules out are masked. A product without one is not used. Default: none."
        ),
    ] = None
    mask_clear: Annotated[
        MaskValues,
        Shown(Group.METHOD, "VALUE"),
        Field(description="Values of the masks in mask_dir that mean clear; all others, and nodata, are masked."),
    ] = [0]
    statistic: Annotated[
        Statistics,
        Shown(Group.METHOD, "STATISTIC"),
        Field(
            description="What the values of the scenes become, one or several: median percentile:25. Of median, mean, "
            "percentile:N (percentile:25 is p25 in file names), medoid and geomedian (of all bands together). The "
            "first one is listed and drawn."
        ),
    ] = ["median"]
    min_count: Annotated[
        int,
        Shown(Group.METHOD, "N"),
        Field(ge=1, le=1000, description="Fewest valid values of a pixel; with fewer it is nodata, but for the count."),
    ] = 1
    group_by: Annotated[
        GroupBy,
        Shown(Group.METHOD, "WHAT"),
        Field(
            description="What counts as one observation: granule, or datatake, with which tiles of one pass that "
            "overlap count once (the first one by name that has a valid value)."
        ),
    ] = "granule"
    resampling: Annotated[
        Resampling,
        Shown(Group.METHOD, "METHOD"),
        Field(description="Resampling of the warp to the crs: bilinear, nearest or cubic."),
    ] = "bilinear"
    engine: Annotated[
        EngineName,
        Shown(Group.METHOD, "NAME"),
        Field(description="How pixels are computed: fast, or reference, which is slow and gives the same pixels."),
    ] = "fast"

    crs: Annotated[
        Crs,
        Shown(Group.OUTPUT, "EPSG:CODE"),
        Field(
            description="Coordinate system of the composites: EPSG:4326 (longitude and latitude) or any projected one, "
            "e.g. EPSG:3413 (polar) or EPSG:32606 (UTM). Gridcells stay polygons in longitude and latitude."
        ),
    ] = WGS84
    tr: Annotated[
        PixelSizes | None,
        Shown(Group.OUTPUT, "WIDTH HEIGHT"),
        Field(
            description="Pixel size of the composites: width and height, in degrees (1e-6 to 10) or in units of the "
            f"projected crs (0.1 to 100000). Default: {DEFAULT_TR} degrees, or 20; half of it with resolution 10."
        ),
    ] = None
    tap: Annotated[
        bool,
        Shown(Group.OUTPUT),
        Field(
            description="Align pixels to multiples of the pixel size, so that neighbouring cells fit together. Without "
            "it, each cell's pixels start at its own north-west corner."
        ),
    ] = False
    layers: Annotated[
        Layers,
        Shown(Group.OUTPUT, "LAYER"),
        Field(
            description="Also write, of each band, one or several: count mad. Of count (of valid values), mad (median "
            "absolute deviation from the median), iqr (interquartile range), doy (median day of year), first and last "
            "(dates of valid values)."
        ),
    ] = []
    count: Annotated[
        bool,
        Shown(Group.OUTPUT),
        Field(description="Short for the layer count: the number of valid values of each pixel, as a UInt16 GeoTIFF."),
    ] = False
    gdal_scale: Annotated[
        bool,
        Shown(Group.OUTPUT),
        Field(
            description="Write the scale 0.0001 into GeoTIFFs as GDAL's, so that programs that apply it show "
            "reflectance. The pixels stay as they are: reflectance × 10000."
        ),
    ] = False
    quicklook: Annotated[bool, Shown(Group.OUTPUT), Field(description="Also write a PNG of each cell.")] = False
    overwrite: Annotated[
        bool, Shown(Group.OUTPUT), Field(description="Compute every composite again, even if it is up to date.")
    ] = False
    keep_tmp: Annotated[
        bool, Shown(Group.OUTPUT), Field(description="Keep tmp/, with the VRTs, at the end of the run.")
    ] = False

    stage: Annotated[
        Stage,
        Shown(Group.RUNNING, "STAGE"),
        Field(
            description="What to run: query, download or composite alone, or all. The stages share one work_dir; "
            "composite uses what was downloaded and needs no network."
        ),
    ] = "all"
    workers: Annotated[
        int | None,
        Shown(Group.RUNNING, "N"),
        Field(
            ge=1,
            le=1024,
            description="Dask workers on this machine. Default: one per core. Of an existing cluster: those to expect.",
        ),
    ] = None
    cluster: Annotated[
        ClusterName,
        Shown(Group.RUNNING, "NAME"),
        Field(
            description="Where the workers run: local (this machine), mpi (the ranks of mpirun, found automatically), "
            "jobs of slurm, pbs, lsf, sge, oar or htcondor, or an existing cluster (dask)."
        ),
    ] = "local"
    scheduler: Annotated[
        Scheduler | None,
        Shown(Group.RUNNING, "ADDRESS"),
        Field(
            description="With cluster dask: the address of its scheduler, tls://HOST:PORT or tcp://HOST:PORT, or the "
            "path of its scheduler file."
        ),
    ] = None
    site: Annotated[
        ExpandedPath | None,
        Shown(Group.RUNNING, "FILE"),
        Field(description="YAML file with the settings of the batch system (docs/hpc.md). Default: none."),
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
        if not self.periods:
            remedy = "choose other months, or another window"
            raise InputError("months", self.months, "are not between start and end", remedy)
        if len(self.periods) > MOST_PERIODS:
            problem = f"makes more than {MOST_PERIODS} periods from start to end"
            raise InputError("every", self.every, problem, "choose longer periods, or several runs")
        if self.is_in_place and self.stage in ("query", "download"):
            given = "source is given" if self.source is not None else "products are read from a mount"
            raise InputError("stage", self.stage, f"has nothing to do if {given}", "leave one of them out")
        if (joint := set(self.statistic) & set(JOINT_STATISTICS)) and len(self.bands) == 1:
            problem = f"is computed of several bands, and bands names {self.bands[0]} alone"
            raise InputError("statistic", min(joint), problem, "add bands, or choose median")
        if self.site is not None and self.cluster == "local":
            raise InputError("site", self.site, "has no effect without --cluster", "add --cluster")
        if self.scheduler is not None and self.cluster != "dask":
            raise InputError("scheduler", self.scheduler, "has no effect without --cluster dask", "add --cluster dask")
        if self.cluster == "dask" and self.scheduler is None:
            raise InputError("cluster", self.cluster, "needs a scheduler", "add --scheduler with its address or file")
        if self.imagery is not None and Workspace(self.work_dir).owns(self.imagery):
            raise InputError(
                "imagery", self.imagery, "is or lies in a folder that the run writes itself", "give a folder of its own"
            )
        self._check_bands()
        self._check_pixel_size()
        if set(self.scl_mask) >= set(SCL_CLASSES):
            raise InputError("scl_mask", self.scl_mask, "masks every class", "leave out the clear classes, 4 5 6")
        for name, of_class in (("opening", self.scl_opening), ("dilation", self.scl_dilation)):
            if clear := sorted(set(of_class) - set(self.scl_mask)):
                problem = f"is the {name} of a class that is not masked"
                raise InputError(f"scl_{name}", clear, problem, "add the class to scl_mask")
        if self.mask_dir is not None and Workspace(self.work_dir).owns(self.mask_dir):
            raise InputError(
                "mask_dir", self.mask_dir, "is or lies in a folder that the run writes itself", "give another folder"
            )
        return self

    def _check_bands(self) -> None:
        there = bands_at(self.resolution)
        for band in self.bands:
            if band in there:
                continue
            remedy = f"choose from {' '.join(there)}, or add --resolution 20"
            if band == "B08":
                remedy = "use B8A, which is the near infrared of 20 m, or add --resolution 10"
            raise InputError("bands", band, f"has no image of {self.resolution} m", remedy)

    def _check_pixel_size(self) -> None:
        if self.tr is None:
            return
        least, most = PIXELS_IN_DEGREES if self.crs == WGS84 else PIXELS_IN_UNITS
        for size in self.tr:
            if least <= size <= most:
                continue
            if self.crs == WGS84:
                remedy = "write degrees (20 m of latitude are 0.00018), or name a crs in metres"
                raise InputError("tr", size, "is not between 1e-6 and 10 degrees", remedy)
            problem = f"is not between {least:g} and {most:g}, in units of {self.crs}"
            raise InputError("tr", size, problem, "write units of that CRS, nearly always metres: 20 20")

    def check_inputs(self) -> None:
        """Look for the files and folders that the run reads, without reading them.

        Raises
        ------
        InputError
            If one is missing or cannot be read.
        """
        check_readable("grid_csv", self.grid_csv, "give the path of a CSV of gridcells")
        if self.site is not None:
            check_readable("site", self.site, "give the path of a YAML file")
        if self.mask_dir is not None and self.stage in ("all", "composite"):
            check_folder("mask_dir", self.mask_dir, "give a readable folder of GeoTIFFs")
        downloads = self.imagery_folder
        if not self.is_in_place and self.stage == "composite" and not downloads.is_dir():
            raise InputError("stage", self.stage, f"finds no product in {downloads}", "download some first")
        if self.imagery is not None and not self.is_in_place and self.stage in ("all", "download"):
            check_writable("imagery", self.imagery)

    @property
    def periods(self) -> tuple[Period, ...]:
        """The periods of which composites are made, in order; without ``every``, one that is the whole window."""
        return periods_of(self.every, self.start, self.end, None if self.months is None else tuple(self.months))

    @property
    def statistic_names(self) -> tuple[str, ...]:
        """What is computed of each band, statistics first, then layers, as file names have it; each once."""
        layers = [*(["count"] if self.count else []), *self.layers]
        return tuple(dict.fromkeys(map(in_files, [*self.statistic, *layers])))

    @property
    def imagery_folder(self) -> Path:
        """Where downloaded products are."""
        return self.imagery or Workspace(self.work_dir).imagery_raw

    @property
    def may_lack_bands(self) -> bool:
        """Whether bands are not downloaded of products that SCL masks completely over the selected cells."""
        return self.scl_first and not self.is_in_place

    @property
    def is_in_place(self) -> bool:
        """Whether products are read where they are: nothing is downloaded, and nothing was compared while it came."""
        return self.source is not None or self.access == "mount"

    @property
    def pixel_size(self) -> tuple[float, float]:
        """Width and height of a pixel in units of the CRS: those asked for, or the default."""
        return self.tr or default_pixel_size(self.crs, self.resolution)

    @property
    def lattice(self) -> Lattice:
        """The lattice that all cells share with ``tap``; without it, only its pixel size means something."""
        return Lattice(*self.pixel_size, crs=self.crs)

    def lattice_of(self, cell: Outlined) -> Lattice:
        """The lattice of a cell: the shared one, or one anchored at its xmin and ymax in the CRS."""
        if self.tap:
            return self.lattice
        xmin, _, _, ymax = cell.bounds_in(self.crs)
        return Lattice(*self.pixel_size, x_anchor=xmin, y_anchor=ymax, crs=self.crs)


class GridParameters(BaseModel):
    """Parameters of a grid of gridcells."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bbox: Annotated[
        Bbox,
        Shown("options", "XMIN YMIN XMAX YMAX"),
        Field(
            description="Area to cover: west, south, east and north, degrees (WGS84). Every cell that shares area with "
            "it is written. A box with west > east crosses the antimeridian (±180), and may be 180° wide; for a wider "
            "one add 360 to east."
        ),
    ]
    out: Annotated[
        ExpandedPath,
        Shown("options", "FILE"),
        Field(description="CSV to write: cell_id, xmin, ymin, xmax, ymax, geometry (WKT)."),
    ]
    cell_size: Annotated[
        float,
        Shown("options", "DEGREES"),
        Field(ge=0.001, le=90, description="Height and width of a cell, degrees; must divide 180."),
    ] = 0.25
    within: Annotated[
        ExpandedPath | None,
        Shown("options", "FILE"),
        Field(
            description="Vector file of polygons in any CRS that GDAL reads, e.g. land: only cells that share area "
            "with one of them are written. Default: none."
        ),
    ] = None

    def check_inputs(self) -> None:
        """Look for the file that is read and the one that is written, without opening them.

        Raises
        ------
        InputError
            If ``within`` does not exist, or ``out`` is a folder.
        """
        # GDAL's virtual file systems (/vsizip/ …) are not the operating system's.
        if self.within is not None and not str(self.within).startswith("/vsi"):
            check_exists("within", self.within, "give the path of a vector file of polygons")
        with contextlib.suppress(OSError):
            if self.out.is_dir():
                raise InputError("out", self.out, "is a folder", "give the path of a CSV to write")
