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
    white, lit = np.isin(cover.scl, (8, 9, 10, 11)), truth * cover.shade
    assert (seen[white] > lit[white]).all()
    assert (seen[np.isin(cover.scl, (2, 3))] < truth[np.isin(cover.scl, (2, 3))]).all()
    assert (cover.shade < 1).sum() > (cover.scl == 3).sum() > 0  # shadows fall on other clouds as well


def test_cirrus_has_soft_edges() -> None:
    """The thinnest cirrus adds as little as the haze around it: no step is seen where SCL draws the line."""
    lon, lat = Grid.utm(-149.6, 68.63, (300, 300)).centres()
    cover = Sky(3, 0.6).cover(lon, lat)
    assert 0 < cover.opacity[cover.scl == 10].min() < 0.03
    assert cover.opacity[cover.scl == 10].max() > 0.1


def test_haze_brightens_the_blue_and_leaves_the_short_wave_infrared() -> None:
    lon, lat = Grid.utm(-149.6, 68.63, (200, 170)).centres()
    plain, hazy = (Sky(5, 0.4, haze=haze).cover(lon, lat) for haze in (0.0, 0.02))
    clear, ground = plain.scl == 0, Landscape(1).ground(lon, lat)
    np.testing.assert_array_equal(hazy.scl, plain.scl)
    more = {
        band: (hazy.reflectance(band, ground.reflectance(band)) - ground.reflectance(band))[clear]
        for band in ("B02", "B04", "B8A", "B12")
    }
    assert 0 <= more["B02"].min() < more["B02"].max() <= 0.02
    assert more["B02"].mean() > more["B04"].mean() > more["B8A"].mean() > 0
    assert (more["B12"] == 0).all()


def test_the_ground_is_brighter_west_of_the_track_and_as_it_is_below_it() -> None:
    lon = np.array([-152.0, -149.6, -147.0])
    lat = np.full_like(lon, 68.63)
    glance = Sky(5, 0.0, track=-149.6).cover(lon, lat).glance
    # 2.4° of longitude at 68.63° are 97 km, seen from 786 km: 7.1°.
    np.testing.assert_allclose(glance, [1.042, 1.0, 0.954], atol=0.002)
    across = Sky(5, 0.0, track=179.5).cover(np.array([-179.9]), np.array([68.6])).glance
    assert 0.98 < across[0] < 1


def test_snow_lies_in_the_same_hollows_on_every_date() -> None:
    lon, lat = Grid.utm(-149.6, 68.63, (300, 300)).centres()
    shelter = Landscape(1).ground(lon, lat).shelter
    early, late = (Sky(seed, 0.0, snow=0.02).cover(lon, lat, shelter).scl == 11 for seed in (5, 6))
    assert early.sum() > 500
    assert (early & late).sum() > 0.3 * min(early.sum(), late.sum())  # by chance: 0.02 of them


def test_shadows_lie_north_west_of_their_clouds() -> None:
    # On the central meridian of zone 6 the grid's north is north: 1500 m are 75 rows, 1000 m are 50 columns.
    scl = Sky(5, 0.3).cover(*Grid.utm(-147.0, 68.63, (500, 460)).centres()).scl
    rows, cols = np.nonzero(scl[:-75, :-50] == 3)
    assert rows.size > 1000
    assert np.isin(scl[rows + 75, cols + 50], (8, 9)).mean() > 0.98
