import numpy as np
import pytest

from s2sr_sandbox.grid import Grid
from s2sr_sandbox.landscape import Landscape
from s2sr_sandbox.sky import Sky

CLOUDS = (8, 9, 10)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.4, 0.75, 1.0])
def test_share_of_clouds_is_about_as_asked(share: float) -> None:
    lat, lon = np.mgrid[69.0:68.0:200j, -151.0:-148.5:190j]
    covered = np.isin(Sky(5, share).cover(lon, lat).scl, CLOUDS).mean()
    assert covered == pytest.approx(share, abs=0.03)


def test_every_class_occurs_and_no_other() -> None:
    lat, lon = np.mgrid[69.0:68.6:500j, -150.0:-149.0:460j]
    scl = Sky(5, 0.4).cover(lon, lat).scl
    assert scl.dtype == np.uint8
    assert set(np.unique(scl)) == {0, 2, 3, 7, 8, 9, 10, 11}


def test_clear_ground_is_left_as_it_is() -> None:
    lon, lat = Grid.utm(-149.6, 68.63, (200, 170)).centres()
    ground, cover = Landscape(1).ground(lon, lat), Sky(5, 0.4).cover(lon, lat)
    clear = cover.scl == 0
    assert 0.2 < clear.mean() < 0.8
    for band in ("B02", "B8A", "B12"):
        truth = ground.reflectance(band)
        np.testing.assert_array_equal(cover.reflectance(band, truth)[clear], truth[clear])
    np.testing.assert_array_equal(cover.classes(ground.classes())[clear], ground.classes()[clear])
    np.testing.assert_array_equal(cover.classes(ground.classes())[~clear], cover.scl[~clear])


def test_clouds_are_bright_and_shadows_dark() -> None:
    lon, lat = Grid.utm(-149.6, 68.63, (300, 300)).centres()
    truth = Landscape(1).reflectance("B03", lon, lat)
    cover = Sky(5, 0.4).cover(lon, lat)
    seen = cover.reflectance("B03", truth)
    assert seen[cover.scl == 9].min() > 0.25
    assert (seen[np.isin(cover.scl, (8, 9, 10, 11))] > truth[np.isin(cover.scl, (8, 9, 10, 11))]).all()
    assert (seen[np.isin(cover.scl, (2, 3))] < truth[np.isin(cover.scl, (2, 3))]).all()


def test_shadows_lie_north_west_of_their_clouds() -> None:
    # On the central meridian of zone 6 the grid's north is north: 1500 m are 75 rows, 1000 m are 50 columns.
    scl = Sky(5, 0.3).cover(*Grid.utm(-147.0, 68.63, (500, 460)).centres()).scl
    rows, cols = np.nonzero(scl[:-75, :-50] == 3)
    assert rows.size > 1000
    assert np.isin(scl[rows + 75, cols + 50], (8, 9)).mean() > 0.98
