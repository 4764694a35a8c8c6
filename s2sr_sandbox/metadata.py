"""MTD_MSIL2A.xml and MTD_TL.xml: what they say and what they leave out.

Element names, nesting and number formats follow real products of baselines 02.12, 04.00 and 05.09; of their content
there is what a reader of pixels, footprints and offsets may need.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from xml.etree.ElementTree import Element

from s2sr_core.products.baselines import implied_offset
from s2sr_core.products.names import ProductName
from s2sr_sandbox.elements import add, document, instant
from s2sr_sandbox.granule import Granule

type Checksum = Literal["MD5", "SHA3-256"]

#: The bands of ``band_id`` 0 … 12 in BOA_ADD_OFFSET.
BAND_IDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")

_PSD = "https://psd-14.sentinel2.eo.esa.int/PSD"
_CLASSES = (
    "SATURATED_DEFECTIVE_PIXEL",
    "DARK_FEATURES",
    "CLOUD_SHADOW",
    "VEGETATION",
    "NOT_VEGETATED",
    "WATER",
    "UNCLASSIFIED",
    "MEDIUM_PROBA_CLOUDS",
    "HIGH_PROBA_CLOUDS",
    "THIN_CIRRUS",
    "SNOW_ICE",
)


@dataclass(frozen=True)
class Metadata:
    """What a product's metadata files say, and what they leave out.

    Attributes
    ----------
    offset: BOA_ADD_OFFSET, what a reader adds to the DN; None takes the baseline's (−1000 from 04.00 on, otherwise 0).
    offset_listed: whether MTD_MSIL2A.xml lists the offset; an offset of 0 is never listed, as before 04.00.
    product_xml: whether there is an MTD_MSIL2A.xml.
    checksum: the algorithm in manifest.safe; None takes MD5 before baseline 04.00, SHA3-256 from there on.
    """

    offset: int | None = None
    offset_listed: bool = True
    product_xml: bool = True
    checksum: Checksum | None = None

    def offset_of(self, name: ProductName) -> int:
        """BOA_ADD_OFFSET of the product.

        Raises
        ------
        ValueError
            If a user's own Sen2Cor made the product and ``offset`` is not given.
        """
        if self.offset is not None:
            return self.offset
        implied = implied_offset(name.baseline)
        if implied is None:
            raise ValueError(f"{name}: this baseline does not imply an offset; give Metadata(offset=…)")
        return implied

    def checksum_of(self, name: ProductName) -> Checksum:
        """The algorithm of the checksums in the product's manifest."""
        return self.checksum or ("SHA3-256" if implied_offset(name.baseline) else "MD5")


def product_xml(granule: Granule, metadata: Metadata) -> bytes:
    """The content of MTD_MSIL2A.xml."""
    root = Element("n1:Level-2A_User_Product", {"xmlns:n1": f"{_PSD}/User_Product_Level-2A.xsd"})
    _product_info(root, granule)
    _image_characteristics(root, granule, metadata)
    outline = add(root, "n1:Geometric_Info/Product_Footprint/Product_Footprint/Global_Footprint/EXT_POS_LIST")
    outline.text = granule.footprint_text
    quality = add(root, "n1:Quality_Indicators_Info")
    add(quality, "Cloud_Coverage_Assessment", granule.percentage((8, 9, 10)))
    content = add(quality, "Image_Content_QI")
    add(content, "NODATA_PIXEL_PERCENTAGE", granule.nodata_percentage)
    for scl, title in enumerate(_CLASSES, start=1):
        add(content, f"{title}_PERCENTAGE", granule.percentage((scl,)))
    return document(root)


def tile_xml(granule: Granule) -> bytes:
    """The content of MTD_TL.xml: the granule's place and size."""
    root = Element("n1:Level-2A_Tile_ID", {"xmlns:n1": f"{_PSD}/S2_PDI_Level-2A_Tile_Metadata.xsd"})
    add(root, "n1:General_Info/SENSING_TIME", instant(granule.scan_start), metadataLevel="Standard")
    geocoding = add(root, "n1:Geometric_Info/Tile_Geocoding", metadataLevel="Brief")
    reference = granule.grid.spatial_reference
    add(geocoding, "HORIZONTAL_CS_NAME", reference.GetName())
    if code := reference.GetAuthorityCode(None):
        add(geocoding, "HORIZONTAL_CS_CODE", f"{reference.GetAuthorityName(None)}:{code}")
    grids = {"20": granule.grid} | ({"10": granule.grid.refined(2)} if granule.bands_10m else {})
    for resolution, grid in grids.items():
        size = add(geocoding, "Size", resolution=resolution)
        add(size, "NROWS", str(grid.shape[0]))
        add(size, "NCOLS", str(grid.shape[1]))
    for resolution, grid in grids.items():
        xmin, xdim, _, ymax, _, ydim = grid.geotransform
        corner = add(geocoding, "Geoposition", resolution=resolution)
        for tag, value in (("ULX", xmin), ("ULY", ymax), ("XDIM", xdim), ("YDIM", ydim)):
            add(corner, tag, f"{value:.17g}")
    return document(root)


def _product_info(root: Element, granule: Granule) -> None:
    name = granule.name
    info = add(root, "n1:General_Info/Product_Info")
    add(info, "PRODUCT_START_TIME", instant(name.sensing_time))
    add(info, "PRODUCT_STOP_TIME", instant(name.sensing_time))
    add(info, "PRODUCT_URI", name.folder)
    add(info, "PROCESSING_LEVEL", "Level-2A")
    add(info, "PRODUCT_TYPE", "S2MSI2A")
    add(info, "PROCESSING_BASELINE", name.baseline)
    add(info, "GENERATION_TIME", f"{name.discriminator:%Y-%m-%dT%H:%M:%S}.000000Z")
    identifier = f"G{name.mission}_{name.sensing_time:%Y%m%dT%H%M%S}_{granule.orbit:06d}_N{name.baseline}"
    datatake = add(info, "Datatake", datatakeIdentifier=identifier)
    add(datatake, "SPACECRAFT_NAME", f"Sentinel-{name.mission[1:]}")
    add(datatake, "DATATAKE_SENSING_START", instant(name.sensing_time))
    add(datatake, "SENSING_ORBIT_NUMBER", str(name.relative_orbit))
    add(datatake, "SENSING_ORBIT_DIRECTION", "DESCENDING")
    origin = f"{name.mission}_OPER_MSI_L2A_{{}}_2APS_{name.discriminator:%Y%m%dT%H%M%S}_{{}}_N{name.baseline}"
    images = add(
        info,
        "Product_Organisation/Granule_List/Granule",
        datastripIdentifier=origin.format("DS", f"S{granule.scan_start:%Y%m%dT%H%M%S}"),
        granuleIdentifier=origin.format("TL", f"A{granule.orbit:06d}_T{name.tile}"),
        imageFormat="JPEG2000",
    )
    for path in (*granule.images_10m.values(), *granule.images.values()):
        add(images, "IMAGE_FILE", str(path.with_suffix("")))


def _image_characteristics(root: Element, granule: Granule, metadata: Metadata) -> None:
    image = add(root, "n1:General_Info/Product_Image_Characteristics")
    for text, index in (("NODATA", "0"), ("SATURATED", "65535")):
        special = add(image, "Special_Values")
        add(special, "SPECIAL_VALUE_TEXT", text)
        add(special, "SPECIAL_VALUE_INDEX", index)
    add(image, "QUANTIFICATION_VALUES_LIST/BOA_QUANTIFICATION_VALUE", "10000", unit="none")
    offset = metadata.offset_of(granule.name)
    if offset and metadata.offset_listed:
        offsets = add(image, "BOA_ADD_OFFSET_VALUES_LIST")
        for band_id in range(len(BAND_IDS)):
            add(offsets, "BOA_ADD_OFFSET", str(offset), band_id=str(band_id))
