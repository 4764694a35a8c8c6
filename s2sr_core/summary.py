"""What a run did, in numbers and in one sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from s2sr_core.composite import Outcome
from s2sr_core.scene import Preparation
from s2sr_core.selection import Candidate


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts of a run.

    Attributes
    ----------
    cells, products, scenes: selected cells, products found, and those prepared to be used.
    failed_products: products that could not be used, wholly or in a band.
    written, kept, no_scene, failed: composites by what became of them.
    owned, valid: pixels of the cells, over all composites that are there, and those with a value.
    other_lattice: composites in the folder that remain of another lattice.
    """

    cells: int
    products: int
    scenes: int
    failed_products: int
    written: int
    kept: int
    no_scene: int
    failed: int
    owned: int
    valid: int
    other_lattice: int = 0

    @classmethod
    def of(
        cls,
        cells: int,
        candidates: Sequence[Candidate],
        preparations: Sequence[Preparation],
        outcomes: Sequence[Outcome],
    ) -> Self:
        by_status = Counter(outcome.status for outcome in outcomes)
        failed = {candidate.title for candidate in candidates if candidate.status == "failed"}
        failed |= {preparation.product for preparation in preparations if preparation.errors}
        return cls(
            cells=cells,
            products=len(candidates),
            scenes=sum(preparation.scene is not None for preparation in preparations),
            failed_products=len(failed),
            written=by_status["written"],
            kept=by_status["kept"],
            no_scene=by_status["no scene"],
            failed=by_status["failed"],
            owned=sum(outcome.owned for outcome in outcomes),
            valid=sum(outcome.valid for outcome in outcomes),
        )

    @property
    def failures(self) -> int:
        return self.failed_products + self.failed

    @property
    def nothing_worked(self) -> bool:
        """Whether there were failures and not one composite."""
        return self.failures > 0 and self.written + self.kept == 0

    @property
    def valid_share(self) -> float:
        return self.valid / self.owned if self.owned else 0.0

    def with_other_lattice(self, count: int) -> Self:
        return replace(self, other_lattice=count)

    def as_record(self) -> dict[str, Any]:
        return {**asdict(self), "valid_share": round(self.valid_share, 6)}

    def sentence(self) -> str:
        """``12 composites of 4 cells from 7 scenes: 8 written, 4 kept; 81.2 % valid pixels; 1 product failed``."""
        parts = [f"{self.written} written", f"{self.kept} kept"]
        if self.no_scene:
            parts.append(f"{self.no_scene} without a scene")
        if self.failed:
            parts.append(f"{self.failed} failed")
        total = counted(self.written + self.kept + self.no_scene + self.failed, "composite")
        of = f"{counted(self.cells, 'cell')} from {counted(self.scenes, 'scene')}"
        text = f"{total} of {of}: {', '.join(parts)}"
        if self.owned:
            text += f"; {100 * self.valid_share:.1f} % of their pixels are valid"
        if self.failed_products:
            text += f"; {counted(self.failed_products, 'product')} failed"
        if self.other_lattice:
            text += f"; of another lattice, {counted(self.other_lattice, 'composite')} in the folder"
        return text


def counted(number: int, noun: str) -> str:
    """``1 cell``, ``2 cells``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
