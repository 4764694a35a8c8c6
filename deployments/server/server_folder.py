"""The folder of a run's own Prefect server, on a disk of this machine; and what dead runs left of such servers."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import psutil

from deployments.server.own_server import LOCK
from s2sr_core.files import locked, read_record, remove_tree

_PREFIX, _RECORD = "s2sr-server-", "run.json"
#: Filesystems that several machines share: locks and SQLite are slow there, or do not work at all.
_SHARED = (
    *("nfs", "lustre", "gpfs", "beegfs", "ceph", "cifs", "smb", "afs"),
    *("panfs", "pvfs", "glusterfs", "wekafs", "9p", "fuse"),
)


@contextlib.contextmanager
def server_folder() -> Iterator[Path]:
    """A folder for the server of this run, removed at the end; first, what dead runs left is ended and removed."""
    parent = local_folder()
    for orphan in parent.glob(f"{_PREFIX}*"):
        end_orphan(orphan)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    try:
        yield folder
    finally:
        remove_tree(folder)


def record_server(folder: Path, server: int) -> None:
    """Note in the folder which process is the server, and that this process is the run."""
    processes = {"run": _identity(os.getpid()), "server": _identity(server)}
    (folder / _RECORD).write_text(json.dumps(processes), encoding="utf-8")


def end_orphan(folder: Path) -> None:
    """Kill the server of a run whose process is gone, and remove its folder; others are left alone.

    Only this user's folders count, and only processes that are still the ones that the record names.
    """
    with contextlib.suppress(OSError):
        if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
            return
        record = read_record(folder / _RECORD) or {}
        if "run" not in record or _process(record["run"]) is not None:
            return
        if (server := _process(record.get("server"))) is not None:
            with contextlib.suppress(psutil.Error):
                server.kill()
                server.wait(10)
        with locked(folder / LOCK, wait=False) as lock:
            if lock is not None:  # else its server runs where this process cannot see it, in a container perhaps
                remove_tree(folder)


def local_folder() -> Path:
    """The first folder for temporary files that is on a disk of this machine; if none is, the first of all."""
    candidates = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp"), Path("/dev/shm")]  # noqa: S108
    usable = [folder for folder in candidates if os.access(folder, os.W_OK | os.X_OK)]
    return next((folder for folder in usable if not _is_shared(folder)), candidates[0])


def _is_shared(folder: Path) -> bool:
    """Whether the filesystem of ``folder`` is one that several machines share, as far as the kernel says."""
    mounts = {Path(mount.mountpoint): mount.fstype for mount in psutil.disk_partitions(all=True)}
    resolved = folder.resolve()
    filesystem = next((mounts[path] for path in (resolved, *resolved.parents) if path in mounts), "")
    return filesystem.startswith(_SHARED)


def _identity(pid: int) -> tuple[int, float]:
    """A process, also after its number was given to another."""
    return pid, psutil.Process(pid).create_time()


def _process(identity: object) -> psutil.Process | None:
    """The process, if it still runs."""
    with contextlib.suppress(psutil.Error, TypeError, ValueError):
        pid, created = cast("tuple[int, float]", identity)  # of a file that somebody may have changed
        process = psutil.Process(pid)
        if process.create_time() == created and process.status() != psutil.STATUS_ZOMBIE:
            return process
    return None
