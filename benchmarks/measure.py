"""Everything that is measured, each in its own process: command, case and result."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks import peers
from benchmarks.cases import REPEATED, SCENES, Case, Size
from benchmarks.plan_run import CELLS, FOOTPRINTS
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.parameters import RunParameters
from s2sr_core.workspace import Workspace

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = "reference"
#: The other programs and the sides of chunks that the full size tries, pixels, the best first; 0 is all cells in one
#: chunk. odc-stac opens a file again for each chunk and decodes its tiles again; stackstac keeps it open.
PEERS = {"odc-stac": (0, 2048, 1024), "stackstac": (512, 0, 1024, 256)}
#: Seconds between two looks at the memory of a process and its children.
_LOOK_EVERY = 0.1

type Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Run:
    """One process to be measured.

    Attributes
    ----------
    key: the row's name in the results.
    case, what: for the reader.
    command: its arguments.
    scale: factor for its CPU and wall time, if it does only a sample of the case.
    sample: description of the sample, for the reader.
    """

    key: str
    case: str
    what: str
    command: tuple[str, ...]
    scale: float = 1.0
    sample: str = ""


class Bench:
    """All runs of one size, and what they keep for comparison."""

    def __init__(self, size: Size, peers_python: Path) -> None:
        self.size, self._peers_python = size, peers_python
        self.default = str(RunParameters.model_fields["engine"].default)
        self._kept = size.folder / "kept"
        self._a, self._b = size.case("a"), size.case("b")

    def measure(self, *, pairs: bool) -> dict[str, Any]:
        """Every row and check; with ``pairs`` two single-threaded programs run at a time, on one core each."""
        shutil.rmtree(self._kept, ignore_errors=True)
        self._kept.mkdir(parents=True)
        # Code is compiled once per installation and kept, so that is not part of a run's cost.
        measured(self._engine("c_first", "first call, not counted", "--scenes", "1"))
        rows: dict[str, Row] = {}
        with ThreadPoolExecutor(2 if pairs else 1) as threads:
            for row in threads.map(measured, self._of_one_thread()):
                rows[row["key"]] = row
        for run in self._alone(rows):
            rows[run.key] = measured(run)
        result = {"size": self.size.name, "default_engine": self.default, "pairs": pairs, "rows": rows}
        result["checks"] = self._checks(rows)
        shutil.rmtree(self._kept, ignore_errors=True)
        return result

    def _of_one_thread(self) -> list[Run]:
        cells, bands = len(self._b.cells), len(self._b.bands)
        sampled = self._sampled_cells()
        some = ("--cells", *sampled, "--bands", self._b.bands[-1])
        share = cells * bands / len(sampled)
        of = f"{len(sampled)} of {cells} cells, 1 of {bands} bands"
        ours, reference = f"default engine ({self.default})", ("--engine", REFERENCE)
        whole = self.default != REFERENCE  # else it is sampled as the reference engine is
        runs = [
            self._engine("a_reference", "reference engine", *reference, *self._keep(REFERENCE)),
            self._floor("b_floor"),
            *(self._peer(f"b_{peer}", peer) for peer in PEERS),
            self._engine("b_reference", "reference engine", *reference, *some, scale=share, sample=of),
            self._engine("b_default", ours)
            if whole
            else self._engine("b_default", ours, *some, scale=share, sample=of),
            self._engine("b_unchecked", f"{ours}, images not compared with checksums", "--check-files", "never"),
            self._engine(
                "a_default_threshold",
                "reference engine at gdalwarp's default error threshold",
                *reference,
                "--default-threshold",
                "--bands",
                self._a.bands[0],
                scale=float(len(self._a.bands)),
                sample=f"1 of {len(self._a.bands)} bands",
            ),
            self._engine("a_default", ours, *self._keep("default")),
            self._floor("a_floor"),
            self._engine("c_default_few", f"{ours}, {SCENES} scenes", "--scenes", str(SCENES)),
            self._engine("c_default", f"{ours}, {SCENES * REPEATED} scenes"),
        ]
        if self.size.name == "full":
            runs += [
                self._peer(f"b_{peer}_chunk_{chunk}", peer, chunk=chunk)
                for peer, chunks in PEERS.items()
                for chunk in chunks[1:]
            ]
            runs += [self._peer(f"b_{peer}_bottleneck", peer, median="bottleneck") for peer in PEERS]
        return runs

    def _alone(self, rows: dict[str, Row]) -> list[Run]:
        """Runs that need both cores, or whose wall time counts."""
        ours = f"default engine ({self.default})"
        sample = ("--cells", *self._sampled_cells()) if self.default == REFERENCE else ()
        runs = [
            self._plan("d_half", f"the plan of {CELLS // 2:,} cells and {FOOTPRINTS // 2:,} footprints", 2),
            self._plan("d", "the plan"),
            *(
                self._engine(
                    f"b_default_workers_{n}", f"{ours}, {n} worker{'s'[: n - 1]}", "--workers", str(n), *sample
                )
                for n in (1, 2)
            ),
        ]
        if self.size.name == "full":
            threads = len(os.sched_getaffinity(0))
            runs += [self._peer(f"b_{peer}_all_cores", peer, threads=threads) for peer in PEERS]
        return runs

    def _plan(self, key: str, what: str, parts: int = 1) -> Run:
        words = (sys.executable, "-m", "benchmarks.plan_run")
        size = ("--cells", str(CELLS // parts), "--footprints", str(FOOTPRINTS // parts))
        return Run(key, "d", what, (*words, *size))

    def _sampled_cells(self) -> list[str]:
        """One cell of every four."""
        return [cell.cell_id for cell in self._b.cells[::4]]

    def _keep(self, name: str) -> tuple[str, str]:
        return "--keep", str(self._kept / name)

    def _engine(self, key: str, what: str, *words: str, scale: float = 1.0, sample: str = "") -> Run:
        module = (sys.executable, "-m", "benchmarks.engine_run", "--size", self.size.name, "--case", key[0])
        return Run(key, key[0], what, (*module, *words), scale, sample)

    def _floor(self, key: str) -> Run:
        words = (sys.executable, "-m", "benchmarks.floor_run", "--size", self.size.name, "--case", key[0])
        return Run(key, key[0], "floor", words)

    def _peer(self, key: str, peer: str, *, chunk: int | None = None, threads: int = 1, median: str = "xarray") -> Run:
        chunk = PEERS[peer][0] if chunk is None else chunk
        bands = self._b.bands[-1:]
        task = peers.write_task(self._b, bands, self._kept / f"{key}.json")
        options = ("--chunk", str(chunk), "--threads", str(threads), "--median", median)
        words = (str(self._peers_python), "-m", "benchmarks.peer_run", str(task), peer, *options)
        chunks = "all cells in one chunk" if chunk == 0 else f"chunks of {chunk}"
        what = f"{peer}, {chunks}, {threads} thread{'s' if threads > 1 else ''}, median of {median}"
        # SCL is loaded once, whatever the number of bands: the program meters it separately, and only bands are scaled.
        sample = f"1 of {len(self._b.bands)} bands"
        return Run(key, "b", what, (*words, "--out", str(self._kept / key)), float(len(self._b.bands)), sample)

    def _checks(self, rows: dict[str, Row]) -> dict[str, Any]:
        """Whether our engines agree bit for bit, and how far the others' medians are from ours."""
        reference = self._kept / REFERENCE
        checks: dict[str, Any] = {"a_identical": identical(self._a, reference, self._kept / "default")}
        for key in rows:
            if (self._kept / key).is_dir() and (self._kept / f"{key}.json").exists():
                checks[key] = peers.agreement(self._b, self._b.bands[-1:], self._kept / key, reference)
        return checks


def measured(run: Run) -> Row:
    """Run it; returns its report, the largest memory of its process tree and, for a sample, the CPU of the whole case.

    Raises
    ------
    RuntimeError
        If it fails, with its error output.
    """
    process = subprocess.Popen(run.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    tree = _TreeMemory(process.pid)
    output, errors = process.communicate()
    seen = tree.stop()
    if process.returncode:
        raise RuntimeError(f"{' '.join(run.command)} failed:\n{errors[-2000:]}")
    row: Row = {**asdict(run), "command": run.command[1:], **json.loads(output.splitlines()[-1])}
    row["peak_of_tree"] = max(seen, row["peak"])
    once = row.get("cpu_once", 0.0)
    row["cpu_of_all"] = once + run.scale * (row["cpu"] - once)
    print(f"  {run.case} {run.what}: {row['cpu_of_all']:.1f} s CPU", flush=True)
    return row


class _TreeMemory:
    """Watches the proportional memory (PSS) of a process and its descendants."""

    def __init__(self, pid: int) -> None:
        self._stopped, self._most = threading.Event(), 0
        self._thread = threading.Thread(target=self._watch, args=(pid,), daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """The most that was seen, bytes."""
        self._stopped.set()
        self._thread.join()
        return self._most

    def _watch(self, pid: int) -> None:
        while not self._stopped.wait(_LOOK_EVERY):
            try:
                root = psutil.Process(pid)
                total = sum(_memory(process) for process in (root, *root.children(recursive=True)))
            except psutil.Error:
                return
            self._most = max(self._most, total)


def _memory(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


def identical(case: Case, one: Path, other: Path) -> bool:
    """Whether two work_dirs hold the same composites of ``case``, bit for bit."""
    pixels = [
        [
            gdal.Open(str(Workspace(folder).composite(cell.cell_id, band))).ReadAsArray()
            for cell in case.cells
            for band in case.bands
        ]
        for folder in (one, other)
    ]
    return all(np.array_equal(left, right) for left, right in zip(*pixels, strict=True))
