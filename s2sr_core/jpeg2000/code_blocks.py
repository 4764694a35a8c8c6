"""Code blocks of JPEG 2000, from bytes to wavelet coefficients (ISO/IEC 15444-1, annexes C and D).

Nearly all the time of decoding lossless imagery goes here, and most of that into bits that are noise, which no branch
predictor foresees. So the arithmetic decoder has no branch on a decoded bit: both outcomes are computed and one is
selected by a mask. Besides, which coefficients a refinement pass visits does not depend on the bits that it decodes:
they are listed first, then decoded in one tight loop.

Everything here is one module, because numba's cache on disk only notices changes of the module it compiles.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from numba.core import types
from numba.extending import intrinsic

from s2sr_core.compiled import compiled

Int64Array = npt.NDArray[np.int64]
UInt8Array = npt.NDArray[np.uint8]

#: Table C.2: Qe, next state after MPS and after LPS, and whether the sense of MPS is switched.
_STATES = (
    (0x5601, 1, 1, 1),
    (0x3401, 2, 6, 0),
    (0x1801, 3, 9, 0),
    (0x0AC1, 4, 12, 0),
    (0x0521, 5, 29, 0),
    (0x0221, 38, 33, 0),
    (0x5601, 7, 6, 1),
    (0x5401, 8, 14, 0),
    (0x4801, 9, 14, 0),
    (0x3801, 10, 14, 0),
    (0x3001, 11, 17, 0),
    (0x2401, 12, 18, 0),
    (0x1C01, 13, 20, 0),
    (0x1601, 29, 21, 0),
    (0x5601, 15, 14, 1),
    (0x5401, 16, 14, 0),
    (0x5101, 17, 15, 0),
    (0x4801, 18, 16, 0),
    (0x3801, 19, 17, 0),
    (0x3401, 20, 18, 0),
    (0x3001, 21, 19, 0),
    (0x2801, 22, 19, 0),
    (0x2401, 23, 20, 0),
    (0x2201, 24, 21, 0),
    (0x1C01, 25, 22, 0),
    (0x1801, 26, 23, 0),
    (0x1601, 27, 24, 0),
    (0x1401, 28, 25, 0),
    (0x1201, 29, 26, 0),
    (0x1101, 30, 27, 0),
    (0x0AC1, 31, 28, 0),
    (0x09C1, 32, 29, 0),
    (0x08A1, 33, 30, 0),
    (0x0521, 34, 31, 0),
    (0x0441, 35, 32, 0),
    (0x02A1, 36, 33, 0),
    (0x0221, 37, 34, 0),
    (0x0141, 38, 35, 0),
    (0x0111, 39, 36, 0),
    (0x0085, 40, 37, 0),
    (0x0049, 41, 38, 0),
    (0x0025, 42, 39, 0),
    (0x0015, 43, 40, 0),
    (0x0009, 44, 41, 0),
    (0x0005, 45, 42, 0),
    (0x0001, 45, 43, 0),
    (0x5601, 46, 46, 0),
)
#: Contexts (tables D.1 to D.5): 0 to 8 significance, 9 to 13 sign, then these.
_FIRST_SIGN, _FIRST_REFINEMENT, _RUN, _UNIFORM = 9, 14, 17, 18
#: Table D.7: the state in which a context begins, if not 0.
_FIRST_STATES = {0: 4, _RUN: 3, _UNIFORM: 46}

# A context is one word: Qe in bits 16 to 31, twice its state in bits 3 to 8, and in bit 2 and in bit 0 what MPS is.


def _word(state: int, mps: int) -> int:
    return _STATES[state][0] << 16 | state << 3 | mps << 2 | mps


def _next_words() -> Int64Array:
    """The words after MPS (even places) and LPS (odd places), at four times the state plus twice MPS."""
    words = np.zeros(256, np.int64)
    for state, (_, after_mps, after_lps, switches) in enumerate(_STATES):
        for mps in (0, 1):
            words[4 * state + 2 * mps] = _word(after_mps, mps)
            words[4 * state + 2 * mps + 1] = _word(after_lps, mps ^ switches)
    return words


_NEXT = _next_words()
_FIRST_WORDS = np.array([_word(_FIRST_STATES.get(context, 0), 0) for context in range(_UNIFORM + 1)])

# The flags of four coefficients, one below the other, are one word. Its first 18 bits say which of six rows of three
# are significant: the four, one above and one below, each with its neighbours to the left (first) and to the right. So
# the neighbourhood of row r is nine bits from bit 3 r on, and its own is the fifth of them. Bits 32 to 49 say in the
# same order which of the significant ones are negative. Besides there are for row r, 3 r bits further:
_OWN, _VISITED, _NEGATIVE, _REFINED = 4, 18, 32, 50
#: Of the first 18 bits: the first of each of the six rows.
_FIRST_OF_ROWS = 0o111111
_SIGNIFICANT, _NEIGHBOURS, _ROW_BITS = 0x3FFFF, 0b111_101_111, 0b001_001_001_001
_UNVISITED = ~(_ROW_BITS << _VISITED)
#: The rows that a strip of 0 to 4 rows has.
_ROWS = np.array([0, 0b1, 0b1001, 0b1001001, _ROW_BITS])


def _significance_contexts() -> UInt8Array:
    """Table D.1, for bands LL and LH, HL, HH (rows) and the nine bits of a neighbourhood."""

    def along(horizontal: int, vertical: int, diagonal: int) -> int:
        if horizontal == 2:
            return 8
        if horizontal == 1:
            return 7 if vertical else 6 if diagonal else 5
        return vertical + 2 if vertical else min(diagonal, 2)

    def across(sides: int, diagonal: int) -> int:
        if diagonal >= 3:
            return 8
        if diagonal == 2:
            return 7 if sides else 6
        return 3 * diagonal + min(sides, 2)

    contexts = np.zeros((3, 512), np.uint8)
    for bits in range(512):
        one = [bits >> place & 1 for place in range(9)]
        horizontal, vertical, diagonal = one[3] + one[5], one[1] + one[7], one[0] + one[2] + one[6] + one[8]
        contexts[:, bits] = (
            along(horizontal, vertical, diagonal),
            along(vertical, horizontal, diagonal),
            across(horizontal + vertical, diagonal),
        )
    return contexts


def _sign_contexts() -> UInt8Array:
    """Tables D.2 and D.3: the context, and 128 if the bit is to be inverted.

    The place has two bits each for the neighbour above, left, right and below: negative, significant.
    """
    contexts = np.zeros(256, np.uint8)
    for bits in range(256):
        above, left, right, below = (
            (bits >> place + 1 & 1) * (1 - 2 * (bits >> place & 1)) for place in range(0, 8, 2)
        )
        horizontal, vertical = (max(-1, min(1, both)) for both in (left + right, above + below))
        inverted = (horizontal, vertical) < (0, 0)
        if inverted:
            horizontal, vertical = -horizontal, -vertical
        contexts[bits] = _FIRST_SIGN + (3 + vertical if horizontal else vertical) + 128 * inverted
    return contexts


_SIGNIFICANCE, _SIGN = _significance_contexts(), _sign_contexts()

#: Side of the largest code block, and words of flags from a strip of four rows to the next: there is one at each end.
SIDE = 64
_STRIP = SIDE + 2
#: An index is masked where numba cannot know that it is not negative, which it would count from the end.
_PLACES = 0x7FF

_inlined = numba.njit(forceinline=True, error_model="numpy")
_helper = numba.njit(error_model="numpy")


def _zeros(instruction: str) -> Any:
    """A compiled function that counts the zeros before (``ctlz``) or after (``cttz``) the ones of a positive number."""

    @intrinsic
    def count(_context, _number):  # type: ignore[no-untyped-def]
        def generate(context, builder, _signature, arguments):  # type: ignore[no-untyped-def]
            return getattr(builder, instruction)(arguments[0], context.get_constant(types.boolean, 1))

        return types.int64(types.int64), generate

    return count


_leading_zeros, _trailing_zeros = _zeros("ctlz"), _zeros("cttz")


# The arithmetic decoder is a tuple: interval (A, in bits 16 to 31), code (C), shifts until the next byte, last byte.


@_inlined
def _byte(code, left, at, data):  # type: ignore[no-untyped-def]
    """Add the byte after the last one to the code, which has been shifted ``-left`` bits beyond it (figure C.19)."""
    at &= 0x7FFFFFFF
    following = np.int64(data[at + 1])
    if data[at] == 0xFF:
        if following > 0x8F:
            return code + (np.int64(0xFF00) << -left), left + 8, at
        return code + (following << (9 - left)), left + 7, at + 1
    return code + (following << (8 - left)), left + 8, at + 1


@_inlined
def _begin(data):  # type: ignore[no-untyped-def]
    """Figure C.20."""
    code, left, at = _byte(np.int64(data[0]) << 16, np.int64(0), np.int64(0), data)
    return np.int64(0x80000000), code << 7, left - 7, at


@_inlined
def _bit(decoder, data, contexts, context):  # type: ignore[no-untyped-def]
    """The next bit (figures C.15 to C.18): masks are -1 where something holds, and 0 where it does not."""
    interval, code, left, at = decoder
    word = contexts[context]
    qe = word & 0xFFFF0000
    place = (word >> 1) & 0xFE
    after_mps, after_lps = _NEXT[place], _NEXT[place + 1]
    upper, beyond = interval - qe, code - qe
    is_lower = beyond >> 63
    is_lps = is_lower ^ ((upper - qe) >> 63)
    code = beyond + (qe & is_lower)
    interval = upper ^ ((upper ^ qe) & is_lower)
    is_renormalised = (interval - 0x80000000) >> 63
    following = after_mps ^ ((after_mps ^ after_lps) & is_lps)
    contexts[context] = word ^ ((word ^ following) & is_renormalised)
    shift = _leading_zeros(interval) - 32
    code, left = code << shift, left - shift
    while left < 0:
        code, left, at = _byte(code, left, at, data)
    return (interval << shift, code & 0xFFFFFFFF, left, at), (word ^ is_lps) & 1


@_inlined
def _signed(decoder, data, contexts, flags, word, corner, row):  # type: ignore[no-untyped-def]
    """Decode the sign of a coefficient (``row`` counts in threes), and tell its neighbours that it is significant.

    ``word`` are the flags at its place, which are returned and not written.
    """
    context = np.int64(_SIGN[((word >> row) & 0xAA) | ((word >> (_NEGATIVE + 1 + row)) & 0x55)])
    decoder, bit = _bit(decoder, data, contexts, context & 0x7F)
    negative = bit ^ (context >> 7)
    told = np.int64(1) | (negative << _NEGATIVE)
    flags[corner + _STRIP] |= told << (row + 5)
    flags[corner + _STRIP + 2] |= told << (row + 3)
    up = told & ((row - 1) >> 63)
    down = told & ((8 - row) >> 63)
    flags[corner + 1] |= up << 16
    flags[corner] |= up << 17
    flags[corner + 2] |= up << 15
    flags[corner + 2 * _STRIP + 1] |= down << 1
    flags[corner + 2 * _STRIP] |= down << 2
    flags[corner + 2 * _STRIP + 2] |= down
    return decoder, negative << 31, word | (told << (row + 4))


@_helper
def _propagate(decoder, data, contexts, significance, flags, values, width, height, plane):  # type: ignore[no-untyped-def]
    """The significance propagation pass (D.3.1)."""
    for strip in range((height + 3) // 4):
        rows = _ROWS[min(4, height - 4 * strip)]
        for x in range(width):
            corner = (strip * _STRIP + x) & _PLACES
            word = flags[corner + _STRIP + 1]
            any_of_row = (word | (word >> 1) | (word >> 2)) & _FIRST_OF_ROWS
            if any_of_row == 0:
                continue
            beside = (word | (word >> 2)) & _FIRST_OF_ROWS
            todo = (any_of_row | (beside >> 3) | (any_of_row >> 6)) & ~(word >> _OWN) & rows
            while todo:
                row = _trailing_zeros(todo)
                todo &= todo - 1
                decoder, bit = _bit(decoder, data, contexts, significance[(word >> row) & _NEIGHBOURS])
                word |= np.int64(1) << (_VISITED + row)
                if bit:
                    decoder, sign, word = _signed(decoder, data, contexts, flags, word, corner, row)
                    values[((strip * SIDE + x) & _PLACES) * 4 + (row * 11 >> 5)] = (3 << plane) | sign
                    todo |= (8 << row) & ~(word >> _OWN) & rows
            flags[corner + _STRIP + 1] = word
    return decoder


@_helper
def _refine(decoder, data, contexts, flags, values, visits, width, height, plane):  # type: ignore[no-untyped-def]
    """The magnitude refinement pass (D.3.3)."""
    count = 0
    for strip in range((height + 3) // 4):
        for x in range(width):
            corner = (strip * _STRIP + x) & _PLACES
            word = flags[corner + _STRIP + 1]
            todo = (word >> _OWN) & ~(word >> _VISITED) & _ROW_BITS
            if todo == 0:
                continue
            first = ((strip * SIDE + x) & _PLACES) * 4
            if todo & (word >> _REFINED) == _ROW_BITS:  # as nearly always where bits are noise
                for row in range(4):
                    visits[(count & 0xFFF) + row] = (first + row) << 2 | 2
                count += 4
                continue
            flags[corner + _STRIP + 1] = word | (todo << _REFINED)
            for row in range(4):
                again = (word >> (_REFINED + 3 * row)) & 1
                context = max(2 * again, np.int64((word >> (3 * row)) & _NEIGHBOURS != 0))
                visits[count & 0x1FFF] = (first + row) << 2 | context
                count += (todo >> (3 * row)) & 1
    for number in range(count):
        visit = np.int64(visits[number & 0xFFF])
        decoder, bit = _bit(decoder, data, contexts, _FIRST_REFINEMENT + (visit & 3))
        values[visit >> 2] += (bit << (plane + 1)) - (1 << plane)
    return decoder


@_helper
def _clean_up(decoder, data, contexts, significance, flags, values, width, height, plane):  # type: ignore[no-untyped-def]
    """The cleanup pass (D.3.4)."""
    for strip in range((height + 3) // 4):
        rows = _ROWS[min(4, height - 4 * strip)]
        for x in range(width):
            corner = (strip * _STRIP + x) & _PLACES
            word = flags[corner + _STRIP + 1]
            todo = ~((word >> _OWN) | (word >> _VISITED)) & rows
            word &= _UNVISITED
            if todo == 0:
                flags[corner + _STRIP + 1] = word
                continue
            is_known = np.int64(0)
            if todo == _ROW_BITS and word & _SIGNIFICANT == 0:
                decoder, is_known = _bit(decoder, data, contexts, _RUN)
                if not is_known:
                    continue
                skipped = 0
                for _ in range(2):
                    decoder, bit = _bit(decoder, data, contexts, _UNIFORM)
                    skipped = 2 * skipped + bit
                todo &= np.int64(_ROW_BITS) << (3 * skipped)
            while todo:
                row = _trailing_zeros(todo)
                todo &= todo - 1
                if is_known:  # the first one after a run is significant
                    is_known, bit = np.int64(0), np.int64(1)
                else:
                    decoder, bit = _bit(decoder, data, contexts, significance[(word >> row) & _NEIGHBOURS])
                if bit:
                    decoder, sign, word = _signed(decoder, data, contexts, flags, word, corner, row)
                    values[((strip * SIDE + x) & _PLACES) * 4 + (row * 11 >> 5)] = (3 << plane) | sign
            flags[corner + _STRIP + 1] = word
    return decoder


@compiled()
def decode_blocks(data, blocks, coded, chunks, wanted, coefficients):  # type: ignore[no-untyped-def]
    """Decode some code blocks of a tile.

    Parameters
    ----------
    data: the bytes of the tile (UInt8).
    blocks: Int64, a row for each block: place of its first coefficient in ``coefficients``, the place of the one below
        minus that, width, height, kind of band (0 LL or LH, 1 HL, 2 HH).
    coded: Int64, a row for each block: bit planes (at most 28), coding passes, first of its chunks.
    chunks: Int64, a row for each chunk of bytes: first byte, count of bytes, next chunk of the block or -1.
    wanted: the numbers of the blocks to decode (Int64).
    coefficients: Int32, of the whole tile; those of the blocks are written.
    """
    longest = 0
    for number in wanted:
        size, chunk = 0, coded[number, 2]
        while chunk >= 0:
            size, chunk = size + chunks[chunk, 1], chunks[chunk, 2]
        longest = max(longest, size)
    stream = np.empty(longest + 2, np.uint8)
    flags = np.empty((SIDE // 4 + 2) * _STRIP, np.int64)
    values = np.empty(SIDE * SIDE, np.int32)
    visits = np.empty(SIDE * SIDE + 1, np.uint16)
    contexts = np.empty(len(_FIRST_WORDS), np.int64)
    for number in wanted:
        place, below, width, height, kind = blocks[number]
        planes, passes, chunk = coded[number]
        if passes == 0:
            continue
        size = 0
        while chunk >= 0:
            start, count, chunk = chunks[chunk]
            stream[size : size + count] = data[start : start + count]
            size += count
        stream[size : size + 2] = 0xFF  # what the decoder reads after the end
        flags[:], values[:], contexts[:] = 0, 0, _FIRST_WORDS
        decoder, significance = _begin(stream), _SIGNIFICANCE[kind]
        # Magnitudes are twice what has been decoded, plus half of the last bit plane.
        for number_of_pass in range(2, passes + 2):
            plane = planes - 1 - number_of_pass // 3
            kind_of_pass = number_of_pass % 3
            if kind_of_pass == 0:
                decoder = _propagate(decoder, stream, contexts, significance, flags, values, width, height, plane)
            elif kind_of_pass == 1:
                decoder = _refine(decoder, stream, contexts, flags, values, visits, width, height, plane)
            else:
                decoder = _clean_up(decoder, stream, contexts, significance, flags, values, width, height, plane)
        for y in range(height):
            for x in range(width):
                value = values[((y >> 2) * SIDE + x) * 4 + (y & 3)]
                magnitude = (value & 0x7FFFFFFF) >> 1
                coefficients[place + y * below + x] = -magnitude if value < 0 else magnitude
