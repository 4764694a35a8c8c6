"""The extents of tiles, against places of real granules."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import shapely

from s2sr_core.geo import geometry
from s2sr_core.products.names import is_tile
from s2sr_core.products.tiles import extent_of
from s2sr_sandbox.grid import Grid, mgrs_tile


def test_the_extent_of_a_real_granule(shared_data: Path) -> None:
    """STAC states the box of its 20 m images."""
    item = json.loads((shared_data / "cdse/stac_item_T13VEK_N0510.json").read_text(encoding="utf-8"))
    image = item["assets"]["B04_20m"]
    extent = extent_of("13VEK")
    assert f"EPSG:{extent.epsg}" == image["proj:code"]
    assert [extent.west, extent.south, extent.east, extent.north] == image["proj:bbox"]


def test_real_footprints_lie_in_their_tiles(shared_data: Path) -> None:
    seen = set()
    for path in sorted((shared_data / "cdse").glob("odata_sentinel2_*.json")):
        for entry in json.loads(path.read_text(encoding="utf-8"))["value"]:
            parts = entry["Name"].split("_")
            tile = parts[5][1:] if len(parts) > 6 else ""
            if not is_tile(tile):
                continue
            seen.add(tile)
            extent = extent_of(tile)
            corners = shapely.get_coordinates(shapely.from_geojson(json.dumps(entry["GeoFootprint"])))
            points = np.array(geometry.from_wgs84(f"EPSG:{extent.epsg}").TransformPoints(corners))
            assert points[:, 0].min() >= extent.west - 60
            assert points[:, 0].max() <= extent.east + 60
            assert points[:, 1].min() >= extent.south - 60
            assert points[:, 1].max() <= extent.north + 60
    assert seen


@pytest.mark.parametrize("latitude", [-79.5, -64.1, -54.8, -32.0, -0.4, 0.4, 7.9, 40.0, 55.9, 63.9, 72.1, 83.3])
@pytest.mark.parametrize("longitude", [-179.9, -150.1, -3.1, 2.5, 131.0, 179.9])
def test_a_place_lies_in_the_square_of_its_tile(longitude: float, latitude: float) -> None:
    """The sandbox letters the other way round, from place to tile."""
    extent = extent_of(mgrs_tile(longitude, latitude))
    x, y, _ = geometry.from_wgs84(f"EPSG:{extent.epsg}").TransformPoint(longitude, latitude)
    assert extent.west <= x <= extent.west + 100_060
    assert extent.north - 100_060 <= y <= extent.north
    granule = Grid.granule(longitude, latitude)
    assert granule.geotransform == (extent.west, 20.0, 0.0, extent.north, 0.0, -20.0)
