"""What every step of a run needs: its parameters, its folder, its rules, and the number of the worker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from s2sr_core.parameters import RunParameters
from s2sr_core.pixels.masks import MaskRule, SclRule
from s2sr_core.pixels.statistics import Statistic, statistic_of
from s2sr_core.products.names import ProductName
from s2sr_core.workspace import Workspace


@dataclass(frozen=True, slots=True)
class RunContext:
    """A run as one process sees it.

    Attributes
    ----------
    parameters: of the run.
    rank: number of this worker, from 1; 0 is the process of the flow.
    apart: as in :class:`Workspace`.
    """

    parameters: RunParameters
    rank: int = 0
    apart: Path | None = None

    @property
    def workspace(self) -> Workspace:
        """The folder of the run."""
        return Workspace(self.parameters.work_dir, self.apart)

    @property
    def mask(self) -> MaskRule:
        """Which pixels of a scene do not count."""
        parameters = self.parameters
        given_clear = None if parameters.mask_dir is None else tuple(parameters.mask_clear)
        return SclRule(
            tuple(parameters.scl_mask),
            parameters.scl_dilation,
            parameters.scl_opening,
            given_clear,
            parameters.scl_min_size,
        )

    @property
    def statistics(self) -> tuple[Statistic, ...]:
        """What is computed for each band; a composite and its record have the name of the first."""
        least = self.parameters.min_count
        return tuple(statistic_of(name).requiring(least) for name in self.parameters.statistic_names)

    def observation(self, name: ProductName) -> str:
        """Of which observation a product is a part: products that name the same one count once at a pixel."""
        return name.datatake if self.parameters.group_by == "datatake" else str(name)

    @property
    def is_joint(self) -> bool:
        """Whether a statistic is computed of all bands together."""
        return any(statistic.joint for statistic in self.statistics)
