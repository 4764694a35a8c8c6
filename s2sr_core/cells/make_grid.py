"""Making the CSV of a grid: the cells, the filter by a vector file, the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import shapely
from shapely import MultiPolygon, Polygon

from s2sr_core.cells.gridcell_csv import write_gridcells
from s2sr_core.cells.gridcells import make_gridcells
from s2sr_core.errors import InputError
from s2sr_core.files import written_atomically
from s2sr_core.geo import geometry
from s2sr_core.geo.gdal_runtime import gdal, ogr
from s2sr_core.parameters import GridParameters


def make_grid(parameters: GridParameters) -> int:
    """Write the CSV; returns how many cells it holds.

    Raises
    ------
    InputError
        If the vector file cannot be used, no cell is left, or the CSV cannot be written.
    """
    within = None if parameters.within is None else read_polygons(parameters.within)
    cells = make_gridcells(parameters.bbox, parameters.cell_size, within)
    if not cells:
        raise InputError("within", parameters.within, "shares no area with a cell of the bbox", "check both")
    try:
        with written_atomically(parameters.out) as path:
            write_gridcells(cells, path)
    except OSError as error:
        raise InputError("out", parameters.out, f"cannot be written ({error.strerror})", "give another path") from error
    return len(cells)


def read_polygons(path: Path) -> Polygon | MultiPolygon:
    """All polygons of all layers of a vector file as one, in EPSG:4326.

    Raises
    ------
    InputError
        If GDAL cannot read the file, or it has no polygons on the globe.
    """
    try:
        # No VRT among the drivers: it could name other files to read.
        names = [gdal.GetDriver(index).ShortName for index in range(gdal.GetDriverCount())]
        drivers = [name for name in names if name not in ("OGR_VRT", "VRT")]
        dataset = gdal.OpenEx(str(path), gdal.OF_VECTOR | gdal.OF_READONLY, allowed_drivers=drivers)
        layers = [dataset.GetLayer(index) for index in range(dataset.GetLayerCount())]
        polygons = [polygon for layer in layers for polygon in _polygons(layer)]
    except RuntimeError as error:
        reason = " ".join(str(error).split()) or "it does not say why"
        raise InputError(
            "within", path, f"is not a vector file that GDAL can read ({reason})", "give a vector file of polygons"
        ) from error
    union = geometry.union(polygons)
    if union.is_empty:
        raise InputError("within", path, "has no polygons", "give a vector file of polygons")
    xmin, ymin, xmax, ymax = union.bounds
    if xmin < -360 or ymin < -90 or xmax > 360 or ymax > 90:
        raise InputError(
            "within", path, f"reaches {xmin:g} {ymin:g} {xmax:g} {ymax:g} degrees", "give a file that states its CRS"
        )
    return geometry.on_the_globe(union)


def _polygons(layer: ogr.Layer) -> Iterator[Polygon | MultiPolygon]:
    """The polygons of each feature of ``layer`` in EPSG:4326, cut at ±180 if they cross it."""
    reference = layer.GetSpatialRef()
    # It cuts at ±180 (until GDAL 3.11 only if asked) and at the poles; Geometry.Transform only moves vertices.
    to_wgs84 = None
    if reference is not None:
        to_wgs84 = ogr.GeomTransformer(geometry.to_wgs84(reference.ExportToWkt()), ["WRAPDATELINE=YES"])
    for feature in layer:
        shape = feature.GetGeometryRef()
        if shape is not None:
            linear = shape.GetLinearGeometry()
            wgs84 = linear if to_wgs84 is None else to_wgs84.Transform(linear)
            yield geometry.polygonal(shapely.make_valid(shapely.from_wkb(bytes(wgs84.ExportToWkb()))))
