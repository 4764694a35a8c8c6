"""Running units of work on a task runner, and taking what comes of them, failures included."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from prefect import Task
from prefect.futures import PrefectFuture, as_completed
from prefect.task_runners import TaskRunner

from s2sr_core.errors import InputError
from s2sr_core.parameters import RunParameters
from s2sr_core.progress import progress
from tasks.artifacts import bar
from tasks.partly_failed import PartlyFailedError


class Unit(Protocol):
    """What one task run covers; the title names it."""

    title: str


class Units[U: Unit, R]:
    """The units of one task on one runner.

    ``failed`` makes the results of a unit whose task was lost altogether, from the unit and the reason; ``title`` is
    what progress is shown under.
    """

    def __init__(
        self,
        runner: TaskRunner[Any],
        task: Task[..., list[R]],
        parameters: RunParameters,
        failed: Callable[[U, str], list[R]],
        title: str,
    ) -> None:
        self._title, self._bar = title, bar(title)
        self._runner, self._task, self._parameters, self._failed = runner, task, parameters, failed
        self._futures: dict[PrefectFuture[list[R]], U] = {}

    def submit(self, units: Sequence[U]) -> None:
        self._bar.expect(len(units))
        for unit in units:
            task = self._task.with_options(task_run_name=f"{self._task.name} {unit.title}")
            future = self._runner.submit(task, {"unit": unit, "parameters": self._parameters})
            future.add_done_callback(self._bar.step)
            self._futures[future] = unit

    def results(self) -> Iterator[list[R]]:
        """The results of each unit submitted so far, as they come, under a progress bar.

        Raises
        ------
        InputError
            Where a task met one: it is the user's to mend, and every other unit would meet it too.
        """
        with progress(self._title, len(self._futures)) as advance:
            for future in as_completed(list(self._futures)):
                try:
                    results = future.result()
                except PartlyFailedError as error:
                    results = error.results
                except InputError:
                    raise
                except Exception as error:  # noqa: BLE001  # the task crashed or its worker died: the rest goes on
                    results = self._failed(self._futures[future], " ".join(f"{type(error).__name__}: {error}".split()))
                yield results
                advance()
