"""Products of one observation: which of them are used, decided by their images.

An observation is a sensing time and a tile. Its products are reprocessed duplicates, twins, or parts from several
downlink stations; of a product there may be several copies. They are looked at in the order of preference, until
nothing more can be had from the others: one that cannot be used is replaced by the next, and one whose SCL holds data
only where those before it have some is a repetition. Footprints are a first guess (:mod:`.repetitions`): they spare
looking at products that say themselves that they show no more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from shapely import MultiPolygon, Polygon

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.errors import ProductError, Step
from s2sr_core.garbage import seldom_collected
from s2sr_core.products.bands import SCL
from s2sr_core.products.safe import Product
from s2sr_core.run_context import RunContext
from s2sr_core.scenes.coverage import Coverage, hold, leave_no_gap
from s2sr_core.scenes.prepare import classify_product, prepare_product
from s2sr_core.scenes.scene import Preparation, Scene
from s2sr_core.selection.candidates import Candidate
from s2sr_core.selection.near_cells import CellsNear
from s2sr_core.selection.repetitions import observation_key, preference

Outline = Polygon | MultiPolygon


# ------------------------------------------------------------------------------------------------------ what there is


@dataclass(frozen=True, slots=True)
class Observation:
    """The products of one sensing time and tile, the preferred one first; with ``keep_duplicates``, of one name.

    Attributes
    ----------
    key: sensing time and tile, ``20190701T214529_T05WPS``; or the product's name.
    candidates: those that count or repeat others as far as footprints tell, and those that have failed.
    """

    key: str
    candidates: tuple[Candidate[Any], ...]

    @property
    def tile(self) -> str:
        """The tile in which its images lie."""
        return next(candidate.name.tile for candidate in self.candidates if candidate.name is not None)

    @property
    def sensing_time(self) -> datetime:
        """When it was made, UTC."""
        return next(candidate.name.sensing_time for candidate in self.candidates if candidate.name is not None)

    @property
    def footprints(self) -> list[Outline | None]:
        """Where its products say that they are (EPSG:4326), None if one does not say it."""
        return [candidate.product.footprint for candidate in self.candidates if candidate.product is not None]


@seldom_collected()
def observations_of(candidates: Iterable[Candidate[Any]], *, keep_duplicates: bool = False) -> list[Observation]:
    """The observations of which a product can be looked at, by key.

    With ``keep_duplicates`` each product is one by itself, and only its copies take its place.
    """
    groups: defaultdict[str, list[Candidate[Any]]] = defaultdict(list)
    for candidate in candidates:
        in_line = candidate.status in ("selected", "duplicate", "twin") and candidate.product is not None
        if candidate.name is not None and (in_line or candidate.status == "failed"):
            groups[candidate.title if keep_duplicates else observation_key(candidate)].append(candidate)
    return [
        Observation(key, tuple(sorted(group, key=_preference, reverse=True)))
        for key, group in sorted(groups.items())
        if any(candidate.product is not None for candidate in group)
    ]


def _preference(candidate: Candidate[Any]) -> tuple[Any, ...]:
    """Sort key, the preferred one last; of copies of one product, the more complete one is preferred."""
    return (*preference(candidate.name), -candidate.copy) if candidate.name is not None else ()


# --------------------------------------------------------------------------------------------------- what is looked at


@dataclass(frozen=True, slots=True)
class Contender:
    """A product in the line of its observation, as phase 1 takes it.

    Attributes
    ----------
    title: its name.
    footprint: what it says of itself, None if it says nothing.
    product: None if it is not on disk, or has failed.
    has_failed: whether it was found before that it cannot be used.
    scene: what :func:`classify_product` made of it, if it did.
    """

    title: str
    footprint: Outline | None
    product: Product | None = None
    has_failed: bool = False
    scene: Scene | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How a contender ended.

    Attributes
    ----------
    status: ``used``; ``repeated``: those used show all that it shows; ``failed``; ``unread``: it is not on disk, and
        may show more than those used.
    by: for ``repeated`` and ``failed`` ones, the indices of those that are used instead and show all of it; none if a
        failed one is not replaced.
    preparation: None if it was not looked at.
    """

    status: Literal["used", "repeated", "failed", "unread"]
    by: tuple[int, ...] = ()
    preparation: Preparation | None = None

    @property
    def scene(self) -> Scene | None:
        return None if self.preparation is None or self.status != "used" else self.preparation.scene


def lost(contender: Contender, reason: str) -> Standing:
    """How a contender ended whose task was lost, with all others of its unit."""
    if contender.product is None:
        return Standing("failed" if contender.has_failed else "unread")
    error = ProductError(contender.title, reason, step=Step.PREPARE)
    return Standing("failed", (), Preparation(contender.title, None, (error,)))


@dataclass(frozen=True, slots=True)
class _Seen:
    """A contender whose SCL was looked at; ``coverage`` is None if there is nothing to compare it with."""

    index: int
    preparation: Preparation
    coverage: Coverage | None


def stand(
    context: RunContext, contenders: Sequence[Contender], cells: Sequence[Gridcell], *, bands: bool = True
) -> list[Standing]:
    """Phase 1 of one observation: which of ``contenders``, the preferred one first, are used; their scenes.

    Without ``bands`` SCL alone is looked at. A product of which some bands cannot be used is used only if no other
    shows what it shows. The result does not depend on ``cells``, except for the scenes.
    """
    comparison = _Comparison(context, contenders, cells, bands)
    comparison.look()
    comparison.fall_back()
    return comparison.standings()


class _Comparison:
    """The contenders of one observation while they are looked at."""

    def __init__(
        self, context: RunContext, contenders: Sequence[Contender], cells: Sequence[Gridcell], bands: bool
    ) -> None:
        self._context, self._contenders, self._cells, self._bands = context, contenders, cells, bands
        self._used: list[_Seen] = []
        self._flawed: list[_Seen] = []
        self._failed: dict[int, Preparation] = {}
        self._standings: dict[int, Standing] = {}

    def look(self) -> None:
        """Take one after the other that may show more than those before it."""
        for index, contender in enumerate(self._contenders):
            if contender.product is None:
                continue
            if by := self._instead_of(contender):
                self._standings[index] = Standing("repeated", by)
                continue
            seen = self._look_at(index, contender.product)
            if seen.preparation.scene is None:
                self._failed[index] = seen.preparation
            elif by := self._covering(seen.coverage):
                self._standings[index] = Standing("repeated", by)
            else:
                self._prepare(seen, contender.product)

    def fall_back(self) -> None:
        """Of products that lack bands, use those that show what no whole one shows: the more complete ones first."""
        for seen in sorted(self._flawed, key=lambda seen: (len(seen.preparation.errors), seen.index)):
            by = self._covering(seen.coverage)
            preparation = seen.preparation if by else self._prepared_again(seen)
            if preparation.scene is None or by:
                self._standings[seen.index] = Standing("failed", by, replace(preparation, scene=None))
            else:
                self._use(replace(seen, preparation=preparation))

    def _prepared_again(self, seen: _Seen) -> Preparation:
        """A product that nothing replaces: an image that can be decoded in part is used where that part lies.

        The files of another copy, which may have been looked at since, have the same names as those of this one.
        """
        contender, later = self._contenders[seen.index], self._contenders[seen.index + 1 :]
        is_copied = any(other.title == contender.title for other in later)
        is_damaged = any(error.step == Step.DECODE for error in seen.preparation.errors)
        if contender.product is None or not (is_copied or is_damaged):
            return seen.preparation
        scene = self._classify(contender.product).scene
        return prepare_product(self._context, contender.product, self._cells, scene)

    def standings(self) -> list[Standing]:
        """How each ended, in their order."""
        for index, contender in enumerate(self._contenders):
            if index in self._standings:
                continue
            if contender.has_failed or index in self._failed:
                standing = Standing("failed", self._replacing(contender), self._failed.get(index))
            else:
                by = self._instead_of(contender)
                standing = Standing("repeated" if by else "unread", by)
            self._standings[index] = standing
        return [self._standings[index] for index in range(len(self._contenders))]

    # ------------------------------------------------------------------------------------------- one contender

    def _look_at(self, index: int, product: Product) -> _Seen:
        """SCL, and what it covers if there are others."""
        scene, name = self._contenders[index].scene, str(product.name)
        preparation = self._classify(product) if scene is None else Preparation(name, scene, ())
        covered = None
        if preparation.scene is not None and len(self._contenders) > 1:
            try:
                covered = Coverage.of(preparation.scene)
            except RuntimeError as error:
                reason = " ".join(str(error).split())
                preparation = Preparation(name, None, (ProductError(name, reason, step=Step.OPEN, band=SCL),))
        return _Seen(index, preparation, covered)

    def _classify(self, product: Product) -> Preparation:
        near = CellsNear(self._cells).footprint(product.footprint)
        doubtful = frozenset(self._cells).difference(near)
        return classify_product(self._context, product, self._cells, doubtful)

    def _prepare(self, seen: _Seen, product: Product) -> None:
        preparation = seen.preparation
        if self._bands and not preparation.errors:
            has_substitute = seen.index + 1 < len(self._contenders)
            preparation = prepare_product(
                self._context, product, self._cells, preparation.scene, has_substitute=has_substitute
            )
        seen = replace(seen, preparation=preparation)
        if preparation.errors:
            self._flawed.append(seen)
        else:
            self._use(seen)

    def _use(self, seen: _Seen) -> None:
        if (scene := seen.preparation.scene) is not None and len(self._contenders) > 1:
            seen = replace(seen, preparation=replace(seen.preparation, scene=replace(scene, has_others=True)))
        self._used.append(seen)
        self._standings[seen.index] = Standing("used", (), seen.preparation)

    # --------------------------------------------------------------------------------------------- compared

    def _instead_of(self, contender: Contender) -> tuple[int, ...]:
        """The used ones because of which ``contender`` need not be looked at; none if it may show more."""
        copies = [seen.index for seen in self._used if self._contenders[seen.index].title == contender.title]
        if copies:
            return tuple(copies)
        return self._replacing(contender) if leave_no_gap(_coverages(self._used)) else ()

    def _replacing(self, contender: Contender) -> tuple[int, ...]:
        """The used ones that show all that ``contender`` says it shows or, if it does not say it, leave no gap."""
        footprint = contender.footprint
        return self._fewest(leave_no_gap if footprint is None else lambda some: hold(footprint, some))

    def _covering(self, covered: Coverage | None) -> tuple[int, ...]:
        """The used ones that have data wherever a contender has."""
        return () if covered is None else self._fewest(covered.is_within)

    def _fewest(self, suffice: Callable[[Sequence[Coverage]], bool]) -> tuple[int, ...]:
        """The first of the used ones that suffices alone, or the first ones that suffice together."""
        alone = [self._used[number : number + 1] for number in range(len(self._used))]
        together = [self._used[:count] for count in range(2, len(self._used) + 1)]
        found = next((some for some in (*alone, *together) if suffice(_coverages(some))), [])
        return tuple(seen.index for seen in found)


def _coverages(some: Sequence[_Seen]) -> list[Coverage]:
    return [seen.coverage for seen in some if seen.coverage is not None]
