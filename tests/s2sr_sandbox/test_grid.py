import numpy as np
import pytest
from osgeo import osr

from s2sr_core.errors import InputError
from s2sr_sandbox.grid import Grid, mgrs_tile, utm_zone

LOCAL = (
    'PROJCS["local",GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563]],PRIMEM["Greenwich",0],'
    'UNIT["degree",0.0174532925199433]],PROJECTION["Lambert_Azimuthal_Equal_Area"],PARAMETER["latitude_of_center",50.72],'
    'PARAMETER["longitude_of_center",-3.51],UNIT["metre",1]]'
)


@pytest.mark.parametrize(
    ("lon", "lat", "zone", "crs"),
    [
        (-149.6, 68.63, None, "EPSG:32606"),
        (179.9, 68.9, 1, "EPSG:32601"),
        (-179.9, 68.9, 60, "EPSG:32660"),
        (-179.9, -16.5, None, "EPSG:32701"),
        (179.9, -16.5, None, "EPSG:32760"),
    ],
)
def test_utm_grid_is_centred_and_snapped(lon: float, lat: float, zone: int | None, crs: str) -> None:
    grid = Grid.utm(lon, lat, (402, 257), zone=zone)
    assert grid.crs == crs
    assert grid.shape == (402, 257)
    xmin, xdim, xrow, ymax, ycol, ydim = grid.geotransform
    assert (xdim, xrow, ycol, ydim) == (20, 0, 0, -20)
    assert (xmin % 20, ymax % 20) == (0, 0)
    assert grid.centre == pytest.approx((lon, lat), abs=0.0006)


def test_full_granule_is_109800_m_wide() -> None:
    grid = Grid.utm(-149.6, 68.63)
    assert grid.shape == (5490, 5490)
    assert grid.shape[1] * grid.geotransform[1] == 109_800


@pytest.mark.parametrize(
    ("crs", "geotransform"),
    [
        ("EPSG:32601", (399960.0, 20.0, 0.0, 7700040.0, 0.0, -20.0)),
        ("EPSG:27700", (289813.58, 19.99, 0.0, 95714.02, 0.0, -19.99)),
        (LOCAL, (-3540.0, 20.0, 0.0, 3340.0, 0.0, -20.0)),
        ("EPSG:4326", (-3.5, 0.00018, 0.0, 50.7, 0.0, -0.00018)),
    ],
)
def test_centres_agree_with_proj_point_by_point(
    crs: str, geotransform: tuple[float, float, float, float, float, float]
) -> None:
    grid = Grid(crs, geotransform, (7, 5))
    lon, lat = grid.centres()
    assert lon.shape == lat.shape == (7, 5)
    degrees = Grid("EPSG:4326", (0, 1, 0, 0, 0, -1), (1, 1)).spatial_reference
    to_degrees = osr.CoordinateTransformation(grid.spatial_reference, degrees)
    for row, col in ((0, 0), (6, 0), (2, 4)):
        x = geotransform[0] + (col + 0.5) * geotransform[1]
        y = geotransform[3] + (row + 0.5) * geotransform[5]
        assert (lon[row, col], lat[row, col]) == pytest.approx(to_degrees.TransformPoint(x, y)[:2], abs=1e-9)


def test_blocks_cover_every_row_once() -> None:
    grid = Grid.utm(-149.6, 68.63, (1000, 300))
    rows = np.concatenate([np.arange(1000)[block] for block in grid.blocks(pixels=7000)])
    np.testing.assert_array_equal(rows, np.arange(1000))


@pytest.mark.parametrize(
    "box", [(-149.725, 68.505, -149.475, 68.755), (179.8, 68.9, -179.9, 69.0), (-0.2, -33.3, 0.1, -33.1)]
)
def test_covering_grid_holds_the_box_and_little_more(box: tuple[float, float, float, float]) -> None:
    grid = Grid.covering(*box)
    lon, lat = grid.centres()
    xmin, ymin, xmax, ymax = box
    width = (xmax - xmin) % 360
    east = (lon - xmin + 180) % 360 - 180
    for corner in ((0.0, ymin), (0.0, ymax), (width, ymin), (width, ymax)):
        nearest = np.hypot((east - corner[0]) * np.cos(np.deg2rad(corner[1])), lat - corner[1]).min()
        assert nearest < 20 / 111_000
    inside = (east >= 0) & (east <= width) & (lat >= ymin) & (lat <= ymax)
    assert inside.mean() > 0.85
    assert not inside[[0, -1]].any()
    assert not inside[:, [0, -1]].any()


@pytest.mark.parametrize(
    ("lon", "lat", "size", "field"),
    [(10, 85, 100, "centre"), (190, 60, 100, "centre"), (10, 60, 0, "size"), (10, 60, 5491, "size")],
)
def test_a_granule_beyond_the_mission_is_refused(lon: float, lat: float, size: int, field: str) -> None:
    with pytest.raises(InputError, match=field):
        Grid.utm(lon, lat, size)


@pytest.mark.parametrize("box", [(0, 60, 5, 61), (3, 61, 4, 60), (3, 60, 3, 61), (10, 84, 11, 86)])
def test_a_box_that_no_granule_covers_is_refused(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(InputError, match="bbox"):
        Grid.covering(*box)


@pytest.mark.parametrize(
    ("lon", "lat", "zone", "tile"),
    [
        (16.5, 80.15, None, "33XWJ"),  # this and the next: the names of real products there
        (179.9, 68.9, 1, "01WCS"),
        (-3.51, 50.72, None, "30UVB"),  # Exeter
        (151.2, -33.87, None, "56HLH"),  # Sydney
        (-149.6, 68.63, None, "06WUB"),
    ],
)
def test_mgrs_tile(lon: float, lat: float, zone: int | None, tile: str) -> None:
    assert mgrs_tile(lon, lat, zone=zone) == tile


@pytest.mark.parametrize(("lon", "zone"), [(-180, 1), (-174.1, 1), (0, 31), (179.9, 60), (180, 1)])
def test_utm_zone(lon: float, zone: int) -> None:
    assert utm_zone(lon) == zone
