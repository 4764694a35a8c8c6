"""What takes the place of a product whose image turns out to be undecodable while a composite is computed.

The next in line does, as in phase 1: for this cell and band alone, whichever other cells need the damaged part.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.errors import S2SRError
from s2sr_core.run_context import RunContext
from s2sr_core.scenes.scene import Scene
from s2sr_core.selection.observations import Contender, stand

Lines = Mapping[str, Sequence[Contender]]
"""By the name of a product, all products of its observation, the preferred one first."""


class PostponedError(S2SRError):
    """A composite needs products that may replace one, and the caller has not named them, or has not fetched them."""


@dataclass(frozen=True, slots=True)
class Substitute:
    """A product that a composite was made with instead of others.

    Attributes
    ----------
    product, path: its name, and its folder.
    instead_of: names of those that could not be decoded.
    """

    product: str
    path: Path
    instead_of: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Replacement:
    """What of an observation is used in one cell, without the products that cannot be.

    Attributes
    ----------
    line: the folders of all its products that are there.
    lost: names of the products that cannot be used.
    scenes: of those that are used.
    is_complete: whether they show all that the lost ones would.
    """

    line: frozenset[Path]
    lost: frozenset[str]
    scenes: tuple[Scene, ...]
    is_complete: bool


class Substitutes:
    """Finds replacements in one cell; what it prepares for them is there until :meth:`opened` ends."""

    def __init__(self, context: RunContext, cell: Gridcell, lines: Lines) -> None:
        self._context, self._cell, self._lines = context, cell, lines
        self._folders = contextlib.ExitStack()
        self._unusable: set[Path] = set()

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Scenes of replacements can be used in this block."""
        with self._folders:
            yield

    def instead_of(self, scene: Scene) -> Replacement | None:
        """What is used from now on instead of ``scene`` and what is used next to it; None if there is nothing else.

        Raises
        ------
        PostponedError
            If other products must be looked at that are not there.
        """
        self._unusable.add(scene.product.path)
        if not scene.has_others:
            return None
        line = self._lines.get(str(scene.product.name))
        if line is None:
            raise PostponedError
        standings = stand(self._apart(), [self._unless_unusable(each) for each in line], [self._cell])
        if any(standing.status == "unread" for standing in standings):
            raise PostponedError
        lost = [n for n, each in enumerate(line) if each.product and each.product.path in self._unusable]
        prepared = {each.product.path: each.scene for each in line if each.product and each.scene}
        used = [standing.scene for standing in standings if standing.scene is not None]
        return Replacement(
            frozenset(each.product.path for each in line if each.product),
            frozenset(line[n].title for n in lost),
            tuple(prepared.get(each.product.path, each) for each in used),
            all(standings[n].by for n in lost),
        )

    def _unless_unusable(self, contender: Contender) -> Contender:
        if contender.product is None or contender.product.path not in self._unusable:
            return contender
        return replace(contender, product=None, scene=None, has_failed=True)

    def _apart(self) -> RunContext:
        """The run, but for the folder in which scenes are prepared: other workers may be at the same products."""
        folder = self._context.workspace.vrts(self._context.rank)
        apart = self._folders.enter_context(TemporaryDirectory(dir=folder, ignore_cleanup_errors=True))
        return replace(self._context, apart=Path(apart))
