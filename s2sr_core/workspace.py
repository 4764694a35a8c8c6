"""The folder of a run (``work_dir``): every path in it, and the lock that keeps other runs out."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from s2sr_core.disk_space import is_full_disk
from s2sr_core.errors import InputError
from s2sr_core.files import check_exists, check_writable, locked, remove_tree

#: What a run writes next to VRTs; and the names of what it decodes, with their locks.
_SCRATCH = frozenset({".vrt", ".json", ".tif"})
_DECODED = re.compile(r".+_(?:occupancy\.npz|mask\.tif|B\w\w\.(?:u16|failed|lock))")


def decoded_name(product: str, band: str) -> str:
    """The file name of a decoded band."""
    return f"{product}_{band}.u16"


@dataclass(frozen=True, slots=True)
class Workspace:
    """Paths below ``work_dir``.

    Attributes
    ----------
    apart: a folder instead of ``tmp/``, for scenes that are prepared for one composite; None if there is none.
    """

    work_dir: Path
    apart: Path | None = None

    @property
    def imagery_raw(self) -> Path:
        return self.work_dir / "imagery_raw"

    @property
    def indices(self) -> Path:
        return self.work_dir / "indices"

    @property
    def logs(self) -> Path:
        return self.work_dir / "logs"

    @property
    def tmp(self) -> Path:
        return self.apart or self.work_dir / "tmp"

    @property
    def composites(self) -> Path:
        return self.work_dir / "composites"

    @property
    def selected_gridcells(self) -> Path:
        return self.indices / "selected_gridcells.csv"

    @property
    def query_manifest(self) -> Path:
        return self.indices / "query_manifest.csv"

    @property
    def scene_index(self) -> Path:
        return self.indices / "scene_index.csv"

    @property
    def composite_index(self) -> Path:
        return self.indices / "composite_index.csv"

    @property
    def phase1_errors(self) -> Path:
        return self.indices / "phase1_errors.csv"

    @property
    def phase2_errors(self) -> Path:
        return self.logs / "phase2_errors.csv"

    @property
    def run_record(self) -> Path:
        """Parameters, lattice and outcome of the last run."""
        return self.indices / "run.json"

    def checked_files(self, product: str) -> Path:
        """Which images of a product were compared with the checksums of its manifest."""
        return self.indices / "checked_files" / f"{product}.json"

    @property
    def report(self) -> Path:
        """A page about the last run."""
        return self.work_dir / "report.html"

    @property
    def flow_run(self) -> Path:
        """Which flow run uses the folder, or used it last, and its parameters."""
        return self.indices / "flow_run.json"

    @property
    def _lock(self) -> Path:
        return self.work_dir / ".lock"

    def log(self, rank: int) -> Path:
        return self.logs / f"pipeline_rank{rank}.log"

    def scratch(self, rank: int) -> Path:
        return self.tmp / f"rank_{rank}"

    @property
    def decoded(self) -> Path:
        """Decoded bands, which all workers share."""
        return self.tmp / "decoded"

    def vrts(self, rank: int) -> Path:
        """The folder in which a worker writes its VRTs; created on demand."""
        folder = self.scratch(rank) / "wgs84_vrt"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def occupancy(self, product: str) -> Path:
        """Which pixels of a scene are valid and lie in a selected cell."""
        return self.decoded / f"{product}_occupancy.npz"

    def given_mask(self, product: str) -> Path:
        """What the user's mask rules out of a scene, on the scene's grid."""
        return self.decoded / f"{product}_mask.tif"

    def decoded_band(self, product: str, band: str) -> Path:
        return self.decoded / decoded_name(product, band)

    def cell_folder(self, cell_id: str, period: str = "") -> Path:
        """What is made of a cell; ``period`` is a label, empty in a run without periods."""
        return self.composites / cell_id / period

    def composite(self, cell_id: str, band: str, statistic: str = "median", period: str = "") -> Path:
        """The raster of a statistic."""
        return self._of_cell(cell_id, period, f"{band}_{statistic}_clip.tif")

    def count(self, cell_id: str, band: str, period: str = "") -> Path:
        return self.composite(cell_id, band, "count", period)

    def record(self, cell_id: str, band: str, statistic: str = "median", period: str = "") -> Path:
        """The record of a composite and of what was computed with it."""
        return self.composite(cell_id, band, statistic, period).with_suffix(".json")

    def quicklook(self, cell_id: str, period: str = "") -> Path:
        return self._of_cell(cell_id, period, "quicklook.png")

    def stac_item(self, cell_id: str, period: str = "") -> Path:
        """What STAC says of a cell's composites."""
        return self._of_cell(cell_id, period, "stac.json")

    def descriptions(self, cell_id: str, period: str = "") -> tuple[Path, ...]:
        """Files that show or describe the composites of a cell, and are removed when one of these is."""
        picture = self.quicklook(cell_id, period)
        world, place = picture.with_suffix(".pgw"), picture.with_name(f"{picture.name}.aux.xml")
        return picture, world, place, self.stac_item(cell_id, period)

    @property
    def collection(self) -> Path:
        """The STAC collection of all composites."""
        return self.composites / "collection.json"

    @property
    def tile_index(self) -> Path:
        """The outlines of all composites, with their paths, for a GIS."""
        return self.composites / "tile_index.gpkg"

    def _of_cell(self, cell_id: str, period: str, name: str) -> Path:
        """``cell_<cell_id>_<name>`` in the cell's folder, or ``cell_<cell_id>_<period>_<name>`` in the period's."""
        return self.cell_folder(cell_id, period) / "_".join(filter(None, ("cell", cell_id, period, name)))

    @property
    def keys(self) -> Path:
        """Key and certificate of a run, for its batch jobs; there while the run lasts."""
        return self.tmp / "keys"

    def owns(self, folder: Path) -> bool:
        """Whether ``folder`` is ``work_dir``, or lies in a folder of it that a run writes and clears."""
        own = (self.indices, self.logs, self.tmp, self.composites)
        return folder == self.work_dir or any(folder.is_relative_to(each) for each in own)

    def clear_tmp(self) -> None:
        """Remove what ranks left in tmp/, and tmp/ itself if nothing else is in it."""
        for folder in (*self.tmp.glob("rank_*"), self.decoded, self.keys):
            remove_tree(folder)
        with contextlib.suppress(OSError):  # somebody's own files
            self.tmp.rmdir()

    def check_writable(self) -> None:
        """Look whether ``work_dir`` can be written, without writing anything.

        Raises
        ------
        InputError
            If it, or the nearest folder above it that exists, is not a folder that this user can write.
        """
        check_writable("work_dir", self.work_dir)

    def check_composites(self) -> None:
        """Look for the composites of a run.

        Raises
        ------
        InputError
            If ``work_dir`` is not the folder of a run that made some.
        """
        remedy = "give the folder of a run, its --work-dir"
        if not stat.S_ISDIR(check_exists("work_dir", self.work_dir, remedy).st_mode):
            raise InputError("work_dir", self.work_dir, "is not a folder", remedy)
        if not self.composites.is_dir():
            raise InputError("work_dir", self.work_dir, "holds no composites/", remedy)
        if not os.access(self.composites, os.R_OK | os.X_OK):
            raise InputError("work_dir", self.work_dir, "has composites/ that cannot be read", "change its permissions")

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Create the folders and lock them for one run; the lock ends with the process, however that ends.

        What an earlier run left in tmp/ is removed: VRTs, because every run writes them again, and its keys.

        Raises
        ------
        InputError
            If ``work_dir`` cannot be written, another run uses it, one of its folders is somebody else's link, or it is
            not the folder of a run and has something that a run would remove.
        """
        with contextlib.ExitStack() as held:
            self._check_links()
            self._check_nothing_of_others()
            try:
                for folder in (self.indices, self.logs, self.tmp, self.composites):
                    folder.mkdir(parents=True, exist_ok=True)
                lock = held.enter_context(locked(self._lock, wait=False))
            except OSError as error:
                raise self._not_writable(error) from error
            if lock is None:
                holder = self._lock.read_text(encoding="utf-8").strip() or "unknown"
                problem = f"is in use by another run ({holder})"
                raise InputError("work_dir", self.work_dir, problem, "wait until it ends, or give another folder")
            lock.truncate(0)
            with contextlib.suppress(OSError):  # who holds it is not said on a full disk
                os.write(lock.fileno(), f"process {os.getpid()} on {socket.gethostname()}".encode())
            for folder in (*self.tmp.glob("rank_*/wgs84_vrt"), self.decoded, self.keys):
                remove_tree(folder)
            yield

    def _check_links(self) -> None:
        """Somebody else's link would have this user's files written or removed where it leads."""
        for folder in (self.imagery_raw, self.indices, self.logs, self.tmp, self.composites):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                status = folder.lstat()
                if stat.S_ISLNK(status.st_mode) and status.st_uid not in (os.geteuid(), 0):
                    problem = f"has a link {folder.name}/ of another user, which leads to {folder.readlink()}"
                    raise InputError("work_dir", self.work_dir, problem, "replace the link by a folder or by your own")

    def has_run(self) -> bool:
        """Whether ``work_dir`` is the folder of a run, which may have been killed or copied."""
        return any(path.is_file() for path in (self._lock, self.flow_run, self.run_record))

    def _check_nothing_of_others(self) -> None:
        """In a folder that a run takes for the first time, what has the names of its own files is somebody's."""
        if self.has_run():
            return
        vrts = [each for each in sorted(self.tmp.glob("rank_*/wgs84_vrt")) if not each.is_symlink()]
        scratch = [each for folder in vrts for each in sorted(folder.glob("*")) if each.suffix not in _SCRATCH]
        found = [] if self.decoded.is_symlink() else sorted(self.decoded.glob("*"))
        decoded = [each for each in found if _DECODED.fullmatch(each.name) is None]
        for path in (*scratch, *decoded, self.keys, self.report):
            if path.exists() and not path.is_symlink():  # a link is left alone
                name = path.relative_to(self.work_dir)
                problem = f"is not the folder of a run, and holds {name}, which a run would remove or replace"
                raise InputError("work_dir", self.work_dir, problem, f"give another folder, or move {name} away")

    def _not_writable(self, error: OSError) -> InputError:
        if is_full_disk(error):
            return InputError("work_dir", self.work_dir, "has no space left", "free some, or use another disk")
        return InputError(
            "work_dir", self.work_dir, f"cannot be written ({error.strerror})", "give a folder that you can write to"
        )
