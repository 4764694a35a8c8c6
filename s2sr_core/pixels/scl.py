"""The classes of SCL, the scene classification of Level-2A products.

Sentinel-2 Products Specification Document (S2-PDGS-TAS-DI-PSD), "Scene classification": 0 no data, 1 saturated or
defective, 2 dark area, 3 cloud shadow, 4 vegetation, 5 bare soil, 6 water, 7 unclassified, 8 cloud (medium
probability), 9 cloud (high probability), 10 thin cirrus, 11 snow or ice.
"""

from __future__ import annotations

#: What each class is called, by its value.
CLASS_NAMES = (
    "no data",
    "saturated or defective",
    "dark area",
    "cloud shadow",
    "vegetation",
    "bare soil",
    "water",
    "unclassified",
    "cloud, medium probability",
    "cloud, high probability",
    "thin cirrus",
    "snow or ice",
)
#: What users may write for each class, by its value.
CLASS_IDENTIFIERS = (
    "no_data",
    "saturated_or_defective",
    "dark_area",
    "cloud_shadow",
    "vegetation",
    "not_vegetated",
    "water",
    "unclassified",
    "cloud_medium_probability",
    "cloud_high_probability",
    "thin_cirrus",
    "snow_or_ice",
)
#: The values that SCL defines; any other value is always masked.
SCL_CLASSES = range(len(CLASS_NAMES))
#: The classes that are masked by default: everything but vegetation, bare soil and water.
MASKED_BY_DEFAULT = (0, 1, 2, 3, 7, 8, 9, 10, 11)
