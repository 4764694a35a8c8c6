"""A cloud field whose masked blocks are distributed as in real granules.

The sandbox's own sky (:mod:`s2sr_sandbox.sky`) repeats itself every few kilometres, so hardly any JPEG 2000 tile
of 12.8 km is covered completely. Real cloud fields have structure at every scale from the granule to the pixel. This
one is a Gaussian random field on a torus with the power spectrum ``w · k^−a + (1 − w) · k^−b``: it has fronts, and
broken edges.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

type Mask = NDArray[np.bool_]

#: Exponents of the power spectrum, and the steep one's share of the variance.
_STEEP, _SHALLOW, _STEEP_SHARE = 4.0, 2.6, 0.9


def field(seed: int, shape: tuple[int, int]) -> NDArray[np.float32]:
    """A random field of ``shape`` (rows, columns) with mean 0 and variance 1."""
    rows, columns = shape
    white = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    square = np.fft.fftfreq(rows)[:, None] ** 2 + np.fft.rfftfreq(columns)[None] ** 2 + max(shape) ** -2.0
    steep, shallow = square ** (-_STEEP / 2), square ** (-_SHALLOW / 2)
    amplitude = np.sqrt(_STEEP_SHARE * steep / steep.sum() + (1 - _STEEP_SHARE) * shallow / shallow.sum())
    result = np.fft.irfft2(np.fft.rfft2(white) * amplitude.astype(np.float32), shape).astype(np.float32)
    return np.asarray((result - result.mean()) / result.std(), np.float32)


def exceeded_by(values: NDArray[np.float32], share: float) -> float:
    """The value that ``share`` of ``values`` exceeds, from every seventh row and column."""
    return float(np.quantile(values[::7, ::7], 1.0 - share))


def blocks_without(valid: Mask, block: int) -> Mask:
    """Which blocks of ``block`` × ``block`` pixels hold no valid pixel; those at the lower and right edge are cut off.

    Returns
    -------
    Boolean array, rows and columns of blocks.
    """
    rows, columns = (-(-side // block) for side in valid.shape)
    whole = np.zeros((rows * block, columns * block), bool)
    whole[: valid.shape[0], : valid.shape[1]] = valid
    empty: Mask = ~whole.reshape(rows, block, columns, block).any(axis=(1, 3))
    return empty
