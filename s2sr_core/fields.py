"""The types of parameters with their checks, and how a parameter is shown.

A check raises ``ValueError("problem; remedy")``, which :mod:`s2sr_core.validation` turns into a sentence. Because the
types carry their checks, a JSON schema or a function's signature built from the fields alone refuses what the model
refuses. This module and what it imports load without numpy, pandas, shapely and GDAL, so that ``--help`` and bad input
are answered at once.
"""

from __future__ import annotations

import difflib
import os
import re
import types
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic.fields import FieldInfo

from s2sr_core.files import is_utf8
from s2sr_core.geo.lattice import Bounds
from s2sr_core.periods import EVERY
from s2sr_core.pixels.scl import CLASS_IDENTIFIERS, SCL_CLASSES
from s2sr_core.pixels.statistic_names import LAYERS, STATISTIC_PATTERN, STATISTICS, is_statistic
from s2sr_core.products.names import is_tile

_MONTHS = re.compile(r"(0?[1-9]|1[0-2])(?:-(0?[1-9]|1[0-2]))?")
_BASELINE = re.compile(r"[0-9]{2}\.[0-9]{2}")
_ADDRESS = re.compile(r"[a-z][a-z0-9+]*://[^\s/]\S*")
_TIME_REMEDY = "write 2019-06-01 or 2019-06-01T00:00:00Z"
_BBOX_REMEDY = "write xmin ymin xmax ymax in degrees, longitude before latitude"
#: Degrees of longitude that a box with xmin > xmax may have: in a wider one, xmin and xmax are likely swapped.
_WIDEST_ACROSS = 180.0

#: Bounds of the pixel size: degrees in EPSG:4326, units of the CRS in others.
PIXELS_IN_DEGREES, PIXELS_IN_UNITS = (1e-6, 10.0), (0.1, 100_000.0)
_CRS = re.compile(r"EPSG:[1-9][0-9]{3,5}", re.ASCII)

Band = Literal["B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"]
Resampling = Literal["bilinear", "nearest", "cubic"]
EngineName = Literal["fast", "reference"]
Access = Literal["auto", "odata", "s3", "mount"]
DownloadMode = Literal["auto", "whole", "ranges"]
Checking = Literal["once", "always", "never"]
GroupBy = Literal["granule", "datatake"]
Stage = Literal["all", "query", "download", "composite"]
ClusterName = Literal["local", "mpi", "slurm", "pbs", "lsf", "sge", "oar", "htcondor", "dask"]


# ------------------------------------------------------------------------------------------------------------ shown


class Group(StrEnum):
    """The headings under which parameters are listed, in this order."""

    WHAT = "what and where"
    PRODUCTS = "products"
    METHOD = "mask and method"
    OUTPUT = "output"
    RUNNING = "where it runs"


@dataclass(frozen=True, slots=True)
class Shown:
    """How a field is shown to people; put it into the field's ``Annotated``.

    Attributes
    ----------
    group: the heading under which it is listed.
    placeholder: what stands for its value, one word for each value of a tuple: ``LON LAT``.
    """

    group: str
    placeholder: str = ""


def group_of(field: FieldInfo) -> str:
    """The heading under which a field is listed."""
    return next((each.group for each in field.metadata if isinstance(each, Shown)), "options")


def placeholder_of(name: str, field: FieldInfo) -> str:
    """What stands for the value of a field: its own placeholder, its choices, or its name in capitals."""
    kind = bare_type(field.annotation)
    for each in field.metadata:
        if isinstance(each, Shown) and each.placeholder:
            return each.placeholder
    if get_origin(kind) is Literal:
        return "{" + ",".join(get_args(kind)) + "}"
    if get_origin(kind) is dict:
        return "KEY=VALUE"
    if get_origin(kind) is tuple:
        return " ".join([name.upper()] * len(get_args(kind)))
    return name.upper()


def bare_type(annotation: Any) -> Any:
    """The type of a field without ``Annotated`` and ``| None``."""
    if get_origin(annotation) is Annotated:
        return bare_type(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return bare_type(next(arg for arg in get_args(annotation) if arg is not type(None)))
    return annotation


# ------------------------------------------------------------------------------------------------------------ checks


def _check_bbox(bbox: Bounds) -> Bounds:
    xmin, ymin, xmax, ymax = bbox
    if not (-180 <= xmin <= 180 and (-180 <= xmax <= 180 or 180 < xmax <= xmin + 360)):
        raise ValueError(f"a longitude is not between -180 and 180; {_BBOX_REMEDY}")
    if not (-90 <= ymin <= 90 and -90 <= ymax <= 90):
        raise ValueError(f"a latitude is not between -90 and 90; {_BBOX_REMEDY}")
    if xmin == xmax or (xmin, xmax) == (180, -180) or ymin >= ymax:
        raise ValueError(
            "covers no area; write xmin ymin xmax ymax, with ymin < ymax (xmin > xmax crosses the antimeridian)"
        )
    if xmax < xmin < xmax + 360 - _WIDEST_ACROSS:
        raise ValueError(
            f"would go {xmax + 360 - xmin:g}° to the east, from xmin across ±180 to xmax; swap xmin and xmax, or write "
            f"xmax as {xmax + 360:g} if that is meant"
        )
    return bbox


def _parse_time(value: Any) -> Any:
    """A date means its midnight; digits alone are not a time."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value.strip())
        except ValueError as error:
            raise ValueError(f"is not an ISO 8601 time; {_TIME_REMEDY}") from error
    if isinstance(value, datetime):
        return value
    raise ValueError(f"is not an ISO 8601 time; {_TIME_REMEDY}")


def _to_utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"is outside the years 1 to 9999 in UTC; {_TIME_REMEDY}") from error


def _parse_months(value: Any) -> Any:
    """``6-8``, ``11-2`` or ``6 7 8`` as a sorted list of months."""
    if value is None:
        return None
    items = value if isinstance(value, list | tuple | set) else [value]
    months: set[int] = set()
    for item in " ".join(map(str, items)).replace(",", " ").split():
        match = _MONTHS.fullmatch(item)
        if match is None:
            raise ValueError(f"{item!r} is not a month (1 to 12) or a span of months; write 6-8, or 6 7 8")
        low, high = int(match[1]), int(match[2] or match[1])
        months.update(range(low, high + 1) if low <= high else [*range(low, 13), *range(1, high + 1)])
    if not months:
        raise ValueError("names no month; write 6-8, or leave it out")
    return sorted(months)


def _parse_every(value: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, str) or EVERY.fullmatch(value) is None:
        raise ValueError("is not year, month, season, or a number of days from 1d to 9999d; write one of these")
    return value


def _parse_words(value: Any) -> Any:
    """``05WPM 33XWJ`` as a list of words."""
    return value.replace(",", " ").split() if isinstance(value, str) else value


def _class_number(value: Any) -> Any:
    """The number of an SCL class that is named; anything that is not a name as it is."""
    if not isinstance(value, str) or not (name := value.strip().lower().replace("-", "_")) or name[0].isdigit():
        return value
    if name not in CLASS_IDENTIFIERS:
        if not name.isidentifier():  # -1, say: a number, or nothing
            return value
        close = difflib.get_close_matches(name, CLASS_IDENTIFIERS, n=1)
        remedy = f"did you mean {close[0]}?" if close else f"give 0 to 11, or one of {' '.join(CLASS_IDENTIFIERS)}"
        raise ValueError(f"is not an SCL class; {remedy}")
    return CLASS_IDENTIFIERS.index(name)


def _parse_classes(value: Any) -> Any:
    """``9 cloud_shadow`` as a list of words; ``none`` as an empty one."""
    words = _parse_words(value)
    return [] if words in (["none"], ("none",)) else words


def _parse_metres(value: Any) -> Any:
    """``9=100 cloud_shadow=60``, or a mapping, as a dictionary by number of the class."""
    if isinstance(value, str):
        words = [word.partition("=") for word in value.replace(",", " ").split()]
        if wrong := next((name for name, equals, _ in words if not equals), None):
            raise ValueError(f"{wrong!r} is not written as CLASS=METRES; write it like 9=100 3=60")
        pairs = [(name, metres) for name, _, metres in words]
    elif isinstance(value, Mapping):
        pairs = list(value.items())
    else:
        return value
    numbered: dict[Any, Any] = {}
    for name, metres in pairs:
        try:
            number = _class_number(name)
        except ValueError as error:
            raise ValueError(f"{name!r} {error}") from error
        number = int(number) if isinstance(number, str) and number.isdecimal() else number
        if number in numbered:
            raise ValueError(f"{name!r} is given twice; write it like 9=100 3=60")
        numbered[number] = metres
    return numbered


def _check_statistics(statistics: list[str]) -> list[str]:
    if not statistics:
        raise ValueError("names no statistic; write at least one, for example median")
    for word in statistics:
        if not is_statistic(word):
            known = f"{' '.join(STATISTICS)}, or percentile:N with a whole number from 0 to 100"
            raise ValueError(f"{word!r} is not a statistic; choose from {known}")
    return _check_once(statistics)


def _check_layers(layers: list[str]) -> list[str]:
    for word in layers:
        if word not in LAYERS:
            raise ValueError(f"{word!r} is not a layer; choose from {' '.join(LAYERS)}")
    return _check_once(layers)


def _check_once(words: list[str]) -> list[str]:
    for word in words:
        if words.count(word) > 1:
            raise ValueError(f"{word!r} is given twice; write it once")
    return words


def _check_tiles(tiles: list[str] | None) -> list[str] | None:
    if tiles is None:
        return None
    if not tiles:
        raise ValueError("names no tile; write one like 05WPM, or leave it out")
    cleaned = sorted({tile.upper().removeprefix("T") for tile in tiles})
    for tile in cleaned:
        if not is_tile(tile):
            raise ValueError(f"{tile!r} is not an MGRS tile; write one like 05WPM")
    return cleaned


def _check_metres(of_class: dict[int, float]) -> dict[int, float]:
    for value, metres in of_class.items():
        if value not in SCL_CLASSES:
            raise ValueError(f"{value} is not an SCL class; give classes from 0 to 11")
        if not 0 < metres <= 5000:
            raise ValueError(f"{metres:g} m for class {value} is not more than 0 and at most 5000; write it like 9=100")
    return of_class


def _parse_whole(value: Any) -> Any:
    """Digits as a number."""
    return int(value) if isinstance(value, str) and value.strip().isdecimal() else value


def _check_pixel_size(size: float) -> float:
    if not PIXELS_IN_DEGREES[0] <= size <= PIXELS_IN_UNITS[1]:
        raise ValueError(
            "is not between 1e-6 and 10 degrees, nor between 0.1 and 100000 units of a projected crs; 20 m of latitude "
            "are 0.00018 degrees"
        )
    return size


def _check_crs(crs: str) -> str:
    if not _CRS.fullmatch(crs.strip().upper()):
        raise ValueError("is not the EPSG code of a coordinate system; write one like EPSG:3413")
    return crs.strip().upper()


def _check_baseline(baseline: str) -> str:
    if not _BASELINE.fullmatch(baseline):
        raise ValueError("is not a processing baseline; write one like 05.00")
    return baseline


def _check_bands(bands: list[Band]) -> list[Band]:
    if not bands:
        raise ValueError("names no band; write at least one, for example B04")
    return list(dict.fromkeys(bands))


def _not_empty(value: Any) -> Any:
    """An empty text would mean the current folder."""
    if isinstance(value, str) and not value.strip():
        raise ValueError("is empty; give a path")
    return value


def doubt_about(path: str) -> str:
    """Why the folder or file that a person wrote is easily another than was meant; empty if nothing speaks against it.

    A relative path starts at the current folder, and one that leaves it depends on where somebody stands.
    """
    normal = os.path.normpath(os.path.expanduser(path))  # noqa: PTH111  # it knows no home folder, and goes on
    if normal.partition(os.sep)[0] == os.pardir:
        return "lies outside the current folder"
    if os.path.abspath(normal) == os.path.normpath(os.path.expanduser("~")):  # noqa: PTH100, PTH111
        return "is the home folder itself"
    return "is the root of the filesystem" if normal == os.sep else ""


def _expand(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("contains a null character; remove it")
    if not is_utf8(path):
        raise ValueError("has a name that is not UTF-8; rename the file or folder")
    try:
        return path.expanduser().absolute()
    except RuntimeError as error:
        raise ValueError(f"there is no home folder for {path.parts[0]}; give the path without ~") from error


def _check_work_dir(path: Path) -> Path:
    """A run clears folders below it that it takes for its own: those of ``/tmp`` are everybody's."""
    if os.path.realpath(path) == os.sep:
        raise ValueError("is the root of the filesystem; give a folder of its own")
    return path


def _check_scheduler(text: str) -> str:
    """An address, or the path of a scheduler file, which is made absolute."""
    if _ADDRESS.fullmatch(text):
        return text
    if "://" in text or not text.strip():
        raise ValueError("is not an address; write tcp://HOST:PORT or tls://HOST:PORT, or the path of a scheduler file")
    return str(_expand(Path(text)))


def _check_folder(path: Path) -> Path:
    try:
        is_folder = path.is_dir()
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror}); give a readable folder of .SAFE products") from error
    if not is_folder:
        problem = "is not a folder" if path.exists() else "does not exist"
        raise ValueError(f"{problem}; give the folder that holds .SAFE products")
    if not os.access(path, os.R_OK | os.X_OK):
        raise ValueError("cannot be read (Permission denied); give a readable folder of .SAFE products")
    return path


# ------------------------------------------------------------------------------------------------------------- types

#: Forms and the REST API accept what descriptions show. A schema that pydantic makes would know nothing of texts that a
#: check reads, such as 6-8 for months, nor the names of a tuple's numbers.
_TEXT: dict[str, Any] = {"type": "string", "minLength": 1}


def _ordered(*names: str) -> BeforeValidator:
    """A mapping from ``names`` to numbers becomes a list in their order; anything else stays as it is."""

    def ordered(value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        if set(value) != set(names):
            raise ValueError(f"does not name what it should; write numbers for {', '.join(names)}")
        return [value[name] for name in names]

    return BeforeValidator(ordered)


def _numbers(*names: str, **bounds: float) -> WithJsonSchema:
    """Fields with names, which forms show with labels, or a list in the same order."""
    number = {"type": "number", **bounds}
    fields = {name: {**number, "title": name, "position": place} for place, name in enumerate(names)}
    closed = {"required": list(names), "additionalProperties": False}
    items = [{**number, "title": name} for name in names]
    size = {"minItems": len(items), "maxItems": len(items)}
    return WithJsonSchema(
        {
            "anyOf": [
                {"type": "object", "title": "fields", "properties": fields, **closed},
                {"type": "array", "title": f"list: {' '.join(names)}", "prefixItems": items, **size},
            ]
        }
    )


_SIDES, _PIXEL = ("west", "south", "east", "north"), ("width", "height")
Bbox = Annotated[tuple[float, float, float, float], _ordered(*_SIDES), AfterValidator(_check_bbox), _numbers(*_SIDES)]
Time = Annotated[datetime, BeforeValidator(_parse_time), AfterValidator(_to_utc)]
Months = Annotated[
    list[Annotated[int, Field(ge=1, le=12)]] | None,
    BeforeValidator(_parse_months),
    WithJsonSchema(
        {
            "anyOf": [
                _TEXT,
                {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 12}},
                {"type": "integer", "minimum": 1, "maximum": 12},
                {"type": "null"},
            ]
        }
    ),
]
Every = Annotated[
    str | None,
    BeforeValidator(_parse_every),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": f"^(?:{EVERY.pattern})$"}, {"type": "null"}]}),
]
Statistics = Annotated[
    list[str],
    BeforeValidator(_parse_words),
    AfterValidator(_check_statistics),
    WithJsonSchema(
        {"anyOf": [_TEXT, {"type": "array", "items": {"type": "string", "pattern": STATISTIC_PATTERN}, "minItems": 1}]}
    ),
]
Layers = Annotated[
    list[str],
    BeforeValidator(_parse_words),
    AfterValidator(_check_layers),
    WithJsonSchema(
        {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string", "enum": list(LAYERS)}}]}
    ),
]
Tiles = Annotated[
    list[str] | None,
    BeforeValidator(_parse_words),
    AfterValidator(_check_tiles),
    WithJsonSchema({"anyOf": [_TEXT, {"type": "array", "items": {"type": "string"}}, {"type": "null"}]}),
]
Bands = Annotated[list[Band], AfterValidator(_check_bands), Field(min_length=1)]
Resolution = Annotated[
    Literal[10, 20], BeforeValidator(_parse_whole), WithJsonSchema({"type": "integer", "enum": [10, 20]})
]
Baseline = Annotated[
    str, AfterValidator(_check_baseline), WithJsonSchema({"type": "string", "pattern": r"^[0-9]{2}\.[0-9]{2}$"})
]
SclClass = Annotated[int, BeforeValidator(_class_number), Field(ge=0, le=11)]
SclClasses = Annotated[
    list[SclClass],
    BeforeValidator(_parse_classes),
    AfterValidator(lambda values: sorted(set(values))),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "items": {"type": "integer", "enum": list(SCL_CLASSES)}},  # the form's menu
                _TEXT,
                {"type": "array", "items": {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 11}, _TEXT]}},
            ]
        }
    ),
]
MetresByClass = Annotated[
    dict[int, float],
    BeforeValidator(_parse_metres),
    AfterValidator(_check_metres),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object", "additionalProperties": {"type": "number"}}]}),
]
PixelSize = Annotated[
    float,
    AfterValidator(_check_pixel_size),
    WithJsonSchema({"type": "number", "minimum": PIXELS_IN_DEGREES[0], "maximum": PIXELS_IN_UNITS[1]}),
]
PixelSizes = Annotated[
    tuple[PixelSize, PixelSize],
    _ordered(*_PIXEL),
    _numbers(*_PIXEL, minimum=PIXELS_IN_DEGREES[0], maximum=PIXELS_IN_UNITS[1]),
]
Crs = Annotated[
    str,
    AfterValidator(_check_crs),
    WithJsonSchema({"type": "string", "pattern": r"^\s*[Ee][Pp][Ss][Gg]:[1-9][0-9]{3,5}\s*$"}),
]
Scheduler = Annotated[str, AfterValidator(_check_scheduler)]
ExpandedPath = Annotated[Path, BeforeValidator(_not_empty), AfterValidator(_expand)]
MaskValues = Annotated[list[Annotated[int, Field(ge=-32768, le=65535)]], Field(min_length=1)]
WorkFolder = Annotated[ExpandedPath, AfterValidator(_check_work_dir)]
SourceFolder = Annotated[ExpandedPath, AfterValidator(_check_folder)]
