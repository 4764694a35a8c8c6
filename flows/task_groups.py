"""Running units of work on task runners, and taking what comes of them, failures included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from prefect import Task
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner

from deployments.server.orphans import end_task_runs
from s2sr_core.errors import InputError
from s2sr_core.parameters import RunParameters
from s2sr_core.progress import progress_of_several
from tasks.artifacts import bar
from tasks.partly_failed import PartlyFailedError

#: Seconds between looks at the cluster while no result comes.
_PAUSE = 1.0


class Unit(Protocol):
    """What one task run covers; the title names it."""

    title: str


class Units[U: Unit, R]:
    """The units of one task on one runner; made by :meth:`Work.units`.

    Attributes
    ----------
    count: how many were submitted so far.
    """

    def __init__(
        self,
        title: str,
        submit: Callable[[U], PrefectFuture[list[R]]],
        lost: Callable[[U, str], list[R]],
        then: Callable[[list[R]], None],
    ) -> None:
        self.title, self.count, self._bar = title, 0, bar(title)
        self._submit, self._lost, self._then = submit, lost, then
        self._pending: dict[PrefectFuture[list[R]], U] = {}

    def submit(self, units: Sequence[U]) -> None:
        self._bar.expect(len(units))
        for unit in units:
            self._pending[self._submit(unit)] = unit
            self.count += 1

    @property
    def under_way(self) -> int:
        return len(self._pending)

    def end(self, future: PrefectFuture[list[R]], outcome: list[R] | Exception) -> None:
        """Hand on what came of a unit."""
        self._bar.step()
        self._then(self._results(self._pending.pop(future), outcome))

    def break_off(self) -> None:
        """No worker will say what became of the rest."""
        pending, self._pending = self._pending, {}
        end_task_runs((future.task_run_id for future in pending), "The run ended before this unit did.")

    def _results(self, unit: U, outcome: list[R] | Exception) -> list[R]:
        match outcome:
            case PartlyFailedError():
                return list(outcome.results)
            case InputError():
                raise outcome
            case Exception():  # the task crashed or its worker died: the rest goes on
                return self._lost(unit, " ".join(f"{type(outcome).__name__}: {outcome}".split()))
        return outcome


class Work:
    """Units of several tasks, all under way at once.

    The result of a unit is fetched as soon as it is there: workers come and go, and what only a worker has goes with
    it and would be computed again.
    """

    def __init__(self, parameters: RunParameters) -> None:
        self._parameters = parameters
        self._ended: SimpleQueue[tuple[Units[Any, Any], PrefectFuture[Any], Any]] = SimpleQueue()
        self._kinds: list[Units[Any, Any]] = []
        self._watches: set[Callable[[], None]] = set()

    def units[U: Unit, R](
        self,
        title: str,
        runner: TaskRunner[Any],
        task: Task[..., list[R]],
        lost: Callable[[U, str], list[R]],
        then: Callable[[list[R]], None],
    ) -> Units[U, R]:
        """Units of ``task`` on ``runner``, whose results are handed to ``then``.

        ``lost`` makes the results of a unit whose task was lost altogether, from the unit and the reason.
        """

        def submit(unit: U) -> PrefectFuture[list[R]]:
            named = task.with_options(task_run_name=f"{task.name} {unit.title}")
            future: PrefectFuture[list[R]] = runner.submit(named, {"unit": unit, "parameters": self._parameters})
            future.add_done_callback(lambda ended: self._ended.put((kind, ended, _fetched(ended))))
            return future

        kind = Units(title, submit, lost, then)
        self._kinds.append(kind)
        if watch := getattr(runner, "watch", None):
            self._watches.add(watch)
        return kind

    def wait(self, *awaited: Units[Any, Any]) -> None:
        """Hand on what comes of any unit, in this thread, until none of ``awaited`` is under way.

        More units may be submitted meanwhile. Bars show how far all kinds are.

        Raises
        ------
        InputError
            Where a task met one: it is the user's to mend, and every other unit would meet it too.
        ClusterError
            Where no worker is left, and none comes.
        """
        with progress_of_several() as show:
            try:
                while any(kind.under_way for kind in awaited):
                    try:
                        kind, future, outcome = self._ended.get(timeout=_PAUSE)
                    except Empty:
                        for watch in self._watches:
                            watch()
                        continue
                    kind.end(future, outcome)
                    for each in self._kinds:
                        if each.count:
                            show(each.title, each.count - each.under_way, each.count)
            except BaseException:
                for kind in self._kinds:
                    kind.break_off()
                raise


def _fetched[R](future: PrefectFuture[R]) -> R | Exception:
    """Take the result from the worker that has it; called in a thread of its own."""
    outcome: R | Exception
    try:
        outcome = future.result()
    except Exception as error:  # noqa: BLE001  # handed over, and raised or recorded by who takes it
        outcome = error
    wrapped = getattr(future, "wrapped_future", None)
    if getattr(wrapped, "status", "finished") not in ("finished", "pending"):
        end_task_runs([future.task_run_id], f"Its worker was lost: {outcome}")
    if (release := getattr(wrapped, "release", None)) is not None:
        release()
    return outcome
