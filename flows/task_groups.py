"""Tasks over units of work, all under way at once; a coroutine awaits the results of a unit, failures included."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Coroutine, Generator
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from prefect import Task
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner

from deployments.server.orphans import end_task_runs
from deployments.server.outage import OUTAGE, PAUSE, is_outage, is_there
from s2sr_core import stopping
from s2sr_core.errors import InputError, SourceDownError
from s2sr_core.progress import progress_of_several
from tasks.artifacts import bar
from tasks.partly_failed import PartlyFailedError

logger = logging.getLogger("s2sr_core.flow")

#: Seconds between looks at the cluster while no result comes.
_PAUSE = 0.5


class Unit(Protocol):
    """What one task run covers; the title names it."""

    title: str


class Results[R]:
    """The results of one unit of work, to be awaited."""

    def __init__(self, future: PrefectFuture[list[R]]) -> None:
        self.future = future

    def __await__(self) -> Generator[PrefectFuture[list[R]], list[R], list[R]]:
        return (yield self.future)


class TaskGroup[U: Unit, R]:
    """The runs of one task on one runner, one for each unit of work; made by :meth:`TaskGroups.group`.

    Attributes
    ----------
    title: of its progress bar.
    count: how many units were submitted so far.
    """

    def __init__(
        self, title: str, submit: Callable[[U], PrefectFuture[list[R]]], lost: Callable[[U, str], list[R]]
    ) -> None:
        self.title, self.count, self._bar = title, 0, bar(title)
        self._submit, self._lost = submit, lost
        self._pending: dict[PrefectFuture[list[R]], U] = {}

    def run(self, unit: U) -> Results[R]:
        """Submit the task for ``unit``; await its results."""
        self._bar.expect(1)
        future = self._submit(unit)
        self._pending[future] = unit
        self.count += 1
        return Results(future)

    @property
    def under_way(self) -> int:
        return len(self._pending)

    def end(self, future: PrefectFuture[list[R]], outcome: list[R] | BaseException) -> list[R]:
        """The results of a unit that has ended.

        Raises
        ------
        InputError, SourceDownError
            If the task met one.
        BaseException
            If the task was stopped: Prefect's ``Pause``, or a request to stop.
        """
        self._bar.step()
        unit = self._pending.pop(future)
        match outcome:
            case PartlyFailedError():
                return list(outcome.results)
            case InputError() | SourceDownError():
                raise outcome
            case Exception():  # the task crashed or its worker died: the other units go on
                return self._lost(unit, " ".join(f"{type(outcome).__name__}: {outcome}".split()))
            case BaseException():
                raise outcome
        return outcome

    def submit_again(self, future: PrefectFuture[list[R]]) -> PrefectFuture[list[R]]:
        """Submit the unit of ``future`` again, whose task run could not begin."""
        unit = self._pending.pop(future)
        new = self._submit(unit)
        self._pending[new] = unit
        return new


class TaskGroups:
    """Several groups of tasks, and the coroutines that await their results.

    The coroutines run in the thread that calls :meth:`start` and :meth:`wait`, each until it awaits the next unit. No
    event loop takes part: Prefect's own would not let a flow like this one call it.

    The result of a unit is fetched as soon as it is there: workers come and go, and what only a worker has is lost
    with it and would have to be computed again.

    Attributes
    ----------
    source_down: what a task met of a source that is down. What awaits its results does not go on; all else does.
    """

    def __init__(self) -> None:
        self._ended: SimpleQueue[tuple[TaskGroup[Any, Any], PrefectFuture[Any], Any]] = SimpleQueue()
        self._groups: list[TaskGroup[Any, Any]] = []
        self._waiting: dict[PrefectFuture[Any], Coroutine[PrefectFuture[Any], Any, None]] = {}
        self._watches: set[Callable[[], None]] = set()
        self.source_down: SourceDownError | None = None
        self._postponed: list[tuple[TaskGroup[Any, Any], PrefectFuture[Any]]] = []
        self._outage_began: float | None = None
        self._next_look = 0.0

    def group[U: Unit, R](
        self,
        title: str,
        task: Task[..., list[R]],
        runner: TaskRunner[Any],
        lost: Callable[[U, str], list[R]],
        **shared: Any,
    ) -> TaskGroup[U, R]:
        """Runs of ``task`` on ``runner``, each with its ``unit`` and the arguments ``shared``.

        ``lost`` makes the results of a unit whose task run was lost altogether, from the unit and the reason.
        """

        def submit(unit: U) -> PrefectFuture[list[R]]:
            named = task.with_options(task_run_name=f"{task.name.partition('-')[0]} {unit.title}")
            future: PrefectFuture[list[R]] = runner.submit(named, {"unit": unit, **shared})
            future.add_done_callback(lambda ended: self._ended.put((group, ended, _fetched(ended))))
            return future

        group = TaskGroup(title, submit, lost)
        self._groups.append(group)
        if watch := getattr(runner, "watch", None):
            self._watches.add(watch)
        return group

    def start(self, coroutine: Coroutine[PrefectFuture[Any], Any, None]) -> None:
        """Run ``coroutine`` until it awaits the results of a unit; :meth:`wait` goes on with it."""
        self._go_on(coroutine, None)

    def _go_on(self, coroutine: Coroutine[PrefectFuture[Any], Any, None], results: list[Any] | None) -> None:
        try:
            future = coroutine.send(results)
        except StopIteration:
            return
        self._waiting[future] = coroutine

    def wait(self, *awaited: TaskGroup[Any, Any]) -> None:
        """Go on with whichever coroutine has its results, until none of ``awaited`` has a unit under way.

        Bars show how far all groups are.

        Raises
        ------
        InputError
            If a task met one: the user has to correct it, and every other unit would meet it too.
        ClusterError
            If no worker is left, and none comes.
        StoppedError
            If the process shall stop.
        """
        with progress_of_several() as show:
            try:
                while any(group.under_way for group in awaited):
                    stopping.check()
                    self._submit_postponed()
                    try:
                        group, future, outcome = self._ended.get(timeout=_PAUSE)
                    except Empty:
                        for watch in self._watches:
                            watch()
                        continue
                    if self._is_postponed(group, future, outcome):
                        continue
                    coroutine = self._waiting.pop(future)
                    try:
                        self._go_on(coroutine, group.end(future, outcome))
                    except SourceDownError as error:
                        coroutine.close()
                        self.source_down = error
                    except BaseException:
                        coroutine.close()
                        raise
                    for each in self._groups:
                        if each.count:
                            show(each.title, each.count - each.under_way, each.count)
            except BaseException:
                self._break_off()
                raise

    def _is_postponed(self, group: TaskGroup[Any, Any], future: PrefectFuture[Any], outcome: object) -> bool:
        """Whether a unit failed only because the Prefect server is away; it is submitted again later."""
        if not is_outage(outcome):
            self._outage_began = None
            return False
        now = time.monotonic()
        if self._outage_began is None:
            self._outage_began = now
            logger.warning("the Prefect server does not answer; units wait for it up to %g min", OUTAGE / 60)
        if now - self._outage_began > OUTAGE:
            return False
        self._postponed.append((group, future))
        return True

    def _submit_postponed(self) -> None:
        """Submit what was postponed if the server is back, or has been away for too long: then it fails."""
        now = time.monotonic()
        if not self._postponed or self._outage_began is None or now < self._next_look:
            return
        self._next_look = now + PAUSE
        if not is_there() and now - self._outage_began <= OUTAGE:
            return
        postponed, self._postponed = self._postponed, []
        for group, future in postponed:
            coroutine = self._waiting.pop(future)
            self._waiting[group.submit_again(future)] = coroutine

    def _break_off(self) -> None:
        for coroutine in self._waiting.values():
            coroutine.close()


def _fetched[R](future: PrefectFuture[R]) -> R | BaseException:
    """Take the result from the worker that has it; called in a thread of its own."""
    outcome: R | BaseException
    try:
        outcome = future.result()
    except BaseException as error:  # noqa: BLE001  # handed over, and raised or recorded by who takes it
        outcome = error
    wrapped = getattr(future, "wrapped_future", None)
    if getattr(wrapped, "status", "finished") not in ("finished", "pending"):
        end_task_runs([future.task_run_id], f"Its worker was lost: {outcome}")
    if (release := getattr(wrapped, "release", None)) is not None:
        release()
    return outcome
