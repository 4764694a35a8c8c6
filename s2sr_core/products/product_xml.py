"""The XML files of a product: foreign input, read by defusedxml."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
import numpy as np
from defusedxml import DefusedXmlException
from shapely import MultiPolygon, Polygon

from s2sr_core.errors import ProductError, Step
from s2sr_core.geo import geometry
from s2sr_core.products.names import ProductName


def parse(name: ProductName, path: Path) -> Element:
    """The root of an XML file of product ``name``.

    Raises
    ------
    ProductError
        If it is not XML, or holds a DTD or entities.
    """
    try:
        root = defusedxml.ElementTree.parse(path, forbid_dtd=True).getroot()
    except DefusedXmlException as error:
        raise ProductError(
            str(name),
            f"{path.name} holds a DTD or entities, which no product does; it is not read",
            step=Step.METADATA,
        ) from error
    except (ParseError, OSError, ValueError, LookupError) as error:  # LookupError: of an encoding
        raise ProductError(str(name), f"{path.name} cannot be read: {error}", step=Step.METADATA) from error
    if root is None:
        raise ProductError(str(name), f"{path.name} is empty", step=Step.METADATA)
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
    """The area inside the rings of elements ``tag``, ``lat lon lat lon …`` (EPSG:4326); None if there is none."""
    parts = [part for text in texts(root, tag) if (part := polygon_of(text)) is not None]
    return geometry.union(parts) if parts else None


def polygon_of(text: str) -> Polygon | MultiPolygon | None:
    """A footprint from a list ``lat lon lat lon …``, as ``EXT_POS_LIST`` and ``gml:coordinates`` hold it.

    Returns None if the text is not a ring: fewer than three positions, numbers that are not on the globe, no area.
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
    outline = geometry.cut_at_antimeridian(ring)
    return None if outline.is_empty else outline
