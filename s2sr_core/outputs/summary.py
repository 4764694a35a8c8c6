"""What a run did, in numbers and in one sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from s2sr_core.composites.composite import Outcome
from s2sr_core.scenes.scene import Preparation
from s2sr_core.selection.candidates import Candidate
from s2sr_core.selection.downloads import Download


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts of a run.

    Attributes
    ----------
    cells, products, selected: selected cells, products found, and those of them that count.
    downloaded: bytes downloaded.
    scenes: products prepared, including those whose bands are not needed.
    not_needed, bytes_not_needed: scenes whose bands SCL masks completely, and the bytes not downloaded for them.
    failed_products: products that could not be used, wholly or in a band, and are not replaced.
    replaced_products: products that could not be used, and are replaced by others that show the same.
    periods: into which the time window is cut; 0 if it is not.
    written, kept, no_scene, failed: composites by their status.
    owned, valid: pixels of the cells, over all composites that exist, and those with a value.
    other_lattice: composites in the folder that remain of another lattice.
    """

    cells: int
    products: int
    selected: int
    failed_products: int
    downloaded: int = 0
    scenes: int = 0
    not_needed: int = 0
    bytes_not_needed: int = 0
    written: int = 0
    kept: int = 0
    no_scene: int = 0
    failed: int = 0
    owned: int = 0
    valid: int = 0
    other_lattice: int = 0
    replaced_products: int = 0
    periods: int = 0

    @classmethod
    def of(
        cls,
        cells: int,
        found: Sequence[Candidate[Any]],
        preparations: Sequence[Preparation] = (),
        outcomes: Sequence[Outcome] = (),
        downloads: Sequence[Download] = (),
        replaced: Collection[str] = (),
    ) -> Self:
        scenes = [preparation.scene for preparation in preparations if preparation.scene is not None]
        by_status = Counter(outcome.status for outcome in outcomes)
        candidates = [*found, *(download.candidate for download in downloads)]
        failed = {candidate.title for candidate in candidates if candidate.status == "failed"}
        failed |= {preparation.product for preparation in preparations if preparation.errors}
        return cls(
            cells=cells,
            products=len(found),
            selected=sum(candidate.status == "selected" for candidate in found),
            failed_products=len(failed.difference(replaced)),
            replaced_products=len(replaced),
            downloaded=sum(download.size for download in downloads),
            scenes=len(scenes),
            not_needed=sum(scene.is_not_needed for scene in scenes),
            bytes_not_needed=sum(scene.bytes_not_needed() for scene in scenes),
            written=by_status["written"],
            kept=by_status["kept"],
            no_scene=by_status["no scene"],
            failed=by_status["failed"],
            owned=sum(outcome.owned for outcome in outcomes),
            valid=sum(outcome.valid for outcome in outcomes),
            periods=len({outcome.period for outcome in outcomes if outcome.period}),
        )

    @property
    def composites(self) -> int:
        return self.written + self.kept + self.no_scene + self.failed

    @property
    def failures(self) -> int:
        return self.failed_products + self.failed

    @property
    def nothing_worked(self) -> bool:
        """Whether there were failures and not one composite or, if none was asked for, not one product."""
        worked = self.written + self.kept if self.composites else self.selected - self.failed_products
        return self.failures > 0 and worked <= 0

    @property
    def nothing_to_do(self) -> bool:
        """Whether every composite was up to date."""
        return self.kept > 0 and not (self.written or self.downloaded or self.failures)

    @property
    def valid_share(self) -> float:
        return self.valid / self.owned if self.owned else 0.0

    def with_other_lattice(self, count: int) -> Self:
        return replace(self, other_lattice=count)

    def as_record(self) -> dict[str, Any]:
        return {**asdict(self), "valid_share": round(self.valid_share, 6)}

    def sentence(self) -> str:
        """``12 composites of 4 cells from 7 scenes: 8 written, 4 kept; 81.2 % valid pixels; 1 product failed``."""
        text = f"{counted(self.products, 'product')} found, {self.selected} selected"
        if self.composites:
            parts = [f"{self.written} written", f"{self.kept} kept"]
            if self.no_scene:
                parts.append(f"{self.no_scene} without a scene")
            if self.failed:
                parts.append(f"{self.failed} failed")
            periods = f" in {counted(self.periods, 'period')}" if self.periods else ""
            of = f"{counted(self.cells, 'cell')}{periods} from {counted(self.scenes, 'scene')}"
            text = f"{counted(self.composites, 'composite')} of {of}: {', '.join(parts)}"
            if self.nothing_to_do:
                text = f"nothing to do: {text}"
        if self.owned:
            text += f"; {100 * self.valid_share:.1f} % of their pixels are valid"
        if self.downloaded:
            text += f"; {self.downloaded / 1e6:.1f} MB downloaded"
        if self.not_needed:
            saved = f"{self.bytes_not_needed / 1e6:.1f} MB saved"
            text += f"; {counted(self.not_needed, 'scene')} not needed (masked by SCL), {saved}"
        if self.failed_products:
            text += f"; {counted(self.failed_products, 'product')} failed"
        if self.replaced_products:
            text += f"; {counted(self.replaced_products, 'unusable product')} replaced by others"
        if self.other_lattice:
            text += f"; of another lattice, {counted(self.other_lattice, 'composite')} in the folder"
        return text


def counted(number: int, noun: str) -> str:
    """``1 cell``, ``2 cells``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
