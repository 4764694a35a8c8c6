"""Packets of a tile: where the bytes of each code block are, and what they hold (ISO/IEC 15444-1, annex B.9 and B.10).

Everything here is one module, because numba's cache on disk only notices changes of the module it compiles.
"""

from __future__ import annotations

import numba
import numpy as np

from s2sr_core.compiled import compiled

_helper = numba.njit(error_model="numpy")

#: Bit planes of a code block, at most: of 16-bit images they are some twenty.
MOST_PLANES = 28
#: Levels of a tag tree, at most: 2¹⁶ code blocks side by side would be too many for any tile.
_MOST_LEVELS = 17

# Reading bits: next byte, last byte read, bits left of it, first byte after the tile. Beyond that all bits are 0, and
# the next byte is beyond it too, so that the caller finds out.


@_helper
def _bit(bits, data):  # type: ignore[no-untyped-def]
    """The next bit; after a byte 0xFF the first bit of the next one is stuffed (B.10.1)."""
    if bits[2] == 0:
        bits[2] = 7 if bits[1] == 0xFF else 8
        bits[1] = data[bits[0]] if bits[0] < bits[3] else 0
        bits[0] += 1
    bits[2] -= 1
    return (bits[1] >> bits[2]) & 1


@_helper
def _number(bits, data, count):  # type: ignore[no-untyped-def]
    value = 0
    for _ in range(count):
        value = 2 * value + _bit(bits, data)
    return value


@_helper
def _is_below(bits, data, path, levels, least, known, threshold):  # type: ignore[no-untyped-def]
    """Read a tag tree until it is clear whether the value of a leaf is below ``threshold`` (B.10.2)."""
    bound = 0
    for level in range(levels - 1, -1, -1):
        node = path[level]
        least[node] = max(least[node], bound)
        while least[node] < threshold and not known[node]:
            if _bit(bits, data):
                known[node] = True
            else:
                least[node] += 1
        bound = least[node]
    return known[path[0]] and bound < threshold


@_helper
def _passes(bits, data):  # type: ignore[no-untyped-def]
    """The number of coding passes (table B.4)."""
    if not _bit(bits, data):
        return 1
    if not _bit(bits, data):
        return 2
    more = _number(bits, data, 2)
    if more < 3:
        return 3 + more
    more = _number(bits, data, 5)
    if more < 31:
        return 6 + more
    return 37 + _number(bits, data, 7)


@_helper
def _path(path, node, columns, rows, x, y):  # type: ignore[no-untyped-def]
    """The nodes of a tag tree from a leaf to the root, of which ``node`` is the first leaf; returns their count."""
    level = 0
    while True:
        path[level] = node + (y >> level) * columns + (x >> level)
        level += 1
        if columns * rows == 1 or level == _MOST_LEVELS:
            return level
        node += columns * rows
        columns, rows = (columns + 1) // 2, (rows + 1) // 2


@compiled()
def read_packets(data, order, packets, groups, count, node_count, has_eph):  # type: ignore[no-untyped-def]
    """Read all packets of a tile.

    Parameters
    ----------
    data: the bytes of the tile, without headers of tile-parts (UInt8).
    order: Int64, a row for each packet as they come: layer, row in ``packets``.
    packets: Int64, a row for each precinct: first of its groups, count of its groups.
    groups: Int64, a row for each precinct of a band: first of its code blocks, columns and rows of code blocks, first
        of its nodes in a tag tree, bit planes of the band.
    count: of code blocks.
    node_count: of nodes.
    has_eph: whether each header of a packet ends with a marker EPH.

    Returns
    -------
    coded, chunks:
        What :func:`~s2sr_core.jpeg2000.code_blocks.decode_blocks` takes. If the packets cannot be read, or hold what no
        16-bit image has, ``coded`` has no rows.
    """
    refused = np.empty((0, 3), np.int64)
    coded = np.zeros((count, 3), np.int64)
    coded[:, 2] = -1
    chunks = np.empty((max(count, 1), 3), np.int64)
    chunk_count = 0
    last_chunk = np.full(count, -1)
    length_bits = np.full(count, 3)
    least, known = np.zeros((2, node_count), np.int64), np.zeros((2, node_count), np.bool_)
    path = np.empty(_MOST_LEVELS, np.int64)
    sizes = np.empty((count, 2), np.int64)
    bits = np.array([0, 0, 0, len(data)])
    for layer, packet in order:
        if bits[0] + 6 <= len(data) and data[bits[0]] == 0xFF and data[bits[0] + 1] == 0x91:  # SOP
            bits[0] += 6
        bits[1:3] = 0
        first, group_count = packets[packet]
        included = 0
        if _bit(bits, data):
            for group in range(first, first + group_count):
                block, columns, rows, node, planes = groups[group]
                for y in range(rows):
                    for x in range(columns):
                        if bits[0] > len(data):
                            return refused, chunks
                        if last_chunk[block] >= 0:
                            is_included = _bit(bits, data) == 1
                        else:
                            levels = _path(path, node, columns, rows, x, y)
                            is_included = _is_below(bits, data, path, levels, least[0], known[0], layer + 1)
                            if is_included:
                                missing = 0
                                while not _is_below(bits, data, path, levels, least[1], known[1], missing + 1):
                                    missing += 1
                                    if missing > planes:
                                        return refused, chunks
                                coded[block, 0] = planes - missing
                        if is_included:
                            passes = _passes(bits, data)
                            while _bit(bits, data):
                                length_bits[block] += 1
                            size_bits, more = length_bits[block], passes
                            while more > 1:
                                size_bits, more = size_bits + 1, more // 2
                            if size_bits > 31:
                                return refused, chunks
                            coded[block, 1] += passes
                            if coded[block, 0] > MOST_PLANES or coded[block, 1] > 3 * coded[block, 0] - 2:
                                return refused, chunks
                            sizes[included] = block, _number(bits, data, size_bits)
                            included += 1
                        block += 1
        if bits[1] == 0xFF:  # a stuffed bit, and so a byte, follows (B.10.1)
            bits[0] += 1
        at = bits[0]
        if has_eph:
            if at + 2 > len(data) or data[at] != 0xFF or data[at + 1] != 0x92:
                return refused, chunks
            at += 2
        for number in range(included):
            block, size = sizes[number]
            if at + size > len(data):
                return refused, chunks
            if chunk_count == len(chunks):
                chunks = np.concatenate((chunks, np.empty_like(chunks)))
            chunks[chunk_count] = at, size, -1
            if last_chunk[block] >= 0:
                chunks[last_chunk[block], 2] = chunk_count
            else:
                coded[block, 2] = chunk_count
            last_chunk[block] = chunk_count
            at += size
            chunk_count += 1
        bits[0] = at
        if at > len(data):
            return refused, chunks
    return coded, chunks
