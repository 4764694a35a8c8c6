"""Writing XML the way products have it."""

from __future__ import annotations

from datetime import datetime
from xml.etree import ElementTree
from xml.etree.ElementTree import Element


def add(parent: Element, path: str, text: str | None = None, **attributes: str) -> Element:
    """A new element at ``path`` below ``parent``; missing elements on the way are made; the last one is always new."""
    *steps, last = path.split("/")
    for step in steps:
        found = next((child for child in parent if child.tag == step), None)
        parent = ElementTree.SubElement(parent, step) if found is None else found
    element = ElementTree.SubElement(parent, last, attributes)
    element.text = text
    return element


def instant(time: datetime) -> str:
    """A time as products write it, to the millisecond; they all end in .024."""
    return f"{time:%Y-%m-%dT%H:%M:%S}.024Z"


def document(root: Element) -> bytes:
    """The file that holds ``root``: indented, UTF-8."""
    ElementTree.indent(root)
    content: bytes = ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return content
