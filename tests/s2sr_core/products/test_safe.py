from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import shapely
from support.trees import (
    BAND_IDS,
    BANDS,
    FOOTPRINT,
    NEW,
    OLD,
    content_of,
    image_path,
    manifest_xml,
    metadata_xml,
    ring,
    write_tree,
)

from s2sr_core.errors import ProductError
from s2sr_core.files import remove_tree
from s2sr_core.products.bands import SCL
from s2sr_core.products.manifest import inside, read_safe_manifest
from s2sr_core.products.names import ProductName
from s2sr_core.products.safe import BandFile, Product, band_files, product_paths, read_product
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.products import write_product

ALL = (SCL, *BANDS)
BOX = shapely.box(-150, 68.5, -149, 69)


def offsets_of(product: Product) -> dict[str, tuple[int, str]]:
    """Of the bands of 20 m."""
    return {offset.band: (offset.dn, offset.source) for offset in product.offsets if offset.band != "B08"}


def refusal(path: Path) -> str:
    """Why a product cannot be read; the error names it."""
    with pytest.raises(ProductError) as caught:
        read_product(path)
    assert caught.value.product.removesuffix(".SAFE") == path.name.removesuffix(".SAFE")
    assert "\n" not in caught.value.reason
    return caught.value.reason


def files_of(path: Path, *bands: str) -> dict[str, BandFile | ProductError]:
    """The images of a product, each found or with what is wrong."""
    files = band_files(read_product(path), bands or ALL)
    assert set(files.found) | set(files.errors) == set(bands or ALL)
    assert not set(files.found) & set(files.errors)
    return {**files.found, **files.errors}


def file_of(path: Path, band: str) -> BandFile:
    found = files_of(path, band)[band]
    assert isinstance(found, BandFile), found
    return found


def fault_of(path: Path, band: str) -> str:
    """Why one band cannot be used."""
    found = files_of(path, band)[band]
    assert isinstance(found, ProductError)
    assert found.product == path.name.removesuffix(".SAFE")
    return found.reason


# ----------------------------------------------------------------------------------------------- the real metadata

REAL = (
    "S2A_MSIL2A_20190212T192651_N0212_R013_T07HFE_20201007T160857",
    "S2B_MSIL2A_20220413T150759_N0400_R025_T33XWJ_20220414T082126",
    "S2A_MSIL2A_20230625T234621_N0509_R073_T01WCS_20230626T022157",
)


@pytest.fixture(params=REAL)
def real(request: pytest.FixtureRequest, shared_data: Path) -> Path:
    """A real product's manifest and metadata, without images."""
    return shared_data / "safe_metadata" / f"{request.param}.SAFE"


def test_real_offsets_are_those_in_the_text_of_the_xml(real: Path) -> None:
    text = (real / "MTD_MSIL2A.xml").read_text()
    listed = {BAND_IDS[int(i)]: int(dn) for i, dn in re.findall(r'<BOA_ADD_OFFSET band_id="(\d+)">(-?\d+)<', text)}
    product = read_product(real)
    if product.name.baseline == "02.12":
        assert "BOA_ADD_OFFSET" not in text
        assert offsets_of(product) == dict.fromkeys(BANDS, (0, "name"))
    else:
        assert len(listed) == 13
        assert offsets_of(product) == {band: (listed[band], "XML") for band in BANDS}
        assert set(listed.values()) == {-1000}
    assert product.notes == ()


def test_real_cloud_cover_is_that_in_the_text_of_the_xml(real: Path) -> None:
    [text] = re.findall(r"<Cloud_Coverage_Assessment>([\d.]+)<", (real / "MTD_MSIL2A.xml").read_text())
    assert read_product(real).cloud_cover == float(text)
    assert float(text) in (51.580326, 83.930558, 98.944211)


def test_real_footprints_hold_every_point_of_the_text(real: Path) -> None:
    """Each position of the manifest lies on the outline's edge; its area by the shoelace formula."""
    [text] = re.findall(r"coordinates>([^<]*\d[^<]*)<", (real / "manifest.safe").read_text())
    points = np.array(text.split(), float).reshape(-1, 2)[:, ::-1]
    outline = read_product(real).footprint
    assert outline is not None
    assert all(outline.boundary.distance(shapely.Point(point)) < 1e-9 for point in points)
    x, y = points[:, 0] % 360, points[:, 1]
    shoelace = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    assert outline.area == pytest.approx(shoelace, rel=1e-9)
    middle = np.cos(np.radians(y.mean()))
    assert 100 < shoelace * middle * 111.32**2 < 109.8**2 * 1.02  # km²: part of a granule, and never more


def test_the_real_footprint_at_the_antimeridian_has_two_parts(shared_data: Path) -> None:
    outline = read_product(shared_data / "safe_metadata" / f"{REAL[2]}.SAFE").footprint
    assert outline is not None
    west, east = sorted(shapely.get_parts(outline), key=lambda part: part.bounds)
    assert west.bounds[0] == -180
    assert west.bounds[2] == -179.197
    assert east.bounds[0] == 179.00590015953946
    assert east.bounds[2] == 180


def test_real_files_are_found_by_the_sizes_and_checksums_of_the_manifest(real: Path, tmp_path: Path) -> None:
    """Files of the listed sizes are laid where the text of the manifest says (as holes: they take no room)."""
    listed = {}
    for block in re.findall(r"<byteStream.*?</byteStream>", (real / "manifest.safe").read_text(), re.DOTALL):
        if match := re.search(r'href="(?:\./)?([^"]*_(B\d[\dA]|SCL)_20m\.(?:jp2|tif))"', block):
            [size] = re.findall(r' size="(\d+)"', block)
            [[algorithm, value]] = re.findall(r'<checksum checksumName="([\w-]+)">(\w+)</checksum>', block)
            listed[match[2]] = (match[1], int(size), f"{algorithm}:{value}".lower())
    assert set(ALL) <= set(listed)
    copy = shutil.copytree(real, tmp_path / real.name)
    for band in ALL:
        path = copy / listed[band][0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.truncate(path, listed[band][1])
    for band, file in files_of(copy).items():
        href, size, checksum = listed[band]
        assert file == BandFile(band, copy / href, size, checksum)
        assert re.fullmatch(r"md5:[0-9a-f]{32}|sha3-256:[0-9a-f]{64}", checksum)


def test_real_products_without_their_images_lack_every_band(real: Path) -> None:
    for band, fault in files_of(real).items():
        assert isinstance(fault, ProductError)
        assert fault.band == band
        assert fault.step == "files"
        assert re.fullmatch(rf"T\w{{5}}_\w{{15}}_{band}_20m\.(jp2|tif) is missing", fault.reason)


# ----------------------------------------------------------------------------------------------------- a good product


@pytest.mark.parametrize("name", [OLD, NEW])
def test_a_tree_by_hand_is_read(tmp_path: Path, name: str) -> None:
    path = write_tree(tmp_path, name)
    product = read_product(path)
    assert product.name == ProductName.parse(name)
    assert product.path == path
    assert product.cloud_cover == 12.5
    assert product.footprint is not None
    assert product.footprint.equals(BOX)
    assert product.notes == ()
    assert offsets_of(product) == dict.fromkeys(BANDS, (0, "name") if name == OLD else (-1000, "XML"))
    for band, file in band_files(product, ALL).found.items():
        assert file == BandFile(
            band,
            path / image_path(name, band),
            len(content_of(band)),
            f"md5:{hashlib.md5(content_of(band)).hexdigest()}",
        )


def test_products_of_the_sandbox_are_read(tmp_path: Path) -> None:
    """Its manifests have SHA3-256 in capitals from 04.00 on; checksums are of the files themselves."""
    grid = Grid.utm(-149.6, 68.63, 64)
    dn, scl = np.full(grid.shape, 1234, np.uint16), np.full(grid.shape, 4, np.uint8)
    path = write_product(tmp_path, ProductName.parse(NEW), grid, {"B04": dn}, scl)
    for band in ("B04", SCL):
        file = file_of(path, band)
        assert file.checksum == f"sha3-256:{hashlib.sha3_256(file.path.read_bytes()).hexdigest()}"
        assert file.size == file.path.stat().st_size
    outline = read_product(path).footprint
    assert outline is not None
    assert outline.contains(shapely.Point(-149.6, 68.63))


def test_before_2017_names_of_images_and_metadata_were_others(tmp_path: Path) -> None:
    name = OLD.replace("20190701T214529_N0212", "20160701T214529_N0204")
    path = write_tree(
        tmp_path,
        name,
        prefix="L2A_",
        metadata_file="MTD_MSIL2a.xml",
        metadata=metadata_xml(cloud=3.25, offsets={"B04": -7}),
    )
    assert read_product(path).cloud_cover == 3.25
    assert read_product(path).offset("B04").dn == -7
    assert file_of(path, "B8A").path.name == "L2A_T05WPM_20160701T214529_B8A_20m.jp2"


@pytest.mark.parametrize("suffix", ["tif", "TIF", "tiff", "JP2"])
def test_archives_may_hold_geotiffs(tmp_path: Path, suffix: str) -> None:
    assert file_of(write_tree(tmp_path, suffix=suffix), "B04").path.suffix == f".{suffix}"


@pytest.mark.parametrize("manifest", ["", None])
def test_an_image_that_somebody_converted_is_used_with_a_note(tmp_path: Path, manifest: str | None) -> None:
    """The manifest still lists the JPEG 2000, which is gone; without a manifest what lies there is the product's."""
    path = write_tree(tmp_path, manifest=manifest)
    original = path / image_path(OLD, "B04")
    converted = original.with_suffix(".tif")
    original.unlink()
    converted.write_bytes(b"a GeoTIFF of another size")
    converted.with_name(f"{converted.name}.aux.xml").write_text("<PAMDataset/>")
    note = f"{converted.name} is used for {original.name}, which is missing; the manifest cannot vouch for it"
    digest = hashlib.sha256(b"a GeoTIFF of another size").hexdigest()
    assert file_of(path, "B04") == BandFile("B04", converted, 25, f"sha256:{digest}", note if manifest == "" else "")
    assert file_of(path, "B03").note == ""


@pytest.mark.parametrize("manifest", ["", None])
def test_an_original_counts_where_a_converted_image_lies_next_to_it(tmp_path: Path, manifest: str | None) -> None:
    path = write_tree(tmp_path, manifest=manifest)
    original = path / image_path(OLD, "B04")
    original.with_suffix(".tif").write_bytes(b"a GeoTIFF")
    assert file_of(path, "B04").path == original


def test_an_empty_image_is_named(tmp_path: Path) -> None:
    path = write_tree(tmp_path, manifest=None)
    (path / image_path(OLD, "B04")).write_bytes(b"")
    assert fault_of(path, "B04") == f"{Path(image_path(OLD, 'B04')).name} is empty"


def test_other_images_are_not_taken_for_a_band(tmp_path: Path) -> None:
    """10 m and 60 m, AOT, WVP and TCI, masks, and files beside it stand in a manifest too."""
    path = write_tree(tmp_path)
    good = image_path(OLD, "B04")
    others = [good.replace("20m", "10m"), good.replace("20m", "60m"), *(image_path(OLD, x) for x in ("TCI", "AOT"))]
    others += [f"{good}.aux.xml", good.replace(".jp2", ".xml"), good.replace("T05WPM_2019", "MSK_T05WPM_2019")]
    entries = [(href, 1, "MD5", "0") for href in others] + [(good, len(content_of("B04")), "MD5", "AbC")]
    (path / "manifest.safe").write_text(manifest_xml(entries))
    assert file_of(path, "B04").checksum == "md5:abc"


def test_asking_for_some_bands_looks_at_them_alone(tmp_path: Path) -> None:
    path = write_tree(tmp_path, bands=("B04", "SCL"))
    assert list(files_of(path, "B04")) == ["B04"]
    assert fault_of(path, "B03") == "the product lists no 20 m image of this band"
    assert isinstance(files_of(path, "B03", "B04")["B04"], BandFile)


# ---------------------------------------------------------------------------------------------------------- offsets


def test_the_xml_is_believed_whatever_its_value(tmp_path: Path) -> None:
    values = {band: -100 * number for number, band in enumerate(BAND_IDS)} | {"B12": 250}
    path = write_tree(tmp_path, NEW, metadata=metadata_xml(offsets=values))
    assert offsets_of(read_product(path)) == {band: (values[band], "XML") for band in BANDS}


def test_a_disagreement_with_the_name_is_noted_for_each_band(tmp_path: Path) -> None:
    values = dict.fromkeys(BAND_IDS, -1000) | {"B04": -900, "B01": 5}
    path = write_tree(tmp_path, NEW, metadata=metadata_xml(offsets=values))
    assert read_product(path).notes == ("offset of B04 is -900 in the XML, -1000 by the baseline; the XML's is used",)


def test_an_offset_before_baseline_4_is_used_and_noted(tmp_path: Path) -> None:
    path = write_tree(tmp_path, OLD, metadata=metadata_xml(offsets=dict.fromkeys(BAND_IDS, -1000)))
    product = read_product(path)
    assert offsets_of(product) == dict.fromkeys(BANDS, (-1000, "XML"))
    assert len(product.notes) == 9
    assert product.notes[0] == "offset of B02 is -1000 in the XML, 0 by the baseline; the XML's is used"


def test_zero_in_the_xml_is_not_silence(tmp_path: Path) -> None:
    product = read_product(write_tree(tmp_path, NEW, metadata=metadata_xml(offsets=dict.fromkeys(BAND_IDS, 0))))
    assert offsets_of(product) == dict.fromkeys(BANDS, (0, "XML"))
    assert len(product.notes) == 9


def test_xml_without_offsets_from_baseline_4_on_falls_back_to_the_name_with_a_note(tmp_path: Path) -> None:
    product = read_product(write_tree(tmp_path, NEW, metadata=metadata_xml()))
    assert offsets_of(product) == dict.fromkeys(BANDS, (-1000, "name"))
    assert product.notes == ("the XML gives no offset though the baseline is 04.00; -1000 is used",)


def test_a_band_that_the_xml_leaves_out_falls_back_with_a_note(tmp_path: Path) -> None:
    values = {band: -1000 for band in BAND_IDS if band not in ("B05", "B12")}
    product = read_product(write_tree(tmp_path, NEW, metadata=metadata_xml(offsets=values)))
    assert product.offset("B05").source == product.offset("B12").source == "name"
    assert product.offset("B04").source == "XML"
    assert {offset.dn for offset in product.offsets} == {-1000}
    assert product.notes == ("the XML gives no offset of B05 B12 though the baseline is 04.00; -1000 is used",)


@pytest.mark.parametrize(("name", "dn"), [(OLD, 0), (NEW, -1000)])
def test_without_xml_the_name_tells(tmp_path: Path, name: str, dn: int) -> None:
    product = read_product(write_tree(tmp_path, name, metadata=None))
    assert offsets_of(product) == dict.fromkeys(BANDS, (dn, "name"))
    assert product.notes == ()
    assert product.cloud_cover is None


@pytest.mark.parametrize("baseline", ["N0001", "N9999", "N9990", "N0700", "N0107"])
def test_user_made_products_need_xml_and_are_believed_by_it(tmp_path: Path, baseline: str) -> None:
    """Sen2Cor writes the offset wherever it adds one: XML without one says 0, no XML says nothing."""
    name = OLD.replace("N0212", baseline)
    listed = write_tree(tmp_path / "a", name, metadata=metadata_xml(offsets=dict.fromkeys(BAND_IDS, -1000)))
    silent = write_tree(tmp_path / "b", name, metadata=metadata_xml())
    partly = write_tree(tmp_path / "c", name, metadata=metadata_xml(offsets={"B02": -1000}))
    without = write_tree(tmp_path / "d", name, metadata=None)
    assert offsets_of(read_product(listed)) == dict.fromkeys(BANDS, (-1000, "XML"))
    assert offsets_of(read_product(silent)) == dict.fromkeys(BANDS, (0, "XML"))
    assert read_product(listed).notes == read_product(silent).notes == ()
    number = f"{baseline[1:3]}.{baseline[3:]}"
    for path, band in ((partly, "B03"), (without, "B02")):
        assert refusal(path) == (
            f"baseline {number} is not of the operational series, so it does not imply the offset of {band}, "
            "and MTD_MSIL2A.xml does not give one"
        )


@pytest.mark.parametrize("dn", ["", "x", "nan", "inf", "-1000.5", "1e9", "10001", "-10001", "-1000 -1000"])
def test_an_offset_that_is_no_dn_is_refused(tmp_path: Path, dn: str) -> None:
    path = write_tree(tmp_path, NEW, metadata=metadata_xml(offsets={"B04": dn}))
    text = None if dn == "" else dn
    assert refusal(path) == f"BOA_ADD_OFFSET of band_id '3' is {text!r}: not a band and its DN, -10000 to 10000"


@pytest.mark.parametrize("dn", ["-1000.0", " -1000 ", "-1e3"])
def test_an_offset_may_be_written_in_any_way_a_number_is(tmp_path: Path, dn: str) -> None:
    assert read_product(write_tree(tmp_path, NEW, metadata=metadata_xml(offsets={"B04": dn}))).offset("B04").dn == -1000


@pytest.mark.parametrize("band_id", ["-1", "13", "", "1.5", "B04", "nan"])
def test_an_offset_of_no_band_is_refused(tmp_path: Path, band_id: str) -> None:
    text = metadata_xml(offsets={"B04": -1000}).replace('band_id="3"', f'band_id="{band_id}"')
    path = write_tree(tmp_path, NEW, metadata=text)
    assert refusal(path) == f"BOA_ADD_OFFSET of band_id '{band_id}' is '-1000': not a band and its DN, -10000 to 10000"


@pytest.mark.parametrize("second", ["0", "-1000"])
def test_an_offset_given_twice_is_refused(tmp_path: Path, second: str) -> None:
    text = metadata_xml(offsets={"B03": 0, "B04": -1000})
    text = text.replace('band_id="2">0<', f'band_id="3">{second}<')
    assert refusal(write_tree(tmp_path, NEW, metadata=text)) == "BOA_ADD_OFFSET of B04 is given twice"


@pytest.mark.parametrize("value", ["1000", "ten", "nan"])
def test_another_quantification_is_refused(tmp_path: Path, value: str) -> None:
    path = write_tree(tmp_path, metadata=metadata_xml(quantification=value))
    assert refusal(path) == f"BOA_QUANTIFICATION_VALUE is '{value}', only 10000 is supported"


# ----------------------------------------------------------------------------------------- clouds and footprint


@pytest.mark.parametrize(("text", "cover"), [("0", 0.0), (" 99.9 ", 99.9), ("nan", None), ("inf", None), ("?", None)])
def test_cloud_cover_is_a_number_or_unknown(tmp_path: Path, text: str, cover: float | None) -> None:
    assert read_product(write_tree(tmp_path, metadata=metadata_xml(cloud=text))).cloud_cover == cover


def test_the_manifests_footprint_comes_before_the_metadatas(tmp_path: Path) -> None:
    other = ring(10, 60, 11, 61)
    product = read_product(write_tree(tmp_path, metadata=metadata_xml(footprint=other)))
    assert product.footprint is not None
    assert product.footprint.equals(BOX)
    silent = read_product(write_tree(tmp_path / "b", footprint=None, metadata=metadata_xml(footprint=other)))
    assert silent.footprint is not None
    assert silent.footprint.equals(shapely.box(10, 60, 11, 61))


@pytest.mark.parametrize("text", [None, "", "nonsense", "68 -150 69 -150", "68 -150 68 -150 68 -150 68 -150"])
def test_a_footprint_that_is_none_is_unknown(tmp_path: Path, text: str | None) -> None:
    """Not empty: an empty one would touch no cell."""
    assert read_product(write_tree(tmp_path, footprint=text)).footprint is None


def test_a_footprint_in_several_rings_is_their_union(tmp_path: Path) -> None:
    """Cut at 180: one ring on each side."""
    text = f"{ring(179.5, 60, 180, 61)}</gml:coordinates><gml:coordinates>{ring(-180, 60, -179, 61)}"
    outline = read_product(write_tree(tmp_path, footprint=text, metadata=None)).footprint
    assert outline is not None
    assert sorted(part.bounds for part in shapely.get_parts(outline)) == [(-180, 60, -179, 61), (179.5, 60, 180, 61)]


# -------------------------------------------------------------------------------------------------------- bad names


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("garbage", "is not named like a Sentinel-2 Level-2A product"),
        (OLD.replace("MSIL2A", "MSIL1C"), "is Level-1C; only Level-2A has SCL"),
        (OLD.replace("T05WPM", "T61WPM"), "T61WPM is not an MGRS tile"),
    ],
)
def test_a_bad_name_is_refused_before_any_file_is_read(tmp_path: Path, name: str, reason: str) -> None:
    folder = tmp_path / f"{name}.SAFE"
    folder.mkdir()
    (folder / "MTD_MSIL2A.xml").write_text("not XML")
    assert refusal(folder) == reason


# ----------------------------------------------------------------------------------------------------- hostile XML

LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "lol">'
    + "".join(f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(12))
    + "]><lolz>&m;</lolz>"
)
DTD = "holds a DTD or entities, which no product does; it is not read"


@pytest.mark.parametrize("file", ["MTD_MSIL2A.xml", "manifest.safe"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (LAUGHS, DTD),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', DTD),
        ('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>', DTD),
        ("<!DOCTYPE a><a/>", DTD),
        ("<a>&x;</a>", "cannot be read: undefined entity"),
        ("", "cannot be read: no element found"),
        ("not XML at all", "cannot be read: syntax error"),
        ("<a><b></a>", "cannot be read: mismatched tag"),
        ("<a>", "cannot be read: no element found"),
        ("<a/><b/>", "cannot be read: junk after document element"),
        ('<?xml version="1.0" encoding="klingon"?><a/>', "cannot be read: unknown encoding: klingon"),
        ('<?xml version="1.0" encoding="base64"?><a/>', "cannot be read: "),
        ('<?xml version="1.0" encoding="shift_jis"?><a/>', "cannot be read: multi-byte encodings"),
    ],
)
def test_xml_that_is_none_or_wants_more_than_itself_is_refused(
    tmp_path: Path, file: str, content: str, reason: str
) -> None:
    path = write_tree(tmp_path)
    (path / file).write_text(content)
    assert refusal(path).startswith(f"{file} {reason}")


def test_a_million_elements_deep_is_no_harm(tmp_path: Path) -> None:
    path = write_tree(tmp_path, metadata="<a>" * 200_000 + "</a>" * 200_000)
    assert read_product(path).cloud_cover is None


# --------------------------------------------------------------------------------------------------------- manifest


def with_href(path: Path, href: str, size: object = "") -> Path:
    (path / "manifest.safe").write_text(manifest_xml([(href, size, "MD5", "0")]))
    return path


@pytest.mark.parametrize(
    "href",
    [
        "../{}",
        "./GRANULE/../../{}",
        "GRANULE/..//../../{}",
        "/{}",
        "//{}",
        "file:///{}",
        "http://example.org/{}",
        "C:/{}",
        "GRANULE/..",
    ],
)
def test_an_href_that_leaves_the_folder_is_refused_for_every_band(tmp_path: Path, href: str) -> None:
    """One such path, and the whole manifest is not believed."""
    image = "T05WPM_20190701T214529_B04_20m.jp2"
    (tmp_path / image).write_bytes(b"outside")
    path = write_tree(tmp_path)
    entries = [(f"./{image_path(OLD, band)}", len(content_of(band)), "MD5", "0") for band in ALL]
    bad = href.format(image) if "{}" in href else f"{href}/{image}"
    (path / "manifest.safe").write_text(manifest_xml([*entries, (bad, "", "MD5", "0")]))
    for fault in files_of(path).values():
        assert isinstance(fault, ProductError)
        assert fault.reason.startswith("manifest.safe names a file outside the product: ")


@pytest.mark.parametrize(
    "href", ["./GRANULE/a.jp2", "GRANULE/./a.jp2", "GRANULE//a.jp2", "a..b/..c.jp2", "%2e%2e/a.jp2"]
)
def test_other_hrefs_are_plain_paths_below_the_folder(tmp_path: Path, href: str) -> None:
    relative = inside(ProductName.parse(OLD), href)
    assert (tmp_path / relative).resolve().is_relative_to(tmp_path.resolve())
    assert not relative.startswith("/")


@pytest.mark.parametrize("href", ["..", "../a", "a/../b", "/a", "C:\\a", "..\\a", "a\\b", "s3://a/b", "a\0b"])
def test_what_is_no_plain_path_below_the_folder_is_refused(href: str) -> None:
    with pytest.raises(ProductError) as caught:
        inside(ProductName.parse(OLD), href)
    assert caught.value.reason == f"manifest.safe names a file outside the product: {href!r}"
    assert caught.value.product == OLD


def test_two_granules_are_refused_by_band(tmp_path: Path) -> None:
    path = write_tree(tmp_path)
    entries = [(image_path(OLD, "B04", granule=granule), "", "MD5", "0") for granule in ("A000001", "A000002")]
    entries.append((image_path(OLD, "B03"), "", "MD5", "0"))
    (path / "manifest.safe").write_text(manifest_xml(entries))
    assert fault_of(path, "B04") == "the product lists 2 images of this band; products of one granule are supported"
    assert file_of(path, "B03").size == len(content_of("B03"))


def test_two_granules_on_disk_are_refused_without_a_manifest_too(tmp_path: Path) -> None:
    path = write_tree(tmp_path, manifest=None)
    second = path / image_path(OLD, "B04", granule="A000002")
    second.parent.mkdir(parents=True)
    second.write_bytes(b"x")
    assert fault_of(path, "B04") == "the product lists 2 images of this band; products of one granule are supported"
    assert file_of(path, "B03").band == "B03"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = write_tree(tmp_path)
    (path / image_path(OLD, "B05")).unlink()
    assert fault_of(path, "B05") == "T05WPM_20190701T214529_B05_20m.jp2 is missing"
    assert file_of(path, "B06").band == "B06"


@pytest.mark.parametrize("change", [-1, 1])
def test_a_file_of_another_size_is_named(tmp_path: Path, change: int) -> None:
    path = write_tree(tmp_path)
    size = len(content_of("B12"))
    (path / image_path(OLD, "B12")).write_bytes(b"y" * (size + change))
    assert fault_of(path, "B12") == (
        f"T05WPM_20190701T214529_B12_20m.jp2 has {size + change} bytes, the manifest says {size}: truncated or changed"
    )


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    """A folder, a pipe (reading it would wait for ever), a link to nowhere, a path too long for any disk."""
    path = write_tree(tmp_path, manifest=None)
    folder, pipe, link = (path / image_path(OLD, band) for band in ("B02", "B03", "B04"))
    for place in (folder, pipe, link):
        place.unlink()
    folder.mkdir()
    os.mkfifo(pipe)
    link.symlink_to("nowhere")
    assert fault_of(path, "B02") == "T05WPM_20190701T214529_B02_20m.jp2 is not a file"
    assert fault_of(path, "B03") == "T05WPM_20190701T214529_B03_20m.jp2 is not a file"
    assert fault_of(path, "B04") == "T05WPM_20190701T214529_B04_20m.jp2 is missing"
    with_href(path, "a/" * 4000 + "T05WPM_20190701T214529_B05_20m.jp2")
    assert fault_of(path, "B05") == "T05WPM_20190701T214529_B05_20m.jp2 cannot be read: File name too long"


def test_a_file_that_fails_while_it_is_read_is_named(tmp_path: Path) -> None:
    """The memory of this process: a regular file of which nothing lies at its beginning."""
    path = write_tree(tmp_path, manifest=None)
    (path / image_path(OLD, "B02")).unlink()
    (path / image_path(OLD, "B02")).symlink_to("/proc/self/mem")
    assert fault_of(path, "B02") == "T05WPM_20190701T214529_B02_20m.jp2 cannot be read: Input/output error"
    assert isinstance(files_of(path, "B03")["B03"], BandFile)


@pytest.mark.parametrize("size", ["", "many", "-5", "1e3"])
def test_a_size_that_is_no_number_is_not_held_against_the_file(tmp_path: Path, size: str) -> None:
    path = with_href(write_tree(tmp_path), image_path(OLD, "B04"), size)
    assert file_of(path, "B04").size == len(content_of("B04"))


def test_without_a_manifest_files_are_found_on_disk_and_hashed(tmp_path: Path) -> None:
    path = write_tree(tmp_path, manifest=None)
    digest = hashlib.sha256(content_of("B04")).hexdigest()
    assert file_of(path, "B04") == BandFile(
        "B04", path / image_path(OLD, "B04"), len(content_of("B04")), f"sha256:{digest}"
    )
    outline = read_product(path).footprint
    assert outline is not None
    assert outline.equals(BOX)


def test_without_a_checksum_in_the_manifest_files_are_hashed(tmp_path: Path) -> None:
    path = write_tree(tmp_path)
    text = (path / "manifest.safe").read_text()
    (path / "manifest.safe").write_text(re.sub(r"<checksum.*?</checksum>", "", text))
    assert file_of(path, "B04").checksum == f"sha256:{hashlib.sha256(content_of('B04')).hexdigest()}"


def test_a_plan_hashes_nothing(tmp_path: Path) -> None:
    path = write_tree(tmp_path, manifest=None)
    found = band_files(read_product(path), ("B04",), hashed=False)["B04"]
    assert (found.size, found.checksum) == (len(content_of("B04")), "")


def test_a_manifest_is_believed_before_the_disk(tmp_path: Path) -> None:
    """Files that it does not list are not the product's."""
    path = with_href(write_tree(tmp_path), image_path(OLD, "B04"))
    assert fault_of(path, "B03") == "the product lists no 20 m image of this band"


# ---------------------------------------------------------------------------------------------------------- finding


def names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in product_paths(folder)]


def test_products_are_found_at_any_depth_in_sorted_order(tmp_path: Path) -> None:
    for name in ("b/2020/07/C.SAFE", "b/A.SAFE", "B.SAFE", "a/Z.SAFE", "x.SAFE.old", "safe", "b/lower.safe"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "file.SAFE").write_text("not a folder")
    (tmp_path / "B.SAFE" / "inner" / "D.SAFE").mkdir(parents=True)
    assert names(tmp_path) == ["B.SAFE", "a/Z.SAFE", "b/A.SAFE", "b/2020/07/C.SAFE"]


def test_a_product_itself_may_be_the_source(tmp_path: Path) -> None:
    path = write_tree(tmp_path)
    assert list(product_paths(path)) == [path]


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    """A link to an archive elsewhere, to a product, to the folder above, to itself, to nothing; two to one place."""
    archive, source = tmp_path / "archive", tmp_path / "source"
    write_tree(archive / "deep")
    source.mkdir()
    (source / "a").symlink_to(archive)
    (source / "b").symlink_to(archive / "deep")
    (source / "c").mkdir()
    (source / "c" / "up").symlink_to(source)
    (source / "self").symlink_to(source / "self")
    (source / "gone.SAFE").symlink_to(tmp_path / "gone")
    (source / "Linked.SAFE").symlink_to(archive / "deep" / f"{OLD}.SAFE")
    assert names(source) == ["Linked.SAFE", f"a/deep/{OLD}.SAFE"]


def test_a_folder_that_cannot_be_searched_is_left_out_with_a_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its path grows longer than the system takes."""
    write_tree(tmp_path)
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=here)
        inner = os.open("d" * 250, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    with caplog.at_level(logging.WARNING, logger="s2sr_core"):
        assert names(tmp_path) == [f"{OLD}.SAFE"]
    [message] = caplog.messages
    assert message.endswith(" cannot be searched for products: File name too long")


def test_an_empty_folder_holds_none(tmp_path: Path) -> None:
    assert names(tmp_path) == []


def test_the_footprint_of_the_trees_is_the_box_it_says() -> None:
    """The tests' own maker."""
    assert ring(-150, 68.5, -149, 69) == "68.5 -150 68.5 -149 69 -149 69 -150 68.5 -150" == FOOTPRINT


# ----------------------------------------------------------------------------------------------------------- hostile


@pytest.mark.parametrize("file", ["manifest.safe", "MTD_MSIL2A.xml"])
def test_a_file_of_100_mb_is_not_parsed(tmp_path: Path, file: str) -> None:
    path = write_tree(tmp_path)
    os.truncate(path / file, 100_000_000)
    assert refusal(path) == f"{file} cannot be read: has more than 8 MB"


@pytest.mark.parametrize("file", ["manifest.safe", "MTD_MSIL2A.xml"])
@pytest.mark.parametrize("kind", ["pipe", "socket", "folder", "device"])
def test_what_is_not_a_file_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, kind: str
) -> None:
    path = write_tree(tmp_path)
    (path / file).unlink()
    monkeypatch.chdir(path)  # the address of a socket is short
    with socket.socket(socket.AF_UNIX) as listening:
        if kind == "pipe":
            os.mkfifo(file)
        elif kind == "socket":
            listening.bind(file)
        elif kind == "folder":
            Path(file).mkdir()
        else:
            Path(file).symlink_to("/dev/zero")
        assert refusal(path) == f"{file} cannot be read: is not a regular file"


def test_an_image_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    path = write_tree(tmp_path)
    image = path / image_path(path.name.removesuffix(".SAFE"), "B04")
    image.unlink()
    os.mkfifo(image)
    found = files_of(path, "B04")["B04"]
    assert isinstance(found, ProductError)
    assert found.reason == f"{image.name} is not a file"


def test_a_footprint_that_cannot_be_used_is_unknown(tmp_path: Path) -> None:
    numbers = np.random.default_rng(1)
    text = " ".join(f"{lat} {lon}" for lat, lon in numbers.uniform((68, -150), (69, -148), (400, 2)))
    path = write_tree(tmp_path)
    (path / "manifest.safe").write_text(manifest_xml([], footprint=text))
    (path / "MTD_MSIL2A.xml").write_text(metadata_xml(footprint=text))
    product = read_product(path)
    assert product.footprint is None
    assert "its metadata gives no footprint that can be used" in product.notes


def test_folders_of_any_depth_are_searched(tmp_path: Path) -> None:
    path, made = tmp_path, []
    for _ in range(1500):
        path /= "d"
        path.mkdir()
        made.append(path)
    (path / f"{OLD}.SAFE").mkdir()
    try:
        assert list(product_paths(tmp_path)) == [path / f"{OLD}.SAFE"]
        remove_tree(tmp_path / "d")  # never an error
    finally:
        shutil.rmtree(path / f"{OLD}.SAFE", ignore_errors=True)
        for folder in reversed(made):
            if folder.exists():
                folder.rmdir()


def test_paths_that_are_too_long_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / f"{OLD}.SAFE").mkdir()
    here = os.open(tmp_path, os.O_RDONLY)
    folders = [here]
    try:
        for _ in range(20):  # 20 × 250 letters: more than a path may have
            os.mkdir("x" * 250, dir_fd=folders[-1])
            folders.append(os.open("x" * 250, os.O_RDONLY, dir_fd=folders[-1]))
        with caplog.at_level(logging.WARNING):
            assert list(product_paths(tmp_path)) == [tmp_path / f"{OLD}.SAFE"]
        assert "cannot be searched for products: File name too long" in caplog.text
    finally:
        for parent in reversed(folders[:-1]):
            os.rmdir("x" * 250, dir_fd=parent)
        for folder in folders:
            os.close(folder)


def test_a_folder_whose_name_is_not_utf_8_is_named_in_the_reason(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    assert refusal(write_tree(folder)) == "lies in a folder whose name is not UTF-8; rename that folder"


# ---------------------------------------------------------------------------------------- files of another product


TWIN = OLD.replace("20190702T001122", "20190702T001123")


@pytest.mark.parametrize("tag", ["PRODUCT_URI", "PRODUCT_URI_2A"])
def test_metadata_of_another_product_are_refused(tmp_path: Path, tag: str) -> None:
    """Even of a twin, whose name differs by a second."""
    text = metadata_xml().replace("<n1:General_Info>", f"<n1:General_Info><{tag}>{TWIN}.SAFE</{tag}>")
    other = write_tree(tmp_path / "a", OLD, metadata=text)
    assert refusal(other) == f"MTD_MSIL2A.xml belongs to another product, {TWIN}"
    own = text.replace(TWIN, OLD)
    assert read_product(write_tree(tmp_path / "b", OLD, metadata=own)).name == ProductName.parse(OLD)
    odd = text.replace(TWIN, "S2A_USER_PRD_MSIL2A_PDMC")
    assert read_product(write_tree(tmp_path / "c", OLD, metadata=odd)).name == ProductName.parse(OLD)


@pytest.mark.parametrize(
    "other", [OLD.replace("05WPM", "05WPN"), OLD.replace("20190701T214529", "20190704T213529")], ids=["tile", "day"]
)
def test_a_manifest_of_another_product_is_refused(tmp_path: Path, other: str) -> None:
    path = write_tree(tmp_path / "a", OLD)
    (path / "manifest.safe").write_text((write_tree(tmp_path / "b", other) / "manifest.safe").read_text())
    errors = band_files(read_product(path), ("B04", "SCL")).errors
    assert {error.reason.split(":")[0] for error in errors.values()} == {"manifest.safe belongs to another product"}
    assert set(errors) == {"B04", "SCL"}


def test_real_products_own_their_metadata(shared_data: Path) -> None:
    paths = sorted((shared_data / "safe_metadata").glob("*.SAFE"))
    assert len(paths) == 3
    for path in paths:
        product = read_product(path)
        assert read_safe_manifest(product.name, path / "manifest.safe")
