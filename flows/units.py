"""Running units of work on task runners, and taking what comes of them, failures included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, Protocol

from prefect import Task
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner

from s2sr_core.errors import InputError
from s2sr_core.parameters import RunParameters
from s2sr_core.progress import progress_of_several
from tasks.partly_failed import PartlyFailedError


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
        self.title, self.count = title, 0
        self._submit, self._lost, self._then = submit, lost, then
        self._pending: dict[PrefectFuture[list[R]], U] = {}

    def submit(self, units: Sequence[U]) -> None:
        for unit in units:
            self._pending[self._submit(unit)] = unit
            self.count += 1

    @property
    def under_way(self) -> int:
        return len(self._pending)

    def end(self, future: PrefectFuture[list[R]]) -> None:
        """Hand on what came of a unit."""
        self._then(self._results(future, self._pending.pop(future)))

    def _results(self, future: PrefectFuture[list[R]], unit: U) -> list[R]:
        try:
            return future.result()
        except PartlyFailedError as error:
            return list(error.results)
        except InputError:
            raise
        except Exception as error:  # noqa: BLE001  # the task crashed or its worker died: the rest goes on
            return self._lost(unit, " ".join(f"{type(error).__name__}: {error}".split()))


class Work:
    """Units of several tasks, all under way at once."""

    def __init__(self, parameters: RunParameters) -> None:
        self._parameters = parameters
        self._ended: SimpleQueue[tuple[Units[Any, Any], PrefectFuture[Any]]] = SimpleQueue()
        self._kinds: list[Units[Any, Any]] = []

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
            future.add_done_callback(lambda ended: self._ended.put((kind, ended)))
            return future

        kind = Units(title, submit, lost, then)
        self._kinds.append(kind)
        return kind

    def wait(self, *awaited: Units[Any, Any]) -> None:
        """Hand on what comes of any unit, in this thread, until none of ``awaited`` is under way.

        More units may be submitted meanwhile. Bars show how far all kinds are.

        Raises
        ------
        InputError
            Where a task met one: it is the user's to mend, and every other unit would meet it too.
        """
        with progress_of_several() as show:
            while any(kind.under_way for kind in awaited):
                kind, future = self._ended.get()
                kind.end(future)
                for each in self._kinds:
                    if each.count:
                        show(each.title, each.count - each.under_way, each.count)
