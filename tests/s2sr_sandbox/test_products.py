import hashlib
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray
from osgeo import gdal

from s2sr_core.products.names import ProductName
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.landscape import Landscape
from s2sr_sandbox.metadata import Metadata
from s2sr_sandbox.products import make_product, render, write_product
from s2sr_sandbox.sky import Sky
from s2sr_sandbox.swath import Swath

NAME = ProductName.parse("S2A_MSIL2A_20230625T234621_N0509_R073_T01WCS_20230626T022157")
GRID = Grid.utm(179.9, 68.9, (150, 230), zone=1)
LANDSCAPE = Landscape(2)
SKY = Sky(9, 0.3)
BANDS = ("B02", "B8A", "B12")
LOCAL = (
    'PROJCS["local",GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563]],PRIMEM["Greenwich",0],'
    'UNIT["degree",0.0174532925199433]],PROJECTION["Lambert_Azimuthal_Equal_Area"],PARAMETER["latitude_of_center",50.72],'
    'PARAMETER["longitude_of_center",-3.51],UNIT["metre",1]]'
)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A product larger than one JPEG 2000 tile."""
    grid = Grid.utm(179.9, 68.9, (660, 700), zone=1)
    return make_product(tmp_path_factory.mktemp("large"), NAME, grid, LANDSCAPE, SKY, bands=["B8A"])


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    swath = Swath(across=(0.3, 1))
    return make_product(tmp_path_factory.mktemp("small"), NAME, GRID, LANDSCAPE, SKY, bands=BANDS, swath=swath)


def _image(product: Path, band: str) -> Path:
    (path,) = product.glob(f"GRANULE/*/IMG_DATA/R20m/*_{band}_20m.jp2")
    return path


def _pixels(product: Path, band: str) -> NDArray[np.uint16]:
    pixels: NDArray[np.uint16] = gdal.Open(str(_image(product, band))).ReadAsArray()
    return pixels


def _text(product: Path, tag: str) -> Sequence[str]:
    root = ElementTree.parse(product / "MTD_MSIL2A.xml")
    return [element.text or "" for element in root.iter(tag)]


def _harmonised(numbers: NDArray[np.uint16], offset: int) -> NDArray[np.int64]:
    return np.maximum(numbers.astype(np.int64) + offset, 0)


def test_tree_is_that_of_a_real_product(product: Path) -> None:
    """Names as in the real product of this name."""
    granule = "GRANULE/L2A_T01WCS_A041826_20230625T234624"
    images = [f"{granule}/IMG_DATA/R20m/T01WCS_20230625T234621_{band}_20m.jp2" for band in (*BANDS, "SCL")]
    files = [str(path.relative_to(product)) for path in product.rglob("*") if path.is_file()]
    assert product.name == "S2A_MSIL2A_20230625T234621_N0509_R073_T01WCS_20230626T022157.SAFE"
    assert sorted(files) == sorted([*images, f"{granule}/MTD_TL.xml", "MTD_MSIL2A.xml", "manifest.safe"])
    assert list(product.parent.iterdir()) == [product]


def test_jpeg_2000_is_built_like_a_real_one(large: Path) -> None:
    """Tiles, bits, levels, code blocks and transform, read from the markers SIZ and COD (ISO/IEC 15444-1, annex A)."""
    for band, bits in (("B8A", 15), ("SCL", 8)):
        content = _image(large, band).read_bytes()
        siz = content.index(b"\xff\x4f\xff\x51") + 4
        width, height, _, _, tile_width, tile_height = struct.unpack(">6I", content[siz + 4 : siz + 28])
        assert (width, height, tile_width, tile_height) == (700, 660, 640, 640)
        assert content[siz + 38] == bits - 1
        cod = content.index(b"\xff\x52", siz) + 2
        assert content[cod + 7] == 4  # decompositions: five resolutions
        assert (content[cod + 8], content[cod + 9]) == (4, 4)  # code blocks of 2^(4+2)
        assert content[cod + 11] == 1  # the reversible transform
        assert b"\xff\x55" not in content[siz : content.index(b"\xff\x90", cod)]  # no TLM before the first tile


@pytest.mark.parametrize(("baseline", "is_listed"), [("05.11", False), ("05.12", True)])
def test_newer_images_list_the_lengths_of_their_tiles(tmp_path: Path, baseline: str, is_listed: bool) -> None:
    """One marker TLM in the main header, with the length of each tile-part, and PLT in each tile (A.7.1 and A.7.3)."""
    numbers = np.random.default_rng(1).integers(1, 4000, (20, 700), dtype=np.uint16)
    grid = replace(GRID, shape=numbers.shape)
    name, scl = replace(NAME, baseline=baseline), (numbers % 12).astype(np.uint8)
    made = write_product(tmp_path, name, grid, {"B04": numbers}, scl)
    for band in ("B04", "SCL"):
        content = _image(made, band).read_bytes()
        first = content.index(b"\xff\x90\x00\x0a")
        (length,) = struct.unpack(">I", content[first + 6 : first + 10])
        second = first + length
        assert content[second : second + 6] == b"\xff\x90\x00\x0a\x00\x01"
        lengths = content[first + 6 : first + 10], content[second + 6 : second + 10]
        tlm = b"\xff\x55\x00\x10\x00\x60" + b"\x00\x00" + lengths[0] + b"\x00\x01" + lengths[1]
        tlm_8 = b"\xff\x55\x00\x0e\x00\x50" + b"\x00" + lengths[0] + b"\x01" + lengths[1]
        assert ((tlm in content[:first]) or (tlm_8 in content[:first])) == is_listed
        assert (content[first + 12 : first + 14] == b"\xff\x58") == is_listed


def test_gdal_reads_tiles_and_bits(large: Path) -> None:
    raster = gdal.Open(str(_image(large, "B8A")))
    band = raster.GetRasterBand(1)
    assert band.GetBlockSize() == [640, 640]
    assert band.GetMetadataItem("NBITS", "IMAGE_STRUCTURE") == "15"
    assert band.DataType == gdal.GDT_UInt16
    assert _pixels(large, "SCL").dtype == np.uint8


@pytest.mark.parametrize(
    ("crs", "geotransform"),
    [
        ("EPSG:32601", (399960.0, 20.0, 0.0, 7700040.0, 0.0, -20.0)),
        ("EPSG:32660", (600000.0, 20.0, 0.0, 7700020.0, 0.0, -20.0)),
        ("EPSG:32733", (199980.0, 20.0, 0.0, 6400000.0, 0.0, -20.0)),
        ("EPSG:27700", (289813.58026064973, 19.99296690111639, 0.0, 95714.02472178134, 0.0, -19.99296690111639)),
        ("EPSG:4326", (-3.5600123, 0.000179663056824, 0.0, 50.7400321, 0.0, -0.000179663056824)),
        (LOCAL, (-3540.0, 20.0, 0.0, 3340.0, 0.0, -20.0)),
    ],
)
def test_pixels_and_georeferencing_come_back_exactly(
    tmp_path: Path, crs: str, geotransform: tuple[float, float, float, float, float, float]
) -> None:
    random = np.random.default_rng(4)
    grid = Grid(crs, geotransform, (61, 83))
    numbers = random.integers(0, 32768, grid.shape, dtype=np.uint16)
    scl = random.integers(0, 12, grid.shape, dtype=np.uint8)
    made = write_product(tmp_path, NAME, grid, {"B08": numbers}, scl)
    for band, pixels in (("B08", numbers), ("SCL", scl)):
        raster = gdal.Open(str(_image(made, band)))
        assert raster.GetGeoTransform() == geotransform
        assert raster.GetSpatialRef().IsSame(grid.spatial_reference)
        np.testing.assert_array_equal(raster.ReadAsArray(), pixels)
    assert not list(tmp_path.rglob("*.aux.xml"))


def test_clear_pixels_hold_the_truth(product: Path) -> None:
    scl, numbers = _pixels(product, "SCL"), _pixels(product, "B8A")
    truth = np.rint(10_000 * LANDSCAPE.reflectance("B8A", *GRID.centres()))
    clear = np.isin(scl, (4, 5, 6)) & (numbers > 0)
    assert clear.mean() > 0.2
    np.testing.assert_array_equal(_harmonised(numbers, -1000)[clear], truth[clear])
    np.testing.assert_array_equal(scl[clear], LANDSCAPE.classes(*GRID.centres())[clear])


def test_harmonised_numbers_are_the_same_in_every_baseline() -> None:
    truth, _ = render(NAME, GRID, LANDSCAPE, SKY, bands=BANDS, offset=-5000, dark_noise=0)
    for baseline in ("02.14", "03.01", "04.00", "05.09"):
        name = replace(NAME, baseline=baseline)
        offset = Metadata().offset_of(name)
        arrays, _ = render(name, GRID, LANDSCAPE, SKY, bands=BANDS, offset=offset)
        for band, numbers in arrays.items():
            true = truth[band].astype(np.int64) - 5000
            assert numbers.min() >= 1
            np.testing.assert_array_equal(_harmonised(numbers, offset)[true >= 1], true[true >= 1])


def test_dark_water_goes_below_the_offset() -> None:
    noisy, plain = (
        render(NAME, GRID, LANDSCAPE, None, bands=["B12"], offset=-1000, dark_noise=noise)[0]["B12"]
        for noise in (40, 0)
    )
    assert plain.min() == 1000
    assert 960 <= noisy.min() < 1000
    np.testing.assert_array_equal(_harmonised(noisy, -1000), _harmonised(plain, -1000))
    old, _ = render(NAME, GRID, LANDSCAPE, None, bands=["B12"], offset=0)
    assert (old["B12"][plain == 1000] == 1).all()  # DN 0 would be nodata


def test_overlapping_granules_see_the_same() -> None:
    other = replace(GRID, geotransform=(GRID.geotransform[0] + 400, 20.0, 0.0, GRID.geotransform[3] - 200, 0.0, -20.0))
    here, there = (render(NAME, grid, LANDSCAPE, SKY, bands=["B02"]) for grid in (GRID, other))
    np.testing.assert_array_equal(here[0]["B02"][10:, 20:], there[0]["B02"][:-10, :-20])
    np.testing.assert_array_equal(here[1][10:, 20:], there[1][:-10, :-20])


def test_nodata_beyond_the_swath_differs_by_band(product: Path) -> None:
    scl = _pixels(product, "SCL")
    nodata = {band: _pixels(product, band) == 0 for band in BANDS}
    assert 0.1 < nodata["B02"].mean() < 0.5
    np.testing.assert_array_equal(nodata["B02"], scl == 0)
    assert (nodata["B8A"] & (scl != 0)).any()
    assert (~nodata["B12"] & (scl == 0)).any()


@pytest.mark.parametrize(("baseline", "algorithm"), [("02.14", "MD5"), ("05.09", "SHA3-256")])
def test_manifest_lists_every_file_with_its_size_and_checksum(tmp_path: Path, baseline: str, algorithm: str) -> None:
    made = make_product(tmp_path, replace(NAME, baseline=baseline), GRID, LANDSCAPE, SKY, bands=["B03"])
    listed = set()
    for entry in ElementTree.parse(made / "manifest.safe").iter("byteStream"):
        location, checksum = entry.find("fileLocation"), entry.find("checksum")
        assert location is not None
        assert checksum is not None
        assert location.attrib["href"].startswith("./")
        content = (made / location.attrib["href"]).read_bytes()
        digest = hashlib.md5 if algorithm == "MD5" else hashlib.sha3_256
        assert entry.attrib["size"] == str(len(content))
        assert checksum.attrib["checksumName"] == algorithm
        assert (checksum.text or "").lower() == digest(content).hexdigest()
        listed.add(made / location.attrib["href"])
    assert listed == {path for path in made.rglob("*") if path.is_file()} - {made / "manifest.safe"}


def test_manifest_tells_place_time_and_orbit(product: Path) -> None:
    root = ElementTree.parse(product / "manifest.safe")
    names = {"safe": "http://www.esa.int/safe/sentinel/1.1", "gml": "http://www.opengis.net/gml"}
    assert root.findtext(".//safe:startTime", namespaces=names) == "2023-06-25T23:46:21.024Z"
    assert root.findtext(".//safe:orbitNumber", namespaces=names) == "041826"
    assert root.findtext(".//safe:relativeOrbitNumber", namespaces=names) == "073"
    numbers = [float(text) for text in (root.findtext(".//gml:coordinates", "", names)).split()]
    assert numbers[:2] == numbers[-2:]
    assert all(68.8 < lat < 69.0 for lat in numbers[::2])
    assert all(179.8 < lon < 180 for lon in numbers[1::2])
    assert _text(product, "EXT_POS_LIST") == [root.findtext(".//gml:coordinates", "", names)]


def test_product_xml_tells_offset_and_clouds(product: Path) -> None:
    assert _text(product, "PRODUCT_URI") == [product.name]
    assert _text(product, "PROCESSING_BASELINE") == ["05.09"]
    assert _text(product, "GENERATION_TIME") == ["2023-06-26T02:21:57.000000Z"]
    assert _text(product, "BOA_QUANTIFICATION_VALUE") == ["10000"]
    offsets = ElementTree.parse(product / "MTD_MSIL2A.xml").iter("BOA_ADD_OFFSET")
    assert [(o.attrib["band_id"], o.text) for o in offsets] == [(str(band), "-1000") for band in range(13)]
    images = [str(path.relative_to(product).with_suffix("")) for path in product.rglob("*.jp2")]
    assert sorted(_text(product, "IMAGE_FILE")) == sorted(images)


def test_product_xml_tells_the_share_of_each_class(tmp_path: Path) -> None:
    """Of 60 pixels 10 are nodata; of the other 50 there are 5 for each of the SCL classes 2 to 11."""
    scl = np.concatenate([np.zeros(10), np.repeat(np.arange(2, 12), 5)]).astype(np.uint8).reshape(6, 10)
    grid = Grid.utm(179.9, 68.9, (6, 10), zone=1)
    made = write_product(tmp_path, NAME, grid, {"B02": np.full(grid.shape, 1234, dtype=np.uint16)}, scl)
    assert _text(made, "NODATA_PIXEL_PERCENTAGE") == ["16.666667"]
    assert _text(made, "Cloud_Coverage_Assessment") == ["30.000000"]
    assert _text(made, "WATER_PERCENTAGE") == ["10.000000"]
    assert _text(made, "SATURATED_DEFECTIVE_PIXEL_PERCENTAGE") == ["0.000000"]


def test_tile_xml_tells_the_grid(product: Path) -> None:
    (path,) = product.glob("GRANULE/*/MTD_TL.xml")
    root = ElementTree.parse(path)
    told = {tag: root.findtext(f".//{tag}") for tag in ("HORIZONTAL_CS_CODE", "NROWS", "NCOLS", "ULX", "ULY")}
    xmin, _, _, ymax, _, _ = GRID.geotransform
    assert told == {
        "HORIZONTAL_CS_CODE": "EPSG:32601",
        "NROWS": "150",
        "NCOLS": "230",
        "ULX": f"{xmin:.0f}",
        "ULY": f"{ymax:.0f}",
    }


@pytest.mark.parametrize(
    ("baseline", "metadata", "least", "listed"),
    [
        ("02.14", Metadata(), 1, []),
        ("05.09", Metadata(offset=-500), 500, ["-500"] * 13),
        ("02.14", Metadata(offset=-1000), 1000, ["-1000"] * 13),
        ("05.09", Metadata(offset_listed=False), 1000, []),
        ("05.09", Metadata(offset=0), 1, []),
        ("99.99", Metadata(offset=-1000), 1000, ["-1000"] * 13),
    ],
)
def test_offset_can_be_told_apart_from_the_baseline(
    tmp_path: Path, baseline: str, metadata: Metadata, least: int, listed: list[str]
) -> None:
    name = replace(NAME, baseline=baseline)
    made = make_product(tmp_path, name, GRID, LANDSCAPE, bands=["B12"], metadata=metadata, dark_noise=0)
    assert _pixels(made, "B12").min() == least
    assert _text(made, "BOA_ADD_OFFSET") == listed


def test_product_xml_can_be_missing(tmp_path: Path) -> None:
    made = make_product(tmp_path, NAME, GRID, LANDSCAPE, bands=["B12"], metadata=Metadata(product_xml=False))
    assert not (made / "MTD_MSIL2A.xml").exists()
    assert "MTD_MSIL2A" not in (made / "manifest.safe").read_text()


def test_checksum_can_be_chosen(tmp_path: Path) -> None:
    made = make_product(tmp_path, NAME, GRID, LANDSCAPE, bands=["B12"], metadata=Metadata(checksum="MD5"))
    assert "SHA3" not in (made / "manifest.safe").read_text()


def test_a_users_own_processing_needs_its_offset_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="N9999"):
        make_product(tmp_path, replace(NAME, baseline="99.99"), GRID, LANDSCAPE, bands=["B12"])
    assert not list(tmp_path.iterdir())


def test_pixels_that_do_not_fit_are_refused_and_leave_what_was_there(tmp_path: Path) -> None:
    scl = np.full(GRID.shape, 4, dtype=np.uint8)
    good = np.full(GRID.shape, 1234, dtype=np.uint16)
    made = write_product(tmp_path, NAME, GRID, {"B02": good}, scl)
    for bad in (good[1:], good * np.uint16(30)):
        with pytest.raises(ValueError, match="B02"):
            write_product(tmp_path, NAME, GRID, {"B02": bad}, scl)
    with pytest.raises(ValueError, match="SCL"):
        write_product(tmp_path, NAME, GRID, {"B02": good}, good)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == [made]
    np.testing.assert_array_equal(_pixels(made, "B02"), good)


def test_a_product_replaces_one_of_its_name(tmp_path: Path) -> None:
    scl = np.full(GRID.shape, 4, dtype=np.uint8)
    for band, value in (("B02", 1000), ("B03", 2000)):
        made = write_product(tmp_path, NAME, GRID, {band: np.full(GRID.shape, value, dtype=np.uint16)}, scl)
    assert list(tmp_path.iterdir()) == [made]
    assert [path.name.split("_")[2] for path in sorted(made.rglob("*.jp2"))] == ["B03", "SCL"]
