"""What to do about one composite: a pure function of what it would be made of, what is there, and what failed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from s2sr_core.composites.recorded_files import INTACT, FileState
from s2sr_core.composites.records import inputs_in, joint_scenes_in, key_of, scenes_in

Action = Literal["keep", "compute", "keep earlier", "no scene"]


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an earlier run left of a composite.

    Attributes
    ----------
    record: None if there is none that can be read.
    files: each raster that the run asks for, by file name, the composite first, compared with the record.
    """

    record: Mapping[str, Any] | None
    files: Mapping[str, FileState]

    @property
    def composite(self) -> FileState:
        return next(iter(self.files.values()))


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, and for what is not computed, why.

    ``keep``: what is there is what would be computed. ``keep earlier``: a scene that the earlier composite was made of
    cannot be used now, and one of fewer scenes must not replace it. ``no scene``: nothing to compute it from.
    """

    action: Action
    reason: str = ""


def decide(inputs: Mapping[str, Any], earlier: Earlier, failed: Collection[str], *, overwrite: bool) -> Decision:
    """Decide about a composite that would be made of ``inputs``.

    Parameters
    ----------
    inputs: as :func:`s2sr_core.composites.records.inputs_of` lists them.
    failed: names of products that could not be used in this run, wholly or in a band.
    overwrite: whether to compute also what is up to date.
    """
    if not overwrite and inputs["scenes"] and _is_up_to_date(inputs, earlier):
        return Decision("keep")
    if not overwrite and (lost := _lost_scenes(inputs, earlier, failed)):
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        reason = f"{lost[0]}{more} cannot be used now; the composite of an earlier run, made with it, is kept"
        return Decision("keep earlier", reason)
    if not inputs["scenes"]:
        reason = "no scene that can be used covers the cell" if failed else "no scene covers the cell"
        reason += "; the composite of an earlier run was removed" if earlier.composite is not FileState.MISSING else ""
        return Decision("no scene", reason)
    return Decision("compute")


def _is_up_to_date(inputs: Mapping[str, Any], earlier: Earlier) -> bool:
    """Whether every raster is there, holds what was written, and was made of these inputs."""
    record = earlier.record or {}
    recorded = inputs_in(record)
    if recorded is None or not record.get("key") == key_of(recorded) == key_of(inputs):
        return False
    return all(state in INTACT for state in earlier.files.values())


def _lost_scenes(inputs: Mapping[str, Any], earlier: Earlier, failed: Collection[str]) -> list[str]:
    """Products of the earlier composite that failed in this run, if nothing but the scenes changed.

    None if that composite does not hold what was written: there is nothing to keep.
    """
    before = inputs_in(earlier.record or {})
    if before is None or earlier.composite not in INTACT or _without_scenes(before) != _without_scenes(inputs):
        return []
    used, usable = ({"": scenes_in(each), **joint_scenes_in(each)} for each in (before, inputs))
    lost = {product for band, scenes in used.items() for product in scenes if product not in usable.get(band, {})}
    return sorted(product for product in lost if product in failed)


def _without_scenes(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs without the scenes, but with the names of the bands that are joint."""
    return {**inputs, "scenes": [], "joint": sorted(joint_scenes_in(inputs))}
