"""Running units of work on a task runner, and taking what comes of them, failures included."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from prefect import Task
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner

from deployments.leftovers import settle
from s2sr_core.errors import InputError
from s2sr_core.parameters import RunParameters
from s2sr_core.progress import progress
from tasks.partly_failed import PartlyFailedError

#: Seconds between looks at the cluster while no result comes.
_PAUSE = 1.0


class Unit(Protocol):
    """What one task run covers; the title names it."""

    title: str


class Units[U: Unit, R]:
    """The units of one task on one runner.

    ``failed`` makes the results of a unit whose task was lost altogether, from the unit and the reason.

    The result of a unit is fetched as soon as it is there: workers come and go, and what only a worker has goes with
    it and would be computed again.
    """

    def __init__(
        self,
        runner: TaskRunner[Any],
        task: Task[..., list[R]],
        parameters: RunParameters,
        failed: Callable[[U, str], list[R]],
    ) -> None:
        self._runner, self._task, self._parameters, self._failed = runner, task, parameters, failed
        self._watch: Callable[[], None] = getattr(runner, "watch", lambda: None)
        self._waiting: dict[PrefectFuture[list[R]], U] = {}
        self._done: SimpleQueue[tuple[PrefectFuture[list[R]], list[R] | Exception]] = SimpleQueue()

    def submit(self, units: Sequence[U]) -> None:
        for unit in units:
            task = self._task.with_options(task_run_name=f"{self._task.name} {unit.title}")
            future = self._runner.submit(task, {"unit": unit, "parameters": self._parameters})
            self._waiting[future] = unit
            future.add_done_callback(self._fetch)

    def results(self, title: str) -> Iterator[list[R]]:
        """The results of each unit submitted so far, as they come, under a progress bar.

        Raises
        ------
        InputError
            Where a task met one: it is the user's to mend, and every other unit would meet it too.
        ClusterError
            Where no worker is left, and none comes.
        """
        try:
            with progress(title, len(self._waiting)) as advance:
                while self._waiting:
                    try:
                        future, outcome = self._done.get(timeout=_PAUSE)
                    except Empty:
                        self._watch()
                        continue
                    yield self._results(self._waiting.pop(future), outcome)
                    advance()
        finally:
            # Where the run is broken off, no worker will say what became of the rest.
            waiting, self._waiting = self._waiting, {}
            settle((future.task_run_id for future in waiting), "The run ended before this unit did.")

    def _results(self, unit: U, outcome: list[R] | Exception) -> list[R]:
        match outcome:
            case PartlyFailedError():
                return outcome.results
            case InputError():
                raise outcome
            case Exception():  # the task crashed or its worker died: the rest goes on
                return self._failed(unit, " ".join(f"{type(outcome).__name__}: {outcome}".split()))
        return outcome

    def _fetch(self, future: PrefectFuture[list[R]]) -> None:
        """Take the result from the worker that has it; called in a thread of its own."""
        if future not in self._waiting:
            return
        outcome: list[R] | Exception
        try:
            outcome = future.result()
        except Exception as error:  # noqa: BLE001  # handed over, and raised or recorded by who takes it
            outcome = error
        wrapped = getattr(future, "wrapped_future", None)
        if getattr(wrapped, "status", "finished") not in ("finished", "pending"):
            settle([future.task_run_id], f"Its worker was lost: {outcome}")
        if (release := getattr(wrapped, "release", None)) is not None:
            release()
        self._done.put((future, outcome))
