"""Footprints in the XML of products: lists of positions."""

from __future__ import annotations

import pytest
import shapely
from shapely import MultiPolygon, Polygon

from s2sr_core.geo import geometry
from s2sr_core.products.product_xml import ring_of


def outline_of(text: str) -> Polygon | MultiPolygon | None:
    ring = ring_of(text)
    return None if ring is None else geometry.of_rings([ring])


def test_latitude_comes_before_longitude() -> None:
    outline = outline_of("60 10 60 12 61 12 61 10 60 10 ")
    assert outline is not None
    assert outline.equals(shapely.box(10, 60, 12, 61))


@pytest.mark.parametrize("text", ["60,10 60,12 61,12 61,10 60,10", "\n60 10\t60 12  61 12 61 10\n"])
def test_commas_line_breaks_and_an_open_ring_are_understood(text: str) -> None:
    outline = outline_of(text)
    assert outline is not None
    assert outline.equals(shapely.box(10, 60, 12, 61))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "60 10 60 12",
        "60 10 60 12 61",
        "60 10 60 12 61 x",
        "60 10 60 12 nan 12",
        "60 10 60 12 inf 12",
        "91 10 60 12 61 12",
        "60 181 60 12 61 12",
        "60 10 60 10 60 10 60 10",
        "60 10 61 11 62 12 60 10",
        "10 60 10 190 11 190",
    ],
)
def test_what_is_not_a_ring_with_an_area_is_none(text: str) -> None:
    assert outline_of(text) is None


def test_a_ring_that_crosses_itself_keeps_its_area() -> None:
    """A bow tie: two triangles of 0.25."""
    outline = outline_of("0 0 1 1 0 1 1 0 0 0")
    assert outline is not None
    assert outline.is_valid
    assert outline.area == pytest.approx(0.5)
