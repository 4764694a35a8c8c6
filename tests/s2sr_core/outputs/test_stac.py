"""The STAC collection, the mosaics and the tile index of a run, read by other people's libraries."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import shapely
from osgeo import ogr
from pystac.extensions.file import FileExtension
from pystac.extensions.raster import RasterExtension
from support.rasters import read
from support.scenes import parameters_for, pixels, product_name, run, write_scene

from benchmarks.peers import environment
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.composites.composite import Outcome
from s2sr_core.composites.mosaic import mosaic_cells, mosaic_path
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.outputs.indices import update_composite_index
from s2sr_core.outputs.stac import PublishedItem, publish
from s2sr_core.outputs.tile_index import write_tile_index
from s2sr_core.parameters import RunParameters
from s2sr_core.run_context import RunContext
from s2sr_core.workspace import Workspace
from s2sr_sandbox.grid import Grid

CELLS = [
    Gridcell("west", shapely.box(-149.62, 68.62, -149.60, 68.64)),
    Gridcell("a_B04_b", shapely.box(-149.60, 68.62, -149.58, 68.63)),  # named like a part of a file's name
]
BANDS = ["B02", "B03", "B04"]


def published(parameters: RunParameters) -> tuple[list[PublishedItem], dict[tuple[str, str], Outcome]]:
    """What a run does: composites, index, mosaics, STAC and tile index."""
    outcomes = run(parameters)
    workspace = Workspace(parameters.work_dir)
    update_composite_index(RunContext(parameters), list(outcomes.values()))
    mosaic_cells(workspace, parameters)
    items = publish(workspace)
    write_tile_index(workspace.tile_index, items)
    return items, outcomes


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> RunParameters:
    folder, rng = tmp_path_factory.mktemp("stac"), np.random.default_rng(4)
    for number in range(2):
        write_scene(folder / "archive", product_name(number), Grid.utm(-149.6, 68.63, 120, zone=5), rng, BANDS)
    window = {"start": "2019-06-01", "end": "2020-01-01"}
    parameters = parameters_for(folder, folder / "archive", CELLS, bands=BANDS, count=True, **window)
    published(parameters)
    return parameters


@pytest.fixture
def parameters(made: RunParameters, tmp_path: Path) -> RunParameters:
    """A copy of the run's folder, to change."""
    shutil.copytree(made.work_dir, tmp_path / "run")
    return made.model_copy(update={"work_dir": tmp_path / "run"})


def collection_of(parameters: RunParameters) -> pystac.Collection:
    return pystac.Collection.from_file(str(Workspace(parameters.work_dir).collection))


def test_the_collection_has_an_item_per_cell_with_an_asset_per_raster(made: RunParameters) -> None:
    collection = collection_of(made)
    items = {item.id: item for item in collection.get_items()}
    assert sorted(items) == ["a_B04_b", "west"]
    assert collection.extent.spatial.bboxes == [pytest.approx([-149.62, 68.62, -149.58, 68.64])]
    item = items["west"]
    assert shapely.geometry.shape(item.geometry).equals(CELLS[0].polygon)
    assert item.get_root() is collection.get_root()
    assert item.properties["end_datetime"] == "2020-01-01T00:00:00Z"
    assert item.properties["s2sr:first_acquisition"] == "2019-07-01T21:45:29Z"
    data = [key for key, asset in item.assets.items() if "data" in asset.roles]
    assert sorted(data) == [*(name for band in BANDS for name in (band, f"{band}_count"))]
    assert sorted(items["a_B04_b"].assets) == sorted(item.assets)


def test_what_it_says_of_a_raster_is_what_the_raster_is(made: RunParameters) -> None:
    for item in collection_of(made).get_items():
        for key, asset in item.assets.items():
            path = Path(asset.get_absolute_href())
            assert path.exists()
            if "data" not in asset.roles:
                continue
            with gdal.Open(str(path)) as raster:
                band = raster.GetRasterBand(1)
                (described,) = RasterExtension.ext(asset).bands
                assert described.nodata == band.GetNoDataValue()
                assert described.data_type == ("uint16" if key.endswith("count") else "float32")
                assert described.scale == (None if key.endswith("count") else 0.0001)
                left, dx, _, top, _, dy = raster.GetGeoTransform()
                assert item.properties["proj:transform"][:6] == [dx, 0, left, 0, dy, top]
                assert item.properties["proj:shape"] == [raster.RasterYSize, raster.RasterXSize]
                assert item.properties["proj:code"] == "EPSG:4326"
                values = band.ReadAsArray()
                assert described.statistics.maximum == values[values != described.nodata].max()
            digest = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]
            assert FileExtension.ext(asset).checksum == f"1220{digest}"
            assert FileExtension.ext(asset).size == path.stat().st_size


def test_items_are_derived_from_the_products_of_cdse(made: RunParameters) -> None:
    item = next(collection_of(made).get_items())
    links = [link.href for link in item.links if link.rel == "derived_from"]
    place = "https://stac.dataspace.copernicus.eu/v1/collections/sentinel-2-l2a/items"
    assert links == [f"{place}/{product_name(number)}" for number in range(2)]


READ_BY_OTHERS = """
import sys, json
import numpy as np
import odc.stac
from pystac_client.stac_api_io import StacApiIO
import pystac
collection = pystac.Collection.from_file(sys.argv[1], stac_io=StacApiIO())
items = list(collection.get_items())
loaded = odc.stac.load(items, bands=["red", "B02", "B04_count"], groupby="time")
print(json.dumps({
    "sizes": dict(loaded.sizes),
    "time": [str(time)[:19] for time in loaded.time.values],
    "dtypes": {name: str(loaded[name].dtype) for name in loaded},
    "sums": {name: float(np.where(loaded[name].values[0] == loaded[name].attrs["nodata"], 0,
                                  loaded[name].values[0]).astype("float64").sum()) for name in loaded},
}))
"""


def test_pystac_client_and_odc_stac_load_it_as_it_is(made: RunParameters) -> None:
    """In a process of their own: rasterio has a GDAL of its own."""
    workspace = Workspace(made.work_dir)
    answer = subprocess.run(
        [sys.executable, "-c", READ_BY_OTHERS, workspace.collection], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr[-2000:]
    found: dict[str, Any] = json.loads(answer.stdout)
    assert found["time"] == ["2019-06-01T00:00:00"]
    assert found["dtypes"] == {"red": "float32", "B02": "float32", "B04_count": "uint16"}
    for name, (band, kind) in {
        "red": ("B04", "median"),
        "B02": ("B02", "median"),
        "B04_count": ("B04", "count"),
    }.items():
        mosaic = read(mosaic_path(workspace, band, kind))
        nodata = -9999 if kind == "median" else 65535
        assert found["sums"][name] == mosaic[mosaic != nodata].astype(float).sum()
        assert tuple(found["sizes"][side] for side in ("latitude", "longitude")) == mosaic.shape


DOCUMENTED = """
import json
import numpy as np
stacked = stack.max("time", skipna=True).compute()  # cells side by side
print(json.dumps({
    "odc": [cube[name].values[0].tolist() for name in ("B04", "B02")],
    "stackstac": [np.where(np.isnan(layer), -9999, layer).tolist() for layer in stacked.values],
    "origin": [float(stacked.x[0]), float(stacked.y[0])],
}))
"""


@pytest.mark.slow
def test_the_documented_lines_load_it_with_odc_stac_and_stackstac(made: RunParameters, tmp_path: Path) -> None:
    """In the benchmark's environment of other people's programs, because stackstac needs an older pandas."""
    try:
        python = environment()
    except subprocess.CalledProcessError:
        probe = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", tmp_path, "stackstac"]
        if subprocess.run(probe, capture_output=True, check=False).returncode:
            pytest.skip("PyPI, from which stackstac comes, cannot be reached")
        raise
    (tmp_path / "try").mkdir()
    (tmp_path / "try" / "run").symlink_to(made.work_dir)
    page = (Path(__file__).resolve().parents[3] / "docs" / "outputs.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    lines = "\n".join(block for block in blocks if "stac" in block)
    answer = subprocess.run(
        [python, "-c", lines + DOCUMENTED], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr[-2000:]
    found = json.loads(answer.stdout)
    workspace = Workspace(made.work_dir)
    for number, band in enumerate(("B04", "B02")):
        mosaic = read(mosaic_path(workspace, band, "median"))
        assert np.count_nonzero(mosaic != -9999) > 1000
        for program in ("odc", "stackstac"):
            assert np.array_equal(np.array(found[program][number]), mosaic), program
    with gdal.Open(str(mosaic_path(workspace, "B04", "median"))) as raster:
        west, _, _, north, _, _ = raster.GetGeoTransform()
    assert found["origin"] == pytest.approx([west, north], abs=1e-9)


def test_an_item_goes_with_its_composite_and_others_stay_as_they_are(parameters: RunParameters) -> None:
    workspace = Workspace(parameters.work_dir)
    before = {cell.cell_id: workspace.stac_item(cell.cell_id).stat().st_mtime_ns for cell in CELLS}
    items, outcomes = published(parameters)
    assert {outcome.status for outcome in outcomes.values()} == {"kept"}
    assert {item.path.stat().st_mtime_ns for item in items} == set(before.values())
    workspace.record("west", "B04").unlink()  # as of a run that was killed
    workspace.composite("west", "B03").unlink()
    index = workspace.composite_index.read_text(encoding="utf-8").splitlines(keepends=True)
    workspace.composite_index.write_text("".join(line for line in index if ",B03," not in line or "west" not in line))
    item = next(item for item in publish(workspace) if item.content["id"] == "west")
    assert sorted(key for key in item.content["assets"] if len(key) == 3) == ["B02"]
    workspace.composite_index.write_text("".join(line for line in index if "west" not in line))
    assert [item.content["id"] for item in publish(workspace)] == ["a_B04_b"]
    assert not workspace.stac_item("west").exists()
    assert [item.id for item in collection_of(parameters).get_items()] == ["a_B04_b"]


def test_computing_a_composite_removes_what_is_said_of_it(parameters: RunParameters) -> None:
    workspace = Workspace(parameters.work_dir)
    run(parameters.model_copy(update={"resampling": "nearest"}))
    assert not any(workspace.stac_item(cell.cell_id).exists() for cell in CELLS)


def test_without_composites_there_is_no_collection(parameters: RunParameters) -> None:
    workspace = Workspace(parameters.work_dir)
    workspace.composite_index.write_text(workspace.composite_index.read_text().splitlines()[0] + "\n")
    write_tile_index(workspace.tile_index, publish(workspace))
    mosaic_cells(workspace, parameters)
    assert [path for path in workspace.composites.iterdir() if path.is_file()] == []


def test_a_composite_of_an_earlier_version_has_no_item_and_stops_nothing(parameters: RunParameters) -> None:
    workspace = Workspace(parameters.work_dir)
    for band in BANDS:
        path = workspace.composite("west", band)
        path.write_bytes(b"not a GeoTIFF")
    workspace.stac_item("west").unlink()
    assert [item.content["id"] for item in publish(workspace)] == ["a_B04_b"]


# -------------------------------------------------------------------------------------------- mosaics, tile index


def test_a_run_on_a_common_lattice_has_a_mosaic_per_band_and_one_in_true_colour(
    made: RunParameters, parameters: RunParameters
) -> None:
    workspace = Workspace(made.work_dir)
    names = sorted(path.name for path in workspace.composites.glob("*.vrt"))
    kinds = [f"mosaic_{band}_{kind}.vrt" for band in BANDS for kind in ("count", "median")]
    assert names == [*kinds, "mosaic_true_colour_median.vrt"]
    with gdal.Open(str(workspace.composites / names[-1])) as colours:
        bands = [colours.GetRasterBand(number) for number in (1, 2, 3)]
        assert [band.GetDescription() for band in bands] == ["B04", "B03", "B02"]
        assert [gdal.GetColorInterpretationName(band.GetColorInterpretation()) for band in bands] == [
            "Red",
            "Green",
            "Blue",
        ]
        assert [band.GetNoDataValue() for band in bands] == [-9999.0] * 3
        values = colours.ReadAsArray()
    moved = parameters.work_dir / "composites"  # a copy elsewhere
    for number, name in enumerate(("B04", "B03", "B02")):
        mosaic = pixels(moved / f"mosaic_{name}_median.vrt")
        assert (mosaic != -9999).any()
        assert np.array_equal(values[number], mosaic)
    with gdal.Open(str(moved / "mosaic_B04_count.vrt")) as counts:
        assert counts.GetRasterBand(1).GetDescription() == "B04 count of values"
        assert counts.GetRasterBand(1).GetNoDataValue() == 65535
    with gdal.Open(str(moved / names[-1])) as there:
        assert all(str(moved) in file for file in there.GetFileList())


def test_without_a_common_lattice_there_is_no_mosaic(parameters: RunParameters) -> None:
    workspace = Workspace(parameters.work_dir)
    assert mosaic_cells(workspace, parameters.model_copy(update={"tap": False})) == []
    assert list(workspace.composites.glob("*.vrt")) == []


def test_the_tile_index_has_outlines_counts_dates_and_paths(made: RunParameters) -> None:
    workspace = Workspace(made.work_dir)
    with ogr.Open(str(workspace.tile_index)) as source:
        layer = source.GetLayer(0)
        features = [(json.loads(feature.ExportToJson()), feature) for feature in layer]
        assert layer.GetSpatialRef().GetAuthorityCode(None) == "4326"
        assert len(features) == 6
        for feature, _ in features:
            values = feature["properties"]
            cell = next(cell for cell in CELLS if cell.cell_id == values["cell_id"])
            assert shapely.geometry.shape(feature["geometry"]).equals(cell.polygon)
            assert (workspace.composites / values["location"]).exists()
            assert values["scenes"] == 2
            assert 0.3 < values["valid_share"] <= 1
            assert values["start"] == "2019/06/01 00:00:00+00"
            assert values["last_acquisition"] == "2019/07/06 21:45:29+00"
    assert [path.name for path in workspace.composites.glob("*.gpkg*")] == ["tile_index.gpkg"]


#: Debian's Python, for which the package python3-qgis is built.
SYSTEM_PYTHON = "/usr/bin/python3"
IN_QGIS = Path(__file__).resolve().parents[2] / "support" / "in_qgis.py"


@pytest.mark.slow
def test_qgis_opens_mosaics_composites_and_tile_index(parameters: RunParameters, tmp_path: Path) -> None:
    """In a process of QGIS, against what GDAL reads here; and QGIS draws them."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GDAL", "PROJ", "PYTHON"))}
    environment |= {"HOME": str(tmp_path), "QT_QPA_PLATFORM": "offscreen"}
    try:
        subprocess.run([SYSTEM_PYTHON, "-c", "import qgis.core"], env=environment, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"{SYSTEM_PYTHON} has no QGIS: apt-get install python3-qgis")
    composites, picture = Workspace(parameters.work_dir).composites, tmp_path / "qgis.png"
    done = subprocess.run(
        [SYSTEM_PYTHON, str(IN_QGIS), str(composites), str(picture)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    rasters = [*composites.rglob("*.vrt"), *composites.rglob("*_clip.tif")]
    assert len(rasters) == 2 * 3 + 1 + 2 * 6
    for path in rasters:
        with gdal.Open(str(path)) as raster:
            values = raster.ReadAsArray().reshape(raster.RasterCount, raster.RasterYSize, raster.RasterXSize)
            nodata = raster.GetRasterBand(1).GetNoDataValue()
            names = [raster.GetRasterBand(number + 1).GetDescription() for number in range(raster.RasterCount)]
        seen = said[path.name]
        rows, columns = values.shape[1:]
        assert (seen["valid"], seen["crs"], seen["size"]) == (True, "EPSG:4326", [columns, rows])
        assert [name.split(": ", 1)[1] for name in seen["bands"]] == names
        # A centre on the edge of a pixel belongs to either.
        around = values[:, (rows - 1) // 2 : rows // 2 + 1, (columns - 1) // 2 : columns // 2 + 1]
        for value, possible in zip(seen["centre"], around.reshape(len(names), -1).tolist(), strict=True):
            assert value in possible or (nodata in possible and np.isnan(value))
    index = said["tile_index.gpkg"]
    assert (index["valid"], index["crs"]) == (True, "EPSG:4326")
    assert {"location", "scenes", "valid_share", "first_acquisition"} <= set(index["fields"])
    assert sorted(index["cells"]) == sorted(cell.cell_id for cell in CELLS for _ in BANDS)
    drawn = gdal.Open(str(picture)).ReadAsArray()
    assert len(np.unique(drawn[0])) > 50
