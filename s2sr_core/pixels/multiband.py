"""Medoid and geometric median: statistics over several bands, compiled.

An observation is a point with a coordinate for each band, in DN; distances are Euclidean.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from s2sr_core.compiled import compiled
from s2sr_core.pixels.rules import SCENE_NODATA, UInt16Array

FloatArray = npt.NDArray[np.float64]

_NODATA = np.uint16(SCENE_NODATA)
#: Distances are rounded to this part of a DN, so that their sums do not depend on any order, and equal ones are equal.
_PARTS_OF_A_DN = 2.0**20
#: Where the iteration of the geometric median ends: a step that is shorter (DN), or so many steps.
GEOMEDIAN_STEP, GEOMEDIAN_STEPS = 1e-3, 100
#: Below this distance, in DN, a point is an observation.
_SAME = 1e-6


def medoid(values: UInt16Array) -> FloatArray:
    """The observation from which the sum of the distances to the others is least; of several such the first.

    Observations × bands × rows × columns → bands × rows × columns; where none is valid, 0.
    """
    result = np.zeros(values.shape[1:])
    _medoid(np.ascontiguousarray(values), result)
    return result


def geomedian(values: UInt16Array) -> FloatArray:
    """The point from which the sum of the distances to the observations is least.

    If it is an observation, it is the medoid, and Weiszfeld's condition with the weight of Vardi & Zhang (2000,
    https://doi.org/10.1073/pnas.97.4.1423) says so: then it is exactly that. Else the iteration starts there with
    Weiszfeld's step; further steps are Newton's if these make the sum smaller, or else Weiszfeld's (alone, these take
    hundreds near an observation). All in Float64. It ends with a step shorter than :data:`GEOMEDIAN_STEP`, or after
    :data:`GEOMEDIAN_STEPS`. Of two observations it is the mean; each point between them is as good.

    Observations × bands × rows × columns → bands × rows × columns; where none is valid, 0.
    """
    result = np.zeros(values.shape[1:])
    _geomedian(np.ascontiguousarray(values), result)
    return result


@compiled()
def _points(values, row, column, points):  # type: ignore[no-untyped-def]
    """Fill ``points`` (observations × bands) with the valid ones of a pixel; returns how many there are."""
    count = 0
    for observation in range(values.shape[0]):
        if values[observation, 0, row, column] != _NODATA:
            for band in range(values.shape[1]):
                points[count, band] = values[observation, band, row, column]
            count += 1
    return count


@compiled()
def _medoid_of(points, count, sums):  # type: ignore[no-untyped-def]
    """Which of the first ``count`` points is the medoid; fills ``sums``."""
    sums[:count] = 0
    for one in range(count):
        for other in range(one):
            square = 0.0
            for band in range(points.shape[1]):
                square += (points[one, band] - points[other, band]) ** 2
            distance = np.int64(math.sqrt(square) * _PARTS_OF_A_DN + 0.5)
            sums[one] += distance
            sums[other] += distance
    best = 0
    for one in range(1, count):
        if sums[one] < sums[best]:
            best = one
    return best


@compiled()
def _sum_of_distances(points, count, place):  # type: ignore[no-untyped-def]
    total = 0.0
    for one in range(count):
        square = 0.0
        for band in range(points.shape[1]):
            square += (points[one, band] - place[band]) ** 2
        total += math.sqrt(square)
    return total


@compiled()
def _forces(points, count, place, pull, curvature):  # type: ignore[no-untyped-def]
    """What pulls at ``place``: each point with a force of 1 towards it.

    Fills ``pull``, the sum of these vectors, and ``curvature`` (bands × bands), how fast it changes. Returns the sum of
    the inverse distances, and how many points are at ``place``, which do not pull.
    """
    bands = points.shape[1]
    weights, here = 0.0, 0
    pull[:] = 0.0
    curvature[:, :] = 0.0
    direction = np.empty(bands)
    for one in range(count):
        square = 0.0
        for band in range(bands):
            direction[band] = points[one, band] - place[band]
            square += direction[band] ** 2
        distance = math.sqrt(square)
        if distance < _SAME:
            here += 1
            continue
        weights += 1.0 / distance
        for band in range(bands):
            direction[band] /= distance
            pull[band] += direction[band]
            curvature[band, band] += 1.0 / distance
            for other in range(band + 1):
                curvature[band, other] -= direction[band] * direction[other] / distance
    return weights, here


@compiled()
def _solve(matrix, vector, step):  # type: ignore[no-untyped-def]
    """Solve for ``step`` by Cholesky's decomposition of the lower triangle, which is overwritten; False if it fails.

    ``matrix`` is symmetric; LAPACK's results would differ from machine to machine.
    """
    size = vector.size
    for row in range(size):
        for column in range(row + 1):
            total = matrix[row, column]
            for each in range(column):
                total -= matrix[row, each] * matrix[column, each]
            if row > column:
                matrix[row, column] = total / matrix[column, column]
            elif total > 0.0:
                matrix[row, row] = math.sqrt(total)
            else:
                return False
    for row in range(size):
        total = vector[row]
        for each in range(row):
            total -= matrix[row, each] * step[each]
        step[row] = total / matrix[row, row]
    for row in range(size - 1, -1, -1):
        total = step[row]
        for each in range(row + 1, size):
            total -= matrix[each, row] * step[each]
        step[row] = total / matrix[row, row]
    return True


@compiled()
def _find_geomedian(points, count, place, trial, pull, step, curvature):  # type: ignore[no-untyped-def]
    """Move ``place``, the medoid, to the geometric median; the other arrays are for work."""
    bands = place.size
    weights, here = _forces(points, count, place, pull, curvature)
    force = 0.0
    for band in range(bands):
        force += pull[band] ** 2
    force = math.sqrt(force)
    if force <= here:
        return
    for band in range(bands):  # the points that are here hold back
        place[band] += pull[band] / force * (force - here) / weights
    for _ in range(GEOMEDIAN_STEPS):
        weights, here = _forces(points, count, place, pull, curvature)
        is_better = False
        if _solve(curvature, pull, step):
            for band in range(bands):
                trial[band] = place[band] + step[band]
            is_better = _sum_of_distances(points, count, trial) < _sum_of_distances(points, count, place)
        length = 0.0
        for band in range(bands):
            if not is_better:
                step[band] = pull[band] / weights
            place[band] += step[band]
            length += step[band] ** 2
        if math.sqrt(length) < GEOMEDIAN_STEP:
            return


@compiled("void(uint16[:, :, :, ::1], float64[:, :, ::1])")
def _medoid(values, result):  # type: ignore[no-untyped-def]
    observations, bands, rows, columns = values.shape
    points, sums = np.empty((observations, bands)), np.empty(observations, np.int64)
    for row in range(rows):
        for column in range(columns):
            count = _points(values, row, column, points)
            if count > 0:
                result[:, row, column] = points[_medoid_of(points, count, sums)]


@compiled("void(uint16[:, :, :, ::1], float64[:, :, ::1])")
def _geomedian(values, result):  # type: ignore[no-untyped-def]
    observations, bands, rows, columns = values.shape
    points, sums = np.empty((observations, bands)), np.empty(observations, np.int64)
    place, trial, pull, step = np.empty(bands), np.empty(bands), np.empty(bands), np.empty(bands)
    curvature = np.empty((bands, bands))
    for row in range(rows):
        for column in range(columns):
            count = _points(values, row, column, points)
            if count == 0:
                continue
            if count == 2:
                for band in range(bands):
                    place[band] = (points[0, band] + points[1, band]) / 2
            else:
                place[:] = points[_medoid_of(points, count, sums)]
                _find_geomedian(points, count, place, trial, pull, step, curvature)
            result[:, row, column] = place
