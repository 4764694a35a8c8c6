"""Masks: which pixels of a scene its scene classification (SCL) rules out.

A :class:`MaskRule` is what a run asks for, in metres and the same for all scenes. On the grid of a scene it becomes a
:class:`Mask`, in pixels, which phase 1 applies to SCL and the pixel function of masked VRTs gets as arguments.
:class:`SclRule` is the one that the program's parameters make. A new rule is one module: it has a class for each of the
two and calls :func:`register`; :attr:`s2sr_core.run_context.RunContext.mask` says which rule a run uses.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from s2sr_core.pixels.rules import BoolArray
from s2sr_core.pixels.scl import CLASS_NAMES, SCL_CLASSES

SclArray = npt.NDArray[np.integer[Any]]
"""Classes, rows × columns."""


class Mask(Protocol):
    """A rule on the grid of one scene."""

    @property
    def name(self) -> str:
        """Of the rule, as VRTs and records call it."""

    @property
    def reach(self) -> int:
        """How many pixels away SCL may decide about a pixel; 0 means :meth:`masked` is :meth:`masked_by_class`."""

    def masked(self, scl: SclArray, inside: BoolArray | None = None) -> BoolArray:
        """Which pixels are masked; of the shape of ``scl``.

        ``inside`` says which of ``scl`` are pixels of the scene; None: all. The others (a buffer of :attr:`reach`
        beyond its edges) hold any value and must not matter.
        """

    def masked_by_class(self, scl: SclArray) -> BoolArray:
        """Which pixels are masked for their own class alone; what is said of a scene's clear share counts these."""

    def arguments(self) -> dict[str, str]:
        """All but the name, as arguments of a pixel function."""

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, str]) -> Self:
        """The inverse of :meth:`arguments`; there may be others among them."""


class MaskRule(Protocol):
    """A rule as a run asks for it, frozen and hashable."""

    def on_grid(self, pixel_metres: tuple[float, float]) -> Mask:
        """The rule where pixels are so wide and high, in metres."""

    def record(self) -> dict[str, Any]:
        """The rule as plain JSON; other JSON means other pixels."""

    def in_words(self) -> str:
        """The rule for people, in one line."""


_MASKS: dict[str, type[Mask]] = {}


def register(name: str, mask: type[Mask]) -> None:
    """Make a class of masks known by its name, as VRTs call it.

    Raises
    ------
    ValueError
        If another class has that name.
    """
    if _MASKS.setdefault(name, mask) is not mask:
        raise ValueError(f"there already is a mask {name!r}; give the new one another name")


def to_arguments(mask: Mask) -> dict[str, str]:
    """A mask as arguments of a pixel function."""
    return {"mask": mask.name, **mask.arguments()}


def from_arguments(arguments: Mapping[str, str]) -> Mask:
    """The inverse of :func:`to_arguments`; there may be others among them.

    Raises
    ------
    KeyError
        If no class was registered by the mask's name, or an argument is missing.
    """
    return _MASKS[arguments["mask"]].from_arguments(arguments)


# ------------------------------------------------------------------------------------------------- classes of SCL

Dilation = Mapping[int, tuple[float, float]]
"""By class, how far its mask is widened: in columns and rows of the scene's grid."""


@dataclass(frozen=True)
class SclRule:
    """Mask pixels of some SCL classes, and, for some of these, what lies within a distance of them.

    Attributes
    ----------
    classes: the masked ones; a value that is not one of :data:`SCL_CLASSES` is always masked.
    dilation: metres by class.
    """

    classes: tuple[int, ...]
    dilation: Mapping[int, float] = field(default_factory=dict)

    def on_grid(self, pixel_metres: tuple[float, float]) -> SclMask:
        width, height = pixel_metres
        return SclMask(self.classes, {value: (r / width, r / height) for value, r in self.dilation.items()})

    def record(self) -> dict[str, Any]:
        dilation = {str(value): metres for value, metres in sorted(self.dilation.items())}
        return {"rule": SclMask.name, "classes": list(self.classes), "dilation": dilation}

    def in_words(self) -> str:
        words = f"SCL {', '.join(f'{value} ({CLASS_NAMES[value]})' for value in self.classes)}"
        widened = (f"{value} by {metres:g} m" for value, metres in sorted(self.dilation.items()))
        return f"{words}; dilated: {', '.join(widened)}" if self.dilation else words


@dataclass(frozen=True)
class SclMask:
    """:class:`SclRule` on a grid.

    Every pixel whose centre lies within an ellipse of the half-axes that ``dilation`` names for a class, around the
    centre of a pixel of that class, is masked as well.
    """

    classes: tuple[int, ...]
    dilation: Dilation = field(default_factory=dict)

    name = "scl"

    @property
    def reach(self) -> int:
        return math.ceil(max((axis for axes in self.dilation.values() for axis in axes), default=0.0))

    def masked(self, scl: SclArray, inside: BoolArray | None = None) -> BoolArray:
        result = self.masked_by_class(scl)
        for value, (columns, rows) in self.dilation.items():
            seeds = scl == value
            if inside is not None:
                seeds &= inside
            if seeds.any():
                result |= _dilated(seeds, columns, rows)
        return result

    def masked_by_class(self, scl: SclArray) -> BoolArray:
        return _not_clear(scl, self.classes)

    def arguments(self) -> dict[str, str]:
        dilation = (f"{value}:{columns!r}:{rows!r}" for value, (columns, rows) in sorted(self.dilation.items()))
        return {"classes": " ".join(map(str, self.classes)), "dilation": " ".join(dilation)}

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, str]) -> Self:
        entries = (entry.split(":") for entry in arguments["dilation"].split())
        dilation = {int(value): (float(columns), float(rows)) for value, columns, rows in entries}
        return cls(tuple(map(int, arguments["classes"].split())), dilation)


register(SclMask.name, SclMask)


def _not_clear(scl: SclArray, classes: Collection[int]) -> BoolArray:
    clear = np.zeros(256, bool)
    clear[[value for value in SCL_CLASSES if value not in classes]] = True
    result: BoolArray = ~clear[np.clip(scl, 0, 255)]
    return result


def _dilated(seeds: BoolArray, columns: float, rows: float) -> BoolArray:
    """``seeds`` widened by an ellipse: row by row of the ellipse, a run of columns as a difference of running sums."""
    height, width = seeds.shape
    sums = np.zeros((height, width + 1), np.int32)
    np.cumsum(seeds, axis=1, out=sums[:, 1:])
    result = seeds.copy()
    column = np.arange(width)
    highest = min(int(rows), height - 1)
    for dy in range(-highest, highest + 1):
        reach = int(columns * np.sqrt(1.0 - (dy / rows) ** 2) + 1e-9) if rows > 0 else int(columns)
        run = sums[:, np.minimum(column + reach + 1, width)] > sums[:, np.maximum(column - reach, 0)]
        source = slice(max(-dy, 0), height - max(dy, 0))
        target = slice(max(dy, 0), height - max(-dy, 0))
        result[target] |= run[source]
    return result
