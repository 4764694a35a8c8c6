import pickle

import numpy as np
import pytest
from osgeo import osr

from s2sr_sandbox.grid import Grid
from s2sr_sandbox.landscape import BANDS, Landscape

LANDSCAPE = Landscape(3)


def _places(lon: float, lat: float, size: int = 300, step: float = 0.0004) -> tuple[np.ndarray, np.ndarray]:
    """A field of places, rows southward; neither square nor symmetric."""
    lat_, lon_ = np.mgrid[0:size, 0 : size + 17] * step
    return lon + 2.3 * lon_, lat - lat_


def _pixel_around(crs: str, lon: float, lat: float) -> Grid:
    """A grid of one pixel centred on a place."""
    references = [Grid(code, (0, 1, 0, 0, 0, -1), (1, 1)).spatial_reference for code in ("EPSG:4326", crs)]
    x, y, _ = osr.CoordinateTransformation(*references).TransformPoint(lon, lat)
    size = 0.0002 if crs == "EPSG:4326" else 20.0
    return Grid(crs, (x - size / 2, size, 0.0, y + size / 2, 0.0, -size), (1, 1))


@pytest.mark.parametrize("band", BANDS)
def test_reflectance_stays_in_its_range(band: str) -> None:
    values = LANDSCAPE.reflectance(band, *_places(-149.6, 68.63))
    assert values.dtype == np.float64
    assert values.min() >= 0
    assert values.max() < 0.6


def test_every_kind_of_clear_ground_occurs() -> None:
    classes = LANDSCAPE.classes(*_places(-149.6, 68.63))
    assert classes.dtype == np.uint8
    assert set(np.unique(classes)) == {4, 5, 6}


def test_bands_tell_the_classes_apart() -> None:
    lon, lat = _places(-149.6, 68.63)
    ground = LANDSCAPE.ground(lon, lat)
    classes, red, infrared = ground.classes(), ground.reflectance("B04"), ground.reflectance("B8A")
    assert (infrared[classes == 4] > 2 * red[classes == 4]).mean() > 0.9
    assert infrared[classes == 5].mean() < 2 * red[classes == 5].mean()
    assert np.median(infrared[classes == 6]) < 0.02


def test_light_comes_from_the_south_east() -> None:
    """Where the ground falls towards the sun, 30 m away, it is brighter than where it rises."""
    lon, lat = Grid.utm(-147.0, 68.63, (220, 250)).centres()  # the central meridian: north is up
    ground = LANDSCAPE.ground(lon, lat)
    land = (ground.shares["shallow"] + ground.shares["deep"] == 0)[:-1, :-1]
    fall = (ground.height[:-1, :-1] - ground.height[1:, 1:])[land]  # to the south-east, over 28 m
    light = ground.light[:-1, :-1][land]
    assert light[fall > 2].mean() > light[np.abs(fall) < 2].mean() + 0.1
    assert light[fall < -2].mean() < light[np.abs(fall) < 2].mean() - 0.1
    assert (ground.light[ground.shares["deep"] == 1] == 1).all()


def test_rivers_run_in_the_valleys() -> None:
    ground = LANDSCAPE.ground(*_places(-149.6, 68.63))
    bars = ground.shares["gravel"] > 0.5
    assert bars.sum() > 20
    assert np.median(ground.height[bars]) < np.percentile(ground.height, 20)


def test_deep_water_has_no_infrared_reflectance_at_all() -> None:
    share = (LANDSCAPE.reflectance("B8A", *_places(-149.6, 68.63)) == 0).mean()
    assert 0.005 < share < 0.3


def test_a_place_has_one_truth_whatever_is_asked_with_it() -> None:
    lon, lat = _places(-149.6, 68.63, size=60)
    whole = LANDSCAPE.reflectance("B03", lon, lat)
    order = np.random.default_rng(1).permutation(lon.size)
    alone = LANDSCAPE.reflectance("B03", lon.ravel()[order], lat.ravel()[order])
    np.testing.assert_allclose(alone, whole.ravel()[order], rtol=0, atol=1e-9)


def test_truth_does_not_depend_on_tile_or_crs() -> None:
    """The centre of one pixel, reached through four coordinate systems."""
    lon, lat = -150.0021, 68.6304
    seen = []
    for crs in ("EPSG:32605", "EPSG:32606", "EPSG:3413", "EPSG:4326"):
        there = _pixel_around(crs, lon, lat).centres()
        np.testing.assert_allclose(np.ravel(there), (lon, lat), rtol=0, atol=1e-9)
        seen.append(LANDSCAPE.reflectance("B05", *there)[0, 0])
    np.testing.assert_allclose(seen, seen[0], rtol=0, atol=1e-9)


def test_no_seam_at_the_antimeridian() -> None:
    lat = np.linspace(-80, 83, 500)
    west, east = (LANDSCAPE.reflectance("B11", np.full_like(lat, lon), lat) for lon in (-180.0, 180.0))
    np.testing.assert_allclose(west, east, rtol=0, atol=1e-9)
    beside = LANDSCAPE.reflectance("B11", np.full_like(lat, -180 + 1e-9), lat)  # 0.1 mm
    np.testing.assert_allclose(beside, east, rtol=0, atol=1e-5)


def test_a_landscape_is_a_value() -> None:
    place = np.array([10.0]), np.array([70.0])
    again = pickle.loads(pickle.dumps(LANDSCAPE))
    assert again == LANDSCAPE
    assert hash(again) == hash(LANDSCAPE)
    assert again.reflectance("B02", *place) == LANDSCAPE.reflectance("B02", *place)
    assert Landscape(4).reflectance("B02", *place) != LANDSCAPE.reflectance("B02", *place)
