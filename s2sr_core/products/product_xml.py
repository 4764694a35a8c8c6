"""The XML files of a product: foreign input, read by defusedxml."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
import numpy as np
import numpy.typing as npt
from defusedxml import DefusedXmlException
from shapely import MultiPolygon, Polygon

from s2sr_core.errors import ProductError, Step
from s2sr_core.files import read_bytes
from s2sr_core.geo import geometry
from s2sr_core.products.names import ProductName

#: Bytes that a file may have; those of products have 0.1 MB.
_LARGEST = 8_000_000


def parse(name: ProductName, path: Path) -> Element:
    """The root of an XML file of product ``name``.

    Raises
    ------
    ProductError
        If it is not XML, holds a DTD or entities, is not a regular file, or has more than 8 MB.
    """
    try:
        root = defusedxml.ElementTree.fromstring(read_bytes(path, _LARGEST), forbid_dtd=True)
    except DefusedXmlException as error:
        raise ProductError(
            str(name),
            f"{path.name} holds a DTD or entities, which no product does; it is not read",
            step=Step.METADATA,
        ) from error
    except (ParseError, OSError, ValueError, LookupError) as error:  # LookupError: of an encoding
        reason = error.strerror if isinstance(error, OSError) else error
        raise ProductError(str(name), f"{path.name} cannot be read: {reason}", step=Step.METADATA) from error
    return root


def texts(root: Element, tag: str) -> list[str]:
    """The texts of all elements ``tag``, in whatever namespace; empty ones are left out."""
    found = (element.text for element in root.iter() if element.tag.rpartition("}")[2] == tag)
    return [text.strip() for text in found if text and text.strip()]


def number(text: str | None) -> float | None:
    """``text`` as a finite number, None if it is not one."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def outline(root: Element, tag: str) -> Polygon | MultiPolygon | None:
    """The area inside the rings of elements ``tag``, ``lat lon lat lon …`` (EPSG:4326); None if it is unknown."""
    return geometry.of_rings([ring for text in texts(root, tag) if (ring := ring_of(text)) is not None])


def ring_of(text: str) -> npt.NDArray[np.float64] | None:
    """A ring (n × 2: longitude, latitude) from ``lat lon lat lon …``, as ``EXT_POS_LIST`` and ``gml:coordinates`` hold.

    Returns None if the text is not one: fewer than three positions, or numbers that are not on the globe.
    """
    try:
        values = np.array(text.replace(",", " ").split(), float)
    except ValueError:
        return None
    if len(values) < 6 or len(values) % 2 or not np.isfinite(values).all():
        return None
    ring = values.reshape(-1, 2)[:, ::-1]
    if (np.abs(ring[:, 0]) > 180).any() or (np.abs(ring[:, 1]) > 90).any():
        return None
    return ring
