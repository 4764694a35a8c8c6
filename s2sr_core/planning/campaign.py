"""A campaign: a large region cut into blocks of cells, each with a run of its own, and a ledger of their states."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from s2sr_core import __version__
from s2sr_core.cells.gridcell_csv import write_gridcells
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.errors import InputError
from s2sr_core.files import read_record, write_record, written_atomically
from s2sr_core.outputs.summary import counted
from s2sr_core.parameters import RunParameters
from s2sr_core.planning.plan import choose_gridcells
from s2sr_core.workspace import Workspace

BlockState = Literal["waiting", "running", "done", "failed"]
#: Parameters that each block's run is given whatever the defaults of its deployment are: the mosaic depends on them.
_ALWAYS = frozenset({"bbox", "start", "end", "every", "bands", "resolution", "crs", "tr", "tap"})


class CampaignParameters(BaseModel):
    """Parameters of a campaign besides those of its runs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cells_per_block: Annotated[
        int, Field(ge=1, le=10_000, description="The most gridcells of one run of the pipeline.")
    ] = 64
    blocks_at_once: Annotated[int, Field(ge=1, le=100, description="Runs of the pipeline at the same time.")] = 2
    deployment: Annotated[
        str,
        Field(
            pattern=r"^[^/]+/[^/]+$",
            description="Deployment that runs a block: flow/name. Parameters that the campaign leaves at their "
            "defaults take the values of that deployment.",
        ),
    ] = "s2sr-pipeline/local"


def check_for_mosaic(parameters: RunParameters) -> None:
    """Check that the composites of a campaign can be mosaicked.

    Raises
    ------
    InputError
        If the cells would not share a lattice, or there would be no composites.
    """
    if not parameters.tap:
        raise InputError("tap", "false", "gives each cell its own lattice, so no mosaic is possible", "switch it on")
    if parameters.stage in ("query", "download"):
        raise InputError("stage", parameters.stage, "makes no composites to mosaic", "use all or composite")


@dataclass(frozen=True)
class Block:
    """Cells that one run composites; its name is the id of its first cell."""

    cells: tuple[Gridcell, ...]

    @property
    def name(self) -> str:
        return self.cells[0].cell_id

    def work_dir(self, campaign: Workspace) -> Path:
        """The folder of its run."""
        return campaign.work_dir / "blocks" / self.name


def cut_into_blocks(cells: Sequence[Gridcell], cells_per_block: int) -> list[Block]:
    """Blocks of neighbouring cells: rows of blocks from south to north, and blocks from west to east in each.

    Neighbours share scenes, so a compact block downloads and decodes less than a long one.
    """
    blocks = math.ceil(len(cells) / cells_per_block)
    rows = math.ceil(math.sqrt(blocks))
    in_row = math.ceil(blocks / rows) * cells_per_block
    northward = sorted(cells, key=lambda cell: (cell.bounds[1], cell.bounds[0], cell.cell_id))
    made = []
    for first in range(0, len(cells), in_row):
        row = sorted(northward[first : first + in_row], key=lambda cell: (cell.bounds[0], cell.bounds[1]))
        made += [Block(tuple(row[start : start + cells_per_block])) for start in range(0, len(row), cells_per_block)]
    return made


@dataclass(frozen=True, slots=True)
class Entry:
    """What the ledger says of a block.

    Attributes
    ----------
    key: digest of the parameters and cells of its run; another key is another run.
    attempt: how many runs it has had, this one included.
    flow_run_id: its last run; empty before the first.
    message: how its last run ended; empty until then.
    changed: when the entry was written, UTC.
    """

    block: str
    key: str
    state: BlockState = "waiting"
    attempt: int = 0
    flow_run_id: str = ""
    message: str = ""
    changed: str = ""


_ENTRY = TypeAdapter(Entry)


class Campaign:
    """The blocks of a region and their ledger: one record per block in ``indices/blocks/``."""

    def __init__(self, parameters: RunParameters, cells_per_block: int) -> None:
        self.parameters = parameters
        self.workspace = Workspace(parameters.work_dir)
        self._cells_per_block = cells_per_block

    @cached_property
    def blocks(self) -> list[Block]:
        return cut_into_blocks(choose_gridcells(self.parameters), self._cells_per_block)

    def ledger(self) -> dict[str, Entry]:
        """The ledger, by block: blocks that are done or running stay so; those that failed or changed wait again.

        The cells of each block are written for its run to read.
        """
        entries = {}
        for block in self.blocks:
            with written_atomically(self._csv(block.name)) as path:
                write_gridcells(block.cells, path)
            entry = self._read(block.name)
            repeat = entry.state == "failed" or (entry.state == "done" and self.parameters.overwrite)
            if entry.state != "running" and (repeat or not self.is_current(entry)):
                entry = self.as_waiting(entry)
            entries[block.name] = entry
        return entries

    def _read(self, name: str) -> Entry:
        record = read_record(self._record(name)) or {}
        try:
            entry = _ENTRY.validate_json(json.dumps(record), strict=True)
        except ValidationError:
            return Entry(name, self._keys[name])
        return entry if entry.block == name else Entry(name, self._keys[name])

    def is_current(self, entry: Entry) -> bool:
        """Whether the entry's run has the parameters and cells that this campaign gives the block."""
        return entry.key == self._keys[entry.block]

    def as_waiting(self, entry: Entry) -> Entry:
        """The block's entry for a run that has not started."""
        return replace(entry, key=self._keys[entry.block], state="waiting", message="")

    def record_state(self, entry: Entry, state: BlockState, *, flow_run_id: str = "", message: str = "") -> Entry:
        """Write the state of a block; returns its entry."""
        entry = replace(
            entry,
            state=state,
            flow_run_id=flow_run_id or entry.flow_run_id,
            message=message,
            changed=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        write_record(self._record(entry.block), asdict(entry))
        return entry

    def next_attempt(self, entry: Entry) -> Entry:
        """Record that a run of the block is about to be started."""
        return self.record_state(replace(entry, attempt=entry.attempt + 1, flow_run_id=""), "running")

    def idempotency_key(self, entry: Entry) -> str:
        """The key of this attempt: started twice under it, there is still one run."""
        place = hashlib.sha256(str(self.workspace.work_dir).encode()).hexdigest()[:12]
        return f"s2sr-campaign-{place}-{entry.block}-{entry.attempt}-{entry.key[:12]}"

    def block_parameters(self, block: Block) -> dict[str, Any]:
        """The parameters of a block's run, as plain JSON."""
        given: dict[str, Any] = json.loads(self.parameters.model_dump_json(exclude_defaults=True))
        always: dict[str, Any] = json.loads(self.parameters.model_dump_json(include=set(_ALWAYS)))
        own = {"grid_csv": str(self._csv(block.name)), "work_dir": str(block.work_dir(self.workspace))}
        return given | always | own

    @cached_property
    def _keys(self) -> dict[str, str]:
        return {block.name: self._key(block) for block in self.blocks}

    def _key(self, block: Block) -> str:
        cells = [(cell.cell_id, cell.wkt) for cell in block.cells]
        given = self.block_parameters(block)
        parameters = {name: value for name, value in given.items() if name not in ("grid_csv", "work_dir")}
        text = json.dumps({"software": __version__, "cells": cells, "parameters": parameters}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def _record(self, name: str) -> Path:
        return self.workspace.indices / "blocks" / f"{name}.json"

    def _csv(self, name: str) -> Path:
        return self.workspace.indices / "blocks" / f"{name}.csv"


@dataclass(frozen=True, slots=True)
class CampaignSummary:
    """Blocks of a campaign by state.

    Attributes
    ----------
    started: how many runs this campaign run started.
    before: how many blocks were done when it began.
    again: how many of the runs it started were not the first of their block.
    """

    cells: int
    done: int
    failed: int
    started: int
    before: int = 0
    again: int = 0

    @classmethod
    def of(cls, campaign: Campaign, entries: Iterable[Entry], started: int, *, before: int = 0, again: int = 0) -> Self:
        states = Counter(entry.state for entry in entries)
        cells = sum(len(block.cells) for block in campaign.blocks)
        return cls(cells, states["done"], states["failed"], started, before, again)

    def sentence(self) -> str:
        text = f"{counted(self.done + self.failed, 'block')} of {counted(self.cells, 'cell')}: {self.done} done"
        if self.failed:
            text += f", {self.failed} failed"
        if self.started and self.before:
            text += f"; {self.before} {'was' if self.before == 1 else 'were'} done before"
        if self.again:
            text += f"; {counted(self.again, 'block')} ran again"
        return text if self.started or self.failed else f"nothing to do: {text}"


#: Colours of the map, in the order of its legend.
COLOURS: Mapping[BlockState, str] = {
    "waiting": "#808080",
    "running": "#f0be28",
    "done": "#32a05a",
    "failed": "#d2323c",
}
