"""A campaign: a large region as many runs of the pipeline, and the mosaic of their composites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, State
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound, Pause
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed

from deployments.process.signals import flow_stops_on_signals
from deployments.server.cancellation import RunCancelledError, RunPausedError, requests_of_server
from deployments.server.outage import answered
from flows.recovery import opened_again
from flows.signature import parameters_of
from s2sr_core import stopping
from s2sr_core.composites.mosaic import mosaic_folders, mosaic_path
from s2sr_core.errors import InputError
from s2sr_core.outputs.maps import MappedBlock, blocks_map
from s2sr_core.outputs.pictures import pictures_of
from s2sr_core.outputs.summary import counted
from s2sr_core.parameters import RunParameters
from s2sr_core.planning.campaign import (
    COLOURS,
    Block,
    BlockState,
    Campaign,
    CampaignParameters,
    CampaignSummary,
    Entry,
    check_for_mosaic,
)
from s2sr_core.signature import takes_fields_of
from s2sr_core.workspace import Workspace
from tasks.artifacts import Bar, Bars, MovingPicture, keys_of, never_failing, publish_pictures, publish_table

#: Seconds between two looks at the runs of the blocks.
_PAUSE = 3.0
#: Within this time of the death of its process, the server schedules a run once more, if it does.
_SECOND_TRY = timedelta(seconds=120)


def _run_name() -> str:
    folder = Path(str(flow_run.parameters["work_dir"])).name
    return folder if "campaign" in folder.lower() else f"campaign {folder}"


@flow(name="campaign", flow_run_name=_run_name, validate_parameters=False)
@takes_fields_of(RunParameters, CampaignParameters)
def campaign(**fields: Any) -> State:
    """Cut a large region into blocks of gridcells, run the pipeline for each, and mosaic the composites.

    The state of each block is recorded in the work folder: started again, a campaign continues with the runs it
    started and does what is not done.
    """
    try:
        own = {name: fields.pop(name) for name in CampaignParameters.model_fields}
        parameters, plan = parameters_of(RunParameters, fields), parameters_of(CampaignParameters, own)
        check_for_mosaic(parameters)
        work = Campaign(parameters, plan.cells_per_block)
        with (
            get_client(sync_client=True) as client,
            flow_stops_on_signals(),
            opened_again(work.workspace),
            requests_of_server(),
            keys_of(parameters.work_dir),
            Bars().shown() as bars,
        ):
            find_deployment(client, plan.deployment)
            summary = _Blocks(client, work, plan, bars.bar("blocks")).run()
            work.workspace.clear_tmp()
    except InputError as error:
        return Failed(message=str(error), data=error)
    except RunCancelledError as error:
        return Cancelled(message=str(error))
    except RunPausedError as paused:
        raise Pause(state=paused.state) from paused
    if not summary.done:
        return Failed(message=summary.sentence())
    if summary.failed:
        return Completed(name=f"Completed with {counted(summary.failed, 'failure')}", message=summary.sentence())
    return Completed(message=summary.sentence())


def find_deployment(client: SyncPrefectClient, name: str) -> None:
    """Check that a deployment is on the server.

    Raises
    ------
    InputError
        If it is not.
    """
    try:
        client.read_deployment_by_name(name)
    except ObjectNotFound as error:
        raise InputError("deployment", name, "is not on this server", "deploy it, or name another") from error


class _Blocks:
    """Runs the blocks of a campaign, so many at once, until none is left."""

    def __init__(self, client: SyncPrefectClient, work: Campaign, plan: CampaignParameters, bar: Bar) -> None:
        self._client, self._work, self._plan, self._bar = client, work, plan, bar
        self._entries: dict[str, Entry] = {}
        self._map = MovingPicture("blocks-map")
        self._shown: list[BlockState] = []
        self._started = self._again = self._before = 0

    def run(self) -> CampaignSummary:
        """Run what the ledger lists as not done, then mosaic what is done."""
        self._entries = self._work.ledger()
        blocks = {block.name: block for block in self._work.blocks}
        self._bar.expect(len(blocks))
        for entry in self._entries.values():
            if entry.state == "done":
                self._bar.step()
        self._before = len(self._in_state("done"))
        running = self._in_state("running")
        runs = self._read([UUID(entry.flow_run_id) for entry in running if entry.flow_run_id])
        for entry in running:
            self._attach(blocks[entry.block], entry, runs.get(entry.flow_run_id))
        self._show()
        while self._in_state("waiting", "running"):
            room = self._plan.blocks_at_once - len(self._in_state("running"))
            for entry in self._in_state("waiting")[: max(room, 0)]:
                self._start(blocks[entry.block], self._work.next_attempt(entry))
            self._show()
            stopping.pause(_PAUSE)
            self._look()
        self._show()
        self._publish()
        entries = self._entries.values()
        return CampaignSummary.of(self._work, entries, self._started, before=self._before, again=self._again)

    def _in_state(self, *states: str) -> list[Entry]:
        return [entry for entry in self._entries.values() if entry.state in states]

    def _attach(self, block: Block, entry: Entry, run: FlowRun | None) -> None:
        """Continue with a run that an earlier campaign run started, or was about to; one that was cut short, again."""
        if not entry.flow_run_id:
            self._start(block, entry)  # under the same key: if it was started after all, it is that run
        elif run is None or _was_cut_short(run):
            self._entries[entry.block] = self._work.as_waiting(entry)
        else:
            self._entries[entry.block] = entry
            get_run_logger().info("block %s: continuing with its run %s", entry.block, entry.flow_run_id)

    def _start(self, block: Block, entry: Entry) -> None:
        made = answered(
            run_deployment,
            self._plan.deployment,
            parameters=self._work.block_parameters(block),
            timeout=0,
            flow_run_name=f"block {block.name}",
            idempotency_key=self._work.idempotency_key(entry),
        )
        if not isinstance(made, FlowRun):
            raise TypeError("started in an event loop")
        entry = self._work.record_state(entry, "running", flow_run_id=str(made.id))
        if _was_cut_short(made):  # an earlier campaign run started it, and did not come to record it
            self._entries[entry.block] = self._work.as_waiting(entry)
            return
        self._entries[entry.block] = entry
        self._started += 1
        self._again += entry.attempt > 1

    def _look(self) -> None:
        """Record the end of runs that have ended."""
        running = self._in_state("running")
        runs = self._read([UUID(entry.flow_run_id) for entry in running])
        for entry in running:
            run = runs.get(entry.flow_run_id)
            if run is None:
                self._end(entry, "its flow run is no longer on the server", done=False)
            elif run.state is not None and has_ended(run, datetime.now(UTC)):
                message = f"{run.state.name}: {run.state.message or ''}".rstrip(": ")
                self._end(entry, message, done=run.state.is_completed())

    def _read(self, ids: list[UUID]) -> Mapping[str, FlowRun]:
        if not ids:
            return {}
        found = answered(self._client.read_flow_runs, flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=ids)))
        return {str(run.id): run for run in found}

    def _end(self, entry: Entry, message: str, *, done: bool) -> None:
        ended = self._work.record_state(entry, "done" if done else "failed", message=message)
        if self._work.is_current(ended):
            self._bar.step()
        else:  # a run of an earlier campaign run, with other parameters
            ended = self._work.as_waiting(ended)
        self._entries[entry.block] = ended

    def _show(self) -> None:
        """Show the map again if something changed."""
        states = [self._entries[block.name].state for block in self._work.blocks]
        if states == self._shown:
            return
        self._shown = states
        with never_failing("the map of the blocks"):
            blocks = [
                MappedBlock(block.name, state, tuple(cell.bounds for cell in block.cells))
                for block, state in zip(self._work.blocks, states, strict=True)
            ]
            counts = ", ".join(f"{states.count(state)} {state}" for state in COLOURS)
            self._map.show(blocks_map(blocks, COLOURS, self._work.workspace.work_dir.name), counts)

    def _publish(self) -> None:
        """The mosaics of what is done, their pictures, and the blocks that failed."""
        done = {entry.block for entry in self._in_state("done")}
        folders = [Workspace(b.work_dir(self._work.workspace)) for b in self._work.blocks if b.name in done]
        parameters, workspace = self._work.parameters, self._work.workspace
        mosaic_folders(workspace, [folder for folder in folders if folder.composite_index.exists()], parameters)
        what = f"{workspace.work_dir.name}: {counted(len(done), 'block')}"
        with never_failing("the pictures"):
            publish_pictures(pictures_of(parameters, partial(_mosaics, folders), what))
        if failed := self._in_state("failed"):
            rows = [{"block": e.block, "reason": e.message, "flow_run_id": e.flow_run_id} for e in failed]
            publish_table("failures", rows, f"{counted(len(failed), 'block')} failed.")


def has_ended(run: FlowRun, now: datetime) -> bool:
    """Whether a run is over at the time ``now``, and will not be run once more because its process died just now."""
    if run.state is None or not run.state.is_final():
        return False
    return not run.state.is_crashed() or run.run_count > 1 or now - run.state.timestamp > _SECOND_TRY


def _was_cut_short(run: FlowRun) -> bool:
    """Whether a run ended before its work: it was cancelled, or its process died."""
    return run.state is not None and has_ended(run, datetime.now(UTC)) and not run.state.is_completed()


def _mosaics(folders: Sequence[Workspace], period: str, band: str, kind: str) -> list[Path]:
    return [path for folder in folders if (path := mosaic_path(folder, band, kind, period)).exists()]
