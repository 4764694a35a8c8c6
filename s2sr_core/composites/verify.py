"""All composites of a folder against their records: every file is read once and its checksum compared.

Nothing is written. A folder's files and records may be anybody's: a record names files of its own folder or none.
"""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from s2sr_core.composites.composite_names import name_of
from s2sr_core.composites.recorded_files import INTACT, FileState, RecordedFile, recorded_files
from s2sr_core.composites.records import inputs_in, key_of
from s2sr_core.files import read_record, table_in
from s2sr_core.geo.lattice import WGS84, Lattice
from s2sr_core.parameters import default_pixel_size
from s2sr_core.products.bands import RESOLUTION
from s2sr_core.progress import progress
from s2sr_core.workspace import Workspace

#: Files read at once: hashing takes a core each, and a shared filesystem answers several readers sooner than one.
_READERS = min(os.cpu_count() or 1, 8)
_RASTER_SUFFIXES = (".tif", ".tiff")


class Condition(StrEnum):
    """What is wrong with a file."""

    MISSING = "missing"
    CHANGED = "changed"
    UNREADABLE = "unreadable"
    FOREIGN = "foreign"
    INCOMPLETE = "incomplete"
    OTHER_LATTICE = "other lattice"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong: the file, below ``composites/``, and what."""

    path: str
    condition: Condition
    detail: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found.

    Attributes
    ----------
    findings: all that is wrong, by path.
    composites: records.
    files: rasters that these name.
    intact: those that hold what was written.
    by_size: those of the intact whose record has no checksum, so that only their size could be compared.
    """

    findings: tuple[Finding, ...]
    composites: int
    files: int
    intact: int
    by_size: int

    def text(self) -> str:
        """A table of what is wrong, and a sentence."""
        width = max((len(finding.path) for finding in self.findings), default=0)
        lines = [f"{finding.condition:<14}{finding.path:<{width}}  {finding.detail}" for finding in self.findings]
        sentence = (
            f"{_counted(self.composites, 'composite')}, {_counted(self.files, 'file')}: {self.intact} as recorded"
        )
        if self.by_size:
            sentence += f" ({self.by_size} by size alone: records of earlier versions hold no checksum)"
        counts = Counter(finding.condition for finding in self.findings)
        return "\n".join([*lines, ", ".join([sentence, *(f"{counts[c]} {c}" for c in Condition if counts[c])])])


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def verify(workspace: Workspace) -> Verification:
    """Compare every raster in ``composites/`` with its record, and look for what no record describes."""
    folder = _Folder.scan(workspace)
    records = {path: record for path in folder.records if (record := read_record(path)) is not None}
    lattice = _lattice_of_run(workspace) or _commonest([_lattice(record) for record in records.values()])
    checks = list(_checks(records, workspace, lattice))
    described = {path for check in checks for path in check.described}
    findings = [finding for check in checks for finding in check.findings]
    findings += _undescribed(workspace, folder, set(records), described)
    return Verification(
        tuple(sorted(findings, key=lambda finding: (finding.path, finding.condition))),
        len(records),
        sum(len(check.described) for check in checks),
        sum(check.intact for check in checks),
        sum(check.by_size for check in checks),
    )


# ------------------------------------------------------------------------------------------------ what is in the folder


@dataclass(frozen=True, slots=True)
class _Folder:
    """The files below ``composites/`` that are looked at."""

    records: list[Path] = field(default_factory=list)
    rasters: list[Path] = field(default_factory=list)
    leftovers: list[Path] = field(default_factory=list)

    @classmethod
    def scan(cls, workspace: Workspace) -> _Folder:
        """Links to folders are followed, each folder once."""
        found, seen = cls(), set()
        for here, folders, names in os.walk(workspace.composites, followlinks=True):
            real = os.path.realpath(here)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            folders.sort()
            for name in sorted(names):
                path = Path(here, name)
                if name.startswith("."):
                    if ".part" in name:
                        found.leftovers.append(path)
                elif path.suffix.lower() in _RASTER_SUFFIXES:
                    found.rasters.append(path)
                elif path.suffix == ".json" and name_of(path):
                    found.records.append(path)
        return found


def _undescribed(workspace: Workspace, folder: _Folder, records: set[Path], described: set[Path]) -> Iterator[Finding]:
    """What is there without a record that describes it, and what the index names and is not there."""
    unreadable = set(folder.records) - records
    for path in unreadable:
        yield Finding(_below(workspace, path), Condition.INCOMPLETE, "is a record that cannot be read")
    for path in folder.leftovers:
        detail = "was left by a process that was stopped while writing, unless a run is working here"
        yield Finding(_below(workspace, path), Condition.INCOMPLETE, detail)
    recorded = {(path.parent, name.band) for path in records if (name := name_of(path))}
    for path in folder.rasters:
        if path in described:
            continue
        name = name_of(path)
        if name is not None and (path.parent, name.band) not in recorded:
            yield Finding(_below(workspace, path), Condition.INCOMPLETE, "has no record that can be read")
        else:
            yield Finding(_below(workspace, path), Condition.FOREIGN, "is not described by any record")
    there = described | set(folder.rasters)
    for path in _listed(workspace):
        if path not in there:
            yield Finding(_below(workspace, path), Condition.MISSING, "is in composite_index.csv, without any record")


def _listed(workspace: Workspace) -> Iterator[Path]:
    """The composites that the index of the folder lists as there."""
    try:
        with io.TextIOWrapper(table_in(workspace.composite_index), encoding="utf-8", newline="") as file:
            rows = [row.get("path") for row in csv.DictReader(file)]
    except (OSError, ValueError, csv.Error):
        return
    yield from (workspace.composites / path for path in rows if path)


def _below(workspace: Workspace, path: Path) -> str:
    return path.relative_to(workspace.composites).as_posix() if path.is_relative_to(workspace.composites) else str(path)


# ------------------------------------------------------------------------------------------------------- one composite


def _checks(
    records: Mapping[Path, Mapping[str, Any]], workspace: Workspace, lattice: _Lattice | None
) -> Iterator[_Check]:
    """Each record held against its files, several at once."""
    with progress("composites", len(records)) as advance, ThreadPoolExecutor(_READERS) as pool:
        try:
            for check in pool.map(lambda path: _checked(path, records[path], workspace, lattice), records):
                yield check
                advance()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@dataclass(slots=True)
class _Check:
    """A record held against its files."""

    described: list[Path] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    intact: int = 0
    by_size: int = 0


def _checked(path: Path, record: Mapping[str, Any], workspace: Workspace, lattice: _Lattice | None) -> _Check:
    check = _Check()

    def find(file: Path, condition: Condition, detail: str) -> None:
        check.findings.append(Finding(_below(workspace, file), condition, detail))

    if problem := _problem_of_record(path, record):
        find(path, *problem)
        if problem[0] == Condition.FOREIGN:
            return check
    elif lattice is not None and (own := _lattice(record)) != lattice:
        find(
            path.with_suffix(".tif"),
            Condition.OTHER_LATTICE,
            f"is on {_said(own)}; the folder's last run on {_said(lattice)}",
        )
    files = {name: file for name, file in recorded_files(record).items() if Path(name).name == name}
    if not files:
        find(path, Condition.INCOMPLETE, "names no file")
    for name, file in files.items():
        raster = path.parent / name
        check.described.append(raster)
        if problem := _problem_of_file(raster, file):
            find(raster, *problem)
        else:
            check.intact += 1
            check.by_size += not file.sha256
    return check


def _problem_of_record(path: Path, record: Mapping[str, Any]) -> tuple[Condition, str] | None:
    inputs = inputs_in(record)
    if inputs is None:
        return Condition.INCOMPLETE, "does not say what its composite was made of"
    if record.get("key") != key_of(record.get("inputs", record.get("made_of", {}))):
        return Condition.CHANGED, "does not have the key of its inputs"
    own = (inputs.get("cell_id"), inputs.get("period", ""), inputs.get("band"))
    name = name_of(path)
    if name is None or name.about != own:
        return Condition.FOREIGN, f"is the record of cell {' '.join(str(each) for each in own if each != '')}"
    return None


def _problem_of_file(path: Path, recorded: RecordedFile) -> tuple[Condition, str] | None:
    try:
        state = recorded.state(path, thorough=True)
        size = path.stat().st_size if state == FileState.CHANGED else recorded.size
    except OSError as error:
        return Condition.UNREADABLE, f"cannot be read ({error.strerror})"
    if state in INTACT:
        return None
    if state == FileState.MISSING:
        return Condition.MISSING, "is not there, and its record is"
    if size != recorded.size:
        return Condition.CHANGED, f"has {size} bytes, its record says {recorded.size}"
    return Condition.CHANGED, "has the recorded size, and other bytes: its checksum differs"


# ------------------------------------------------------------------------------------------------------------- lattice

_Lattice = tuple[bool, float, float, str]
"""Whether pixels are aligned (``tap``), their size, and the CRS of which that is units."""


def _lattice(record: Mapping[str, Any]) -> _Lattice | None:
    """Of a composite, by its record."""
    return _lattice_in((inputs_in(record) or {}).get("lattice"), "dx", "dy")


def _lattice_of_run(workspace: Workspace) -> _Lattice | None:
    """Of the last run that ended, or of the one that began last if the record says no lattice."""
    ended, begun = read_record(workspace.run_record) or {}, read_record(workspace.flow_run) or {}
    return _lattice_in(ended.get("lattice")) or _lattice_in(begun.get("parameters"))


def _lattice_in(entry: object, *keys: str) -> _Lattice | None:
    if not isinstance(entry, dict):
        return None
    crs = entry.get("crs") or WGS84  # earlier versions knew one, and named none
    size = [entry.get(key) for key in keys] if keys else entry.get("tr")
    if size is None and not keys:
        size = list(default_pixel_size(str(crs), 10 if entry.get("resolution") == 10 else RESOLUTION))
    if not isinstance(size, list) or len(size) != 2 or not all(isinstance(side, int | float) for side in size):
        return None
    try:
        return bool(entry.get("tap")), float(size[0]), float(size[1]), str(crs)
    except OverflowError:  # a whole number of hundreds of digits
        return None


def _commonest(lattices: list[_Lattice | None]) -> _Lattice | None:
    counts = Counter(lattice for lattice in lattices if lattice is not None)
    return counts.most_common(1)[0][0] if counts else None


def _said(lattice: _Lattice | None) -> str:
    if lattice is None:
        return "an unknown lattice"
    aligned, dx, dy, crs = lattice
    return f"{Lattice(dx, dy, crs=crs).size} {'with' if aligned else 'without'} tap"
