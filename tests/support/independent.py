"""A composite computed by another road: numpy and PROJ alone, no warper, no VRT, none of s2sr_core's rules."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from osgeo import osr

osr.UseExceptions()

CLEAR = (4, 5, 6)


@dataclass(frozen=True)
class RawScene:
    """What a product's files hold: DN and SCL (rows × columns) on a grid, and the offset to add."""

    dn: np.ndarray
    scl: np.ndarray
    crs: str
    geotransform: tuple[float, ...]
    offset: int


def transformation(crs: str) -> osr.CoordinateTransformation:
    systems = []
    for text in ("EPSG:4326", crs):
        system = osr.SpatialReference()
        system.SetFromUserInput(text)
        system.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
        systems.append(system)
    return osr.CoordinateTransformation(*systems)


def warped(scene: RawScene, longitude: np.ndarray, latitude: np.ndarray) -> np.ndarray:
    """Harmonised DN at places (same shape as both), NaN where there is none.

    Valid where the pixel that holds the point is; the value is the mean of the valid ones among the four nearest
    pixels, by their bilinear weights, rounded half up.
    """
    values = np.maximum(scene.dn.astype(np.int64) + scene.offset, 0).astype(float)
    values[(scene.dn == 0) | ~np.isin(scene.scl, CLEAR)] = np.nan
    rows, columns = values.shape
    points = np.array(
        transformation(scene.crs).TransformPoints(np.column_stack([longitude.ravel(), latitude.ravel()]))
    )[:, :2]
    x0, a, b, y0, d, e = scene.geotransform
    inverse = np.linalg.inv(np.array([[a, b], [d, e]]))
    column, row = inverse @ (points - [x0, y0]).T
    inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    result = np.full(len(points), np.nan)
    column, row = column[inside], row[inside]
    holds = values[row.astype(int), column.astype(int)]
    left, top = np.floor(column - 0.5).astype(int), np.floor(row - 0.5).astype(int)
    u, v = column - 0.5 - left, row - 0.5 - top
    total = weights = np.zeros(len(column))
    for j, i, weight in ((0, 0, (1 - u) * (1 - v)), (0, 1, u * (1 - v)), (1, 0, (1 - u) * v), (1, 1, u * v)):
        r, c = top + j, left + i
        there = (r >= 0) & (r < rows) & (c >= 0) & (c < columns)
        value = np.where(there, values[np.clip(r, 0, rows - 1), np.clip(c, 0, columns - 1)], np.nan)
        weight = np.where(np.isnan(value), 0.0, weight)
        total = total + weight * np.nan_to_num(value)
        weights = weights + weight
    with np.errstate(invalid="ignore", divide="ignore"):
        result[inside] = np.where(np.isnan(holds), np.nan, np.floor(total / weights + 0.5))
    return result.reshape(longitude.shape)


def centres(window: tuple[int, int, int, int], tr: tuple[float, float], anchor: tuple[float, float] = (0.0, 0.0)):
    """Longitudes and latitudes (rows × columns) of pixel centres x0 … x1 − 1, y0 … y1 − 1; rows count southward."""
    x0, y0, x1, y1 = window
    longitude = anchor[0] + (np.arange(x0, x1) + 0.5) * tr[0]
    latitude = anchor[1] - (np.arange(y0, y1) + 0.5) * tr[1]
    return np.meshgrid(longitude, latitude)


def composite(
    polygon: shapely.Polygon,
    scenes: list[RawScene],
    window: tuple[int, int, int, int],
    tr: tuple[float, float],
    anchor: tuple[float, float] = (0.0, 0.0),
) -> tuple[np.ndarray, np.ndarray]:
    """Median (−9999 where there is none) and number of values of the pixels of ``window`` whose centre is in
    ``polygon``; centres on an edge are left to the caller not to have."""
    longitude, latitude = centres(window, tr, anchor)
    layers = [warped(scene, longitude, latitude) for scene in scenes] or [np.full(longitude.shape, np.nan)]
    stack = np.sort(np.stack(layers), axis=0)  # NaN last
    count = np.count_nonzero(~np.isnan(stack), axis=0)
    low = np.take_along_axis(stack, np.maximum((count - 1) // 2, 0)[None], axis=0)[0]
    high = np.take_along_axis(stack, np.minimum(count // 2, len(stack) - 1)[None], axis=0)[0]
    inside = shapely.contains_xy(polygon, longitude, latitude)
    return np.where((count > 0) & inside, (low + high) / 2, -9999.0), np.where(inside, count, 65535)
