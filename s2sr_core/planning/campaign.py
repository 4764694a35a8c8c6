"""A campaign: a large region cut into blocks of cells, each a run of its own, and a ledger of what became of each."""

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
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field

from s2sr_core import __version__
from s2sr_core.cells.gridcell_csv import write_gridcells
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.errors import InputError
from s2sr_core.files import read_record, write_record, written_beside
from s2sr_core.outputs.summary import counted
from s2sr_core.parameters import RunParameters
from s2sr_core.planning.plan import choose_gridcells
from s2sr_core.workspace import Workspace

BlockState = Literal["waiting", "running", "done", "failed"]
#: What each block's run is told whatever the defaults of its deployment are, because the mosaic rests on it.
_ALWAYS = frozenset({"bbox", "start", "end", "bands", "tr", "tap"})


class CampaignParameters(BaseModel):
    """What a campaign asks besides the parameters of its runs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cells_per_block: Annotated[
        int, Field(ge=1, le=10_000, description="Gridcells of one run of the pipeline, at most.")
    ] = 64
    blocks_at_once: Annotated[int, Field(ge=1, le=100, description="Runs of the pipeline at the same time.")] = 2
    deployment: Annotated[
        str,
        Field(
            pattern=r"^[^/]+/[^/]+$",
            description="Deployment that runs a block: flow/name. Parameters that the campaign leaves at their "
            "defaults are as that deployment has them.",
        ),
    ] = "s2sr-pipeline/local"


def check(parameters: RunParameters) -> None:
    """Refuse what no mosaic could be made of.

    Raises
    ------
    InputError
        Where the cells would share no lattice, or there would be no composites.
    """
    if not parameters.tap:
        raise InputError("tap", "false", "gives each cell a lattice of its own, and no mosaic", "switch it on")
    if parameters.stage in ("query", "download"):
        raise InputError("stage", parameters.stage, "makes no composites to mosaic", "take all or composite")


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


def cut(cells: Sequence[Gridcell], cells_per_block: int) -> list[Block]:
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
    key: digest of what its run is told; another key, another run.
    attempt: how many runs it had, this one included.
    flow_run_id: its last run; empty before the first.
    """

    block: str
    key: str
    state: BlockState = "waiting"
    attempt: int = 0
    flow_run_id: str = ""
    message: str = ""
    changed: str = ""


class Campaign:
    """The blocks of a region and their ledger, one record a block in ``indices/blocks/``."""

    def __init__(self, parameters: RunParameters, cells_per_block: int) -> None:
        self.parameters = parameters
        self.workspace = Workspace(parameters.work_dir)
        self._cells_per_block = cells_per_block

    @cached_property
    def blocks(self) -> list[Block]:
        return cut(choose_gridcells(self.parameters), self._cells_per_block)

    def ledger(self) -> dict[str, Entry]:
        """The ledger as it stands, by block: what is done or running stays; what failed or changed waits again.

        Each block's cells are written for its run to read.
        """
        entries = {}
        for block in self.blocks:
            with written_beside(self._csv(block.name)) as path:
                write_gridcells(block.cells, path)
            entry = self._read(block.name)
            over_again = entry.state == "failed" or (entry.state == "done" and self.parameters.overwrite)
            if entry.state != "running" and (over_again or not self.asks_for(entry)):
                entry = self.waiting(entry)
            entries[block.name] = entry
        return entries

    def _read(self, name: str) -> Entry:
        record = read_record(self._record(name)) or {}
        if set(Entry.__slots__) <= set(record) and record["state"] in get_args(BlockState):
            return Entry(**{field: record[field] for field in Entry.__slots__})
        return Entry(name, self._keys[name])

    def asks_for(self, entry: Entry) -> bool:
        """Whether what the entry tells of is what this campaign wants of the block."""
        return entry.key == self._keys[entry.block]

    def waiting(self, entry: Entry) -> Entry:
        """The block's entry for a run yet to come."""
        return replace(entry, key=self._keys[entry.block], state="waiting", message="")

    def note(self, entry: Entry, state: BlockState, *, flow_run_id: str = "", message: str = "") -> Entry:
        """Write what became of a block; returns its entry."""
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
        """Note that a block's run is about to be asked for."""
        return self.note(replace(entry, attempt=entry.attempt + 1, flow_run_id=""), "running")

    def ticket(self, entry: Entry) -> str:
        """A name of a block's run: asked for twice under it, there still is one run."""
        place = hashlib.sha256(str(self.workspace.work_dir).encode()).hexdigest()[:12]
        return f"s2sr-campaign-{place}-{entry.block}-{entry.attempt}-{entry.key[:12]}"

    def told(self, block: Block) -> dict[str, Any]:
        """The parameters of a block's run, as plain JSON."""
        asked: dict[str, Any] = json.loads(self.parameters.model_dump_json(exclude_defaults=True))
        always: dict[str, Any] = json.loads(self.parameters.model_dump_json(include=set(_ALWAYS)))
        own = {"grid_csv": str(self._csv(block.name)), "work_dir": str(block.work_dir(self.workspace))}
        return asked | always | own

    @cached_property
    def _keys(self) -> dict[str, str]:
        return {block.name: self._key(block) for block in self.blocks}

    def _key(self, block: Block) -> str:
        cells = [(cell.cell_id, cell.wkt) for cell in block.cells]
        told = {name: value for name, value in self.told(block).items() if name not in ("grid_csv", "work_dir")}
        text = json.dumps({"software": __version__, "cells": cells, "told": told}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def _record(self, name: str) -> Path:
        return self.workspace.indices / "blocks" / f"{name}.json"

    def _csv(self, name: str) -> Path:
        return self.workspace.indices / "blocks" / f"{name}.csv"


@dataclass(frozen=True, slots=True)
class CampaignSummary:
    """Blocks of a campaign by what became of them; ``started`` counts those that this campaign run started."""

    cells: int
    done: int
    failed: int
    started: int

    @classmethod
    def of(cls, campaign: Campaign, entries: Iterable[Entry], started: int) -> Self:
        states = Counter(entry.state for entry in entries)
        return cls(sum(len(block.cells) for block in campaign.blocks), states["done"], states["failed"], started)

    def sentence(self) -> str:
        text = f"{counted(self.done + self.failed, 'block')} of {counted(self.cells, 'cell')}: {self.done} done"
        if self.failed:
            text += f", {self.failed} failed"
        return text if self.started or self.failed else f"nothing to do: {text}"


#: Colours of the map: red, green, blue.
COLOURS: Mapping[BlockState, tuple[int, int, int]] = {
    "waiting": (128, 128, 128),
    "running": (240, 190, 40),
    "done": (50, 160, 90),
    "failed": (210, 50, 60),
}
