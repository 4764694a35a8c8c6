"""Patches of a mask: connected pixels, and how many they are."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from s2sr_core.compiled import compiled

BoolArray = npt.NDArray[np.bool_]


def of_at_least(masked: BoolArray, least: int) -> BoolArray:
    """The pixels of ``masked`` whose patch has at least ``least`` pixels; rows × columns.

    A patch is what is connected over sides and corners (8 neighbours).
    """
    kept: BoolArray = _of_at_least(np.ascontiguousarray(masked), least)
    return kept


@compiled("boolean[:, ::1](boolean[:, ::1], int64)")
def _of_at_least(masked: BoolArray, least: int) -> BoolArray:
    height, width = masked.shape
    kept = masked.copy()
    seen = np.zeros((height, width), np.bool_)
    patch = np.empty(height * width, np.int64)  # places, row by row, of the patch that is walked through
    for start in range(height * width):
        if seen[start // width, start % width] or not masked[start // width, start % width]:
            continue
        seen[start // width, start % width] = True
        patch[0], size, at = start, 1, 0
        while at < size:
            row, column = patch[at] // width, patch[at] % width
            at += 1
            for y in range(max(row - 1, 0), min(row + 2, height)):
                for x in range(max(column - 1, 0), min(column + 2, width)):
                    if masked[y, x] and not seen[y, x]:
                        seen[y, x] = True
                        patch[size] = y * width + x
                        size += 1
        if size < least:
            for number in range(size):
                kept[patch[number] // width, patch[number] % width] = False
    return kept
