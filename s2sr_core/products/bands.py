"""The images of an L2A product."""

from __future__ import annotations

#: The reflectance bands that L2A products hold at 20 m in every baseline (PSD, "L2A product: image data").
BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B8A", "B11", "B12")
#: The scene classification.
SCL = "SCL"
