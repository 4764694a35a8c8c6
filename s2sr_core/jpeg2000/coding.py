"""How an image was coded, from the marker segments of its main header (ISO/IEC 15444-1, annex A)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

_COD, _QCD, _SIZ = 0xFF52, 0xFF5C, 0xFF51
#: Marker segments that say nothing about coefficients: TLM, PLM, CRG, COM.
_HARMLESS = frozenset({0xFF55, 0xFF57, 0xFF63, 0xFF64})
#: Progressions in which the packets of one precinct after the other come (A.6.1): by layer, resolution or both.
LAYERS_FIRST, RESOLUTIONS_FIRST, PRECINCTS_FIRST = range(3)
#: Where precincts are not given (table A.21).
_LARGEST = 15


class UncommonError(RuntimeError):
    """An image that is coded in another way than Sentinel-2's; the message says what is uncommon."""


@dataclass(frozen=True, slots=True)
class Coding:
    """What the decoder has to know of one component of unsigned integers, coded without loss.

    Attributes
    ----------
    precision: bits of a pixel, at most 16.
    levels: of the wavelet transform.
    block: binary logarithms of width and height of code blocks.
    precincts: binary logarithms of width and height of precincts, for each resolution, lowest first.
    planes: bit planes of each band: LL, then HL, LH, HH of each resolution.
    progression: in which order the packets come.
    layers: how many.
    has_eph: whether each header of a packet ends with a marker EPH.
    """

    precision: int
    levels: int
    block: tuple[int, int]
    precincts: tuple[tuple[int, int], ...]
    planes: tuple[int, ...]
    progression: int
    layers: int
    has_eph: bool


def coding_of(segments: Mapping[int, bytes]) -> Coding:
    """From the marker segments of a main header, each without marker and length.

    Raises
    ------
    UncommonError
        If it is something that this decoder does not know.
    """
    if unknown := segments.keys() - _HARMLESS - {_SIZ, _COD, _QCD}:
        raise UncommonError(f"its main header has a marker segment {min(unknown):04X}")
    try:
        (components, depth, across, down) = struct.unpack_from(">HBBB", segments[_SIZ], 34)
        style, progression, layers, transform = struct.unpack_from(">BBHB", segments[_COD])
        levels, width, height, block_style, wavelet = struct.unpack_from(">5B", segments[_COD], 5)
        sizes = segments[_COD][10:] if style & 1 else bytes([_LARGEST * 0x11] * (levels + 1))
        quantised, exponents = segments[_QCD][0], segments[_QCD][1:]
    except (KeyError, IndexError, struct.error) as error:
        raise UncommonError("its main header lacks something") from error
    precincts = tuple((size & 0xF, size >> 4) for size in sizes)
    is_known = (
        (components, across, down, transform) == (1, 1, 1, 0)
        and depth < 16  # unsigned, one bit less than it has
        and (block_style, wavelet, quantised & 0x1F) == (0, 1, 0)
        and style < 8
        and progression in (LAYERS_FIRST, RESOLUTIONS_FIRST, PRECINCTS_FIRST)
        and layers > 0
        and levels <= 32
        and max(width, height) <= 4  # 64 × 64 coefficients, less two bits
        and len(precincts) == levels + 1
        and all(min(size) > 0 for size in precincts[1:])
        and len(exponents) == 3 * levels + 1
    )
    if not is_known:
        raise UncommonError("it is coded in another way than Sentinel-2's images")
    planes = tuple((exponent >> 3) + (quantised >> 5) - 1 for exponent in exponents)
    return Coding(depth + 1, levels, (width + 2, height + 2), precincts, planes, progression, layers, bool(style & 4))
