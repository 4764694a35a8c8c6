"""The products of one observation on their way through a run: who is next, who is used, and how each ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from s2sr_core.products.safe import Product
from s2sr_core.scenes.scene import Preparation, Scene
from s2sr_core.selection.candidates import Candidate, Status
from s2sr_core.selection.downloads import Download
from s2sr_core.selection.observations import Contender, Observation, Standing
from s2sr_core.selection.repetitions import repetition


@dataclass(frozen=True, slots=True)
class Result:
    """How a product was judged in the end.

    Attributes
    ----------
    found: as the source gave it.
    candidate: as it is on disk. One that failed in phase 1 is ``selected``, and its preparation says what is wrong.
    preparation: what phase 1 made of it, None if nothing.
    is_replaced: whether it has failed, and others are used instead.
    """

    found: Candidate[Any]
    candidate: Candidate[Any]
    preparation: Preparation | None = None
    is_replaced: bool = False

    @property
    def status(self) -> Status:
        """For the counts of a run, in which a selected product may have failed; a replaced one does not count."""
        if self.is_replaced:
            return "failed"
        return self.found.status if self.candidate.status == "failed" else self.candidate.status


class Line:
    """An observation whose products are downloaded one after the other, as far as they are needed, or are all on disk.

    What is known of each product is kept by its index in the observation, the preferred one first.
    """

    def __init__(self, observation: Observation, *, fetches: bool) -> None:
        self.observation = observation
        self._candidates = list(observation.candidates)
        self._fetches = fetches
        on_disk = {} if fetches else dict(enumerate(self._candidates))
        self._products: dict[int, Product] = {n: each.product for n, each in on_disk.items() if each.product}
        self._asked = set(on_disk)
        self._failed: dict[int, Preparation | None] = {
            n: None for n, each in enumerate(self._candidates) if each.status == "failed"
        }
        self._set_aside: set[int] = set()
        self._substitutes: set[int] = set()
        self._notes: dict[int, str] = {}
        self._standings: list[Standing] | None = None

    # ---------------------------------------------------------------------------------------------- what comes next

    @property
    def is_alone(self) -> bool:
        """Whether there is one product only, so that nothing can replace or repeat it."""
        return len(self._candidates) == 1

    def next(self) -> list[int]:
        """The products to fetch now: at first those that count as far as footprints tell, then one after the other."""
        if not self._asked:
            first = [n for n, candidate in enumerate(self._candidates) if candidate.status == "selected"]
            if first:
                return first
        standings = self._standings
        waiting = [n for n in range(len(self._candidates)) if n not in self._asked and n not in self._failed]
        return [n for n in waiting if standings is None or standings[n].status == "unread"][:1]

    @property
    def must_be_looked_at(self) -> bool:
        """Whether there is something on disk that SCL has not decided about."""
        return self._standings is None and bool(self._open())

    def needs_bands(self) -> list[int]:
        """The products whose bands are needed."""
        standings = self._standings
        return [n for n in self._chosen() if standings is None or not _is_not_needed(standings[n])]

    @property
    def must_be_prepared(self) -> bool:
        return bool(self._set_aside or self.needs_bands())

    def description(self, index: int) -> Any:
        """A product as its source describes it."""
        return self.observation.candidates[index].product

    def occupancy(self, index: int) -> Path | None:
        """The file that says which pixels of a product count, once SCL has decided it."""
        scene = None if self._standings is None else self._standings[index].scene
        return None if scene is None else scene.occupancy

    def described(self) -> list[Any]:
        """All products that may be used, as their source describes them."""
        return [candidate.product for candidate in self.observation.candidates if candidate.product is not None]

    def contenders(self, *, bands: bool) -> list[Contender]:
        """All products as phase 1 takes them; with ``bands`` only those are there that are used or lack bands."""
        there = [*self._chosen(), *self._set_aside] if bands else self._open()
        return [self._contender(n, n in there, bands) for n in range(len(self._candidates))]

    def _contender(self, index: int, is_there: bool, bands: bool) -> Contender:
        described, standing = self.description(index), None if self._standings is None else self._standings[index]
        return Contender(
            title=self._candidates[index].title,
            footprint=None if described is None else described.footprint,
            product=self._products[index] if is_there else None,
            has_failed=index in self._failed or (index in self._set_aside and not bands),
            scene=None if standing is None else standing.scene,
        )

    def substitutes(self) -> tuple[Contender, ...]:
        """All products, for a composite that cannot use one of them, with the scenes of those that are used."""
        there = self._whole()
        return tuple(
            replace(
                self._contender(n, n in there, bands=True),
                scene=None if self._standings is None or n not in there else self._standings[n].scene,
            )
            for n in range(len(self._candidates))
        )

    def next_substitute(self) -> list[int]:
        """The next product to fetch for such a composite, if its bands were not asked for."""
        there = (*self._whole(), *self._failed)
        return [n for n in range(len(self._candidates)) if n not in there][:1]

    def fetched_substitute(self, index: int, download: Download) -> None:
        """Take note of a download for such a composite: what else is known of the products stays."""
        self._asked.add(index)
        self._substitutes.add(index)
        self._candidates[index] = download.candidate
        if (product := download.candidate.product) is None:
            self._failed[index] = None
        else:
            self._products[index] = product

    def is_used_instead(self, path: Path, note: str) -> None:
        """Take note of what the product at ``path`` is used for."""
        for n in self._products:
            if self._products[n].path == path:
                self._notes[n] = note

    def _whole(self) -> list[int]:
        """What is on disk, as far as can be known with its bands."""
        there = [n for n in sorted(self._products) if n not in self._failed]
        asked = {*self._chosen(), *self._set_aside, *self._substitutes}
        return [n for n in there if n in asked] if self._fetches else there

    def _open(self) -> list[int]:
        """What is on disk and may be used."""
        return [n for n in sorted(self._products) if n not in self._failed and n not in self._set_aside]

    def _chosen(self) -> list[int]:
        standings = self._standings
        return [n for n in self._open() if standings is None or standings[n].status == "used"]

    # ------------------------------------------------------------------------------------------------ what came of it

    def fetched(self, index: int, download: Download) -> bool:
        """Take note of a download; gives whether it worked."""
        self._asked.add(index)
        self._candidates[index] = download.candidate
        if (product := download.candidate.product) is None:
            self._failed[index] = None
            self._standings = None
            return False
        if index not in self._products:
            self._standings = None
        self._products[index] = product
        return True

    def looked_at(self, standings: Sequence[Standing]) -> None:
        """Take note of what SCL decides."""
        self._standings = list(standings)
        for n in self._open():
            if standings[n].status == "failed":
                self._failed[n] = standings[n].preparation

    def prepared(self, standings: Sequence[Standing]) -> bool:
        """Take note of phase 1; gives whether it is the last word.

        It is not if bands of a product cannot be used, and another product may take its place.
        """
        chosen, before = self._chosen(), self._standings
        others = [n for n in range(len(self._candidates)) if n not in (*chosen, *self._set_aside, *self._failed)]
        flawed = [n for n in chosen if (done := standings[n].preparation) is None or done.errors]
        if self._fetches and flawed and others:
            self._set_aside.update(flawed)
            self._standings = None
            return False
        self._standings = list(standings)
        if self._fetches and before is not None:
            for n in others:
                self._standings[n] = before[n]
        return True

    # ------------------------------------------------------------------------------------------------------ at the end

    @property
    def scenes(self) -> list[Scene]:
        """The scenes of the products that are used."""
        return [standing.scene for standing in self._standings or () if standing.scene is not None]

    def results(self) -> list[Result]:
        """Of each product that is on disk, or was asked for in vain."""
        return [
            Result(self.observation.candidates[n], self._judged(n), self._preparation(n), bool(self._replaced_by(n)))
            for n in sorted(self._asked)
        ]

    def failed(self) -> list[str]:
        """Names of products that could not be used, wholly or in a band, and are not replaced."""
        return [self._candidates[n].title for n in sorted(self._lost()) if not self._replaced_by(n)]

    def replaced(self) -> list[str]:
        """Names of products that could not be used, and are replaced by others."""
        return [self._candidates[n].title for n in sorted(self._lost()) if self._replaced_by(n)]

    def _lost(self) -> set[int]:
        flawed = {
            n for n, done in enumerate(map(self._preparation, range(len(self._candidates)))) if done and done.errors
        }
        return flawed | set(self._failed)

    def _replaced_by(self, index: int) -> tuple[int, ...]:
        standing = None if self._standings is None else self._standings[index]
        return standing.by if standing is not None and standing.status == "failed" else ()

    def _preparation(self, index: int) -> Preparation | None:
        standing = None if self._standings is None else self._standings[index].preparation
        return standing or self._failed.get(index)

    def _judged(self, index: int) -> Candidate[Any]:
        judged = self._judged_by_scl(index)
        reason = "; ".join(filter(None, (judged.reason, self._notes.get(index, ""))))
        return replace(judged, reason=reason)

    def _judged_by_scl(self, index: int) -> Candidate[Any]:
        candidate, found = self._candidates[index], self.observation.candidates[index]
        standing = Standing("unread") if self._standings is None else self._standings[index]
        if index in self._failed or standing.status == "failed":
            return candidate if candidate.status == "failed" else replace(candidate, status="selected", reason="")
        if standing.status == "used":
            return replace(candidate, status="selected", reason=self._replaces(index))
        if standing.status == "repeated":
            preferred = [self._candidates[n] for n in standing.by]
            if any(each.title == candidate.title for each in preferred):
                is_said = found.copy and preferred[0].copy == 0
                reason = found.reason if is_said else f"the same product lies at {preferred[0].path}"
                return replace(candidate, status="duplicate", reason=reason)
            name, *others = (each.name for each in (candidate, *preferred) if each.name is not None)
            status, reason = repetition(name, others)
            return replace(candidate, status=status, reason=reason)
        return replace(candidate, status=found.status, reason=found.reason)

    def _replaces(self, index: int) -> str:
        """Which products ``index`` is used instead of, as a reason; empty if none."""
        lost = [self._candidates[n] for n in sorted(self._lost()) if index in self._replaced_by(n)]
        own = self._candidates[index].title
        names = [f"the copy at {each.path}" if each.title == own else each.title for each in lost]
        return f"is used instead of {' and '.join(names)}, which cannot be used" if names else ""


def _is_not_needed(standing: Standing) -> bool:
    scene = standing.scene
    return scene is not None and (scene.is_not_needed or not scene.cells)
