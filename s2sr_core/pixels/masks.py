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

#: Classes, besides values that are none, of which a pixel is never used for lying in a small patch: no data, defective.
_UNUSABLE = (0, 1)
#: Of the number of pixels in an area: pixels of 19.9999 m are pixels of 20 m.
_ROUNDING = 1e-3

Radii = Mapping[int, tuple[float, float]]
"""By class, half-axes of an ellipse: in columns and rows of the scene's grid."""


@dataclass(frozen=True)
class SclRule:
    """Mask pixels of some SCL classes: without specks and small patches, and with what lies within a distance of some.

    Attributes
    ----------
    classes: the masked ones; a value that is not one of :data:`SCL_CLASSES` is always masked.
    dilation, opening: metres by class.
    given_clear: values that mean clear in the masks that the run is given in a folder (of which
        :mod:`s2sr_core.scenes.given_masks` knows more), all others being masked as well; None if it is given none.
    min_size: square metres; connected masked pixels that cover less count as clear. 0: any size is masked.
    """

    classes: tuple[int, ...]
    dilation: Mapping[int, float] = field(default_factory=dict)
    opening: Mapping[int, float] = field(default_factory=dict)
    given_clear: tuple[int, ...] | None = None
    min_size: float = 0.0

    def on_grid(self, pixel_metres: tuple[float, float]) -> SclMask:
        width, height = pixel_metres
        dilation, opening = (
            {value: (metres / width, metres / height) for value, metres in of_class.items()}
            for of_class in (self.dilation, self.opening)
        )
        fewest = math.ceil(self.min_size / (width * height) * (1 - _ROUNDING))
        return SclMask(self.classes, dilation, opening, max(fewest, 1))

    def record(self) -> dict[str, Any]:
        def as_json(of_class: Mapping[int, float]) -> dict[str, float]:
            return {str(value): metres for value, metres in sorted(of_class.items())}

        record: dict[str, Any] = {
            "rule": SclMask.name,
            "classes": list(self.classes),
            "dilation": as_json(self.dilation),
        }
        if self.opening:
            record["opening"] = as_json(self.opening)
        if self.min_size:
            record["min_size"] = self.min_size
        if self.given_clear is not None:
            record["given_clear"] = list(self.given_clear)
        return record

    def in_words(self) -> str:
        classes = (f"{value} ({CLASS_NAMES[value]})" for value in self.classes)
        parts = [f"SCL {', '.join(classes)}" if self.classes else "no class of SCL"]

        def add(verb: str, of_class: Mapping[int, float]) -> None:
            if of_class:
                by = (f"{value} by {metres:g} m" for value, metres in sorted(of_class.items()))
                parts.append(f"{verb}: {', '.join(by)}")

        add("opened", self.opening)
        if self.min_size:
            parts.append(f"patches of at least {self.min_size:g} m²")
        add("dilated", self.dilation)
        if self.given_clear is not None:
            parts.append(f"masks of the user's: all but {', '.join(map(str, self.given_clear))}")
        return "; ".join(parts)


@dataclass(frozen=True)
class SclMask:
    """:class:`SclRule` on a grid.

    First come openings. A pixel of a class that ``opening`` names stays masked if it lies in an ellipse of those
    half-axes around the centre of some pixel of the scene, in which all pixels of the scene are of the class; otherwise
    it is a speck, and clear. Then the pixels that are still masked, of whatever class, form patches: those of the scene
    that are connected over sides and corners. A patch of fewer than ``fewest`` pixels is clear, but for its pixels of
    class 0 or 1 and those of no class, in which there is nothing to use. Then every pixel whose centre lies within an
    ellipse of the half-axes that ``dilation`` names for a class, around the centre of a pixel of that class which is
    neither a speck nor in a small patch, is masked as well.
    """

    classes: tuple[int, ...]
    dilation: Radii = field(default_factory=dict)
    opening: Radii = field(default_factory=dict)
    fewest: int = 1

    name = "scl"

    @property
    def reach(self) -> int:
        if self.fewest <= 1:
            return max((self._reach_of(value) for value in {*self.dilation, *self.opening}), default=0)
        # A patch of fewer pixels extends less far than that; one that extends as far has that many.
        opening, dilation = (
            max((math.ceil(max(axes)) for axes in of_class.values()), default=0)
            for of_class in (self.opening, self.dilation)
        )
        return 2 * opening + self.fewest - 1 + dilation

    def _reach_of(self, value: int) -> int:
        opening, dilation = (math.ceil(max(axes.get(value, (0.0,)))) for axes in (self.opening, self.dilation))
        return 2 * opening + dilation

    def masked(self, scl: SclArray, inside: BoolArray | None = None) -> BoolArray:
        result = self.masked_by_class(scl)
        seeds: dict[int, BoolArray] = {}
        for value in {*self.dilation, *self.opening}:
            of_class = scl == value
            if inside is not None:
                of_class &= inside
            if of_class.any():
                seeds[value] = of_class
        for value, (columns, rows) in self.opening.items():
            if value in seeds:
                result &= ~seeds[value]
                seeds[value] = _opened(seeds[value], inside, columns, rows)
                result |= seeds[value]
        if self.fewest > 1:
            from s2sr_core.pixels.patches import of_at_least  # numba takes seconds to import

            unusable = _not_clear(scl, _UNUSABLE)
            result = of_at_least(result if inside is None else result & inside, self.fewest) | (result & unusable)
            seeds = {value: of_class & result for value, of_class in seeds.items()}
        for value, (columns, rows) in self.dilation.items():
            if value in seeds and seeds[value].any():
                result |= _dilated(seeds[value], columns, rows)
        return result

    def masked_by_class(self, scl: SclArray) -> BoolArray:
        return _not_clear(scl, self.classes)

    def arguments(self) -> dict[str, str]:
        return {
            "classes": " ".join(map(str, self.classes)),
            "dilation": _text_of(self.dilation),
            "opening": _text_of(self.opening),
            "fewest": str(self.fewest),
        }

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, str]) -> Self:
        classes = tuple(map(int, arguments["classes"].split()))
        return cls(classes, _radii_in(arguments["dilation"]), _radii_in(arguments["opening"]), int(arguments["fewest"]))


register(SclMask.name, SclMask)


def _text_of(radii: Radii) -> str:
    return " ".join(f"{value}:{columns!r}:{rows!r}" for value, (columns, rows) in sorted(radii.items()))


def _radii_in(text: str) -> Radii:
    entries = (entry.split(":") for entry in text.split())
    return {int(value): (float(columns), float(rows)) for value, columns, rows in entries}


def _not_clear(scl: SclArray, classes: Collection[int]) -> BoolArray:
    clear = np.zeros(256, bool)
    clear[[value for value in SCL_CLASSES if value not in classes]] = True
    result: BoolArray = ~clear[np.clip(scl, 0, 255)]
    return result


def _opened(of_class: BoolArray, inside: BoolArray | None, columns: float, rows: float) -> BoolArray:
    """``of_class`` without what is narrower than an ellipse; what is not ``inside`` belongs to neither side."""
    others = ~of_class if inside is None else ~of_class & inside
    cores = of_class & ~_dilated(others, columns, rows)
    return of_class & _dilated(cores, columns, rows)


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
