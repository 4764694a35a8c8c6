"""The process of a run's own Prefect server: it ends as soon as the run's process does, however that ended.

Its standard input is a pipe whose other end only the run's process has. When that process is gone, even by SIGKILL, the
pipe is at its end. The database is in a folder of the run; that is removed, too.

    python -P -m deployments.server.own_server FOLDER 127.0.0.1 4200
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
import sys
import threading
from pathlib import Path

from deployments.process.copies import imports_uncollected
from s2sr_core.files import locked, remove_tree, written_atomically
from s2sr_core.user_folders import cache_folder

#: What the folder holds: the lock of the server's process, and the database.
LOCK, DATABASE = "lock", "prefect.db"


def main() -> None:
    """Serve until standard input ends."""
    serve(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))


def serve(folder: Path, host: str, port: int) -> None:
    """Serve until standard input ends, also in a process that has imported Prefect with other settings."""
    with locked(folder / LOCK, wait=True):
        threading.Thread(target=_end_with_run, args=(folder,), daemon=True).start()
        if "prefect.context" in sys.modules:
            from prefect.context import refresh_global_settings_context

            refresh_global_settings_context()
        prepare(folder / DATABASE)
        _serve(host, port)


def _serve(host: str, port: int) -> None:
    """As ``prefect server start`` does it, whose command line and its imports cost a second."""
    with imports_uncollected():
        import uvicorn
        from prefect.server.api.server import create_app
        from prefect.settings import PREFECT_SERVER_API_KEEPALIVE_TIMEOUT

        application = create_app(final=True)
    uvicorn.run(
        application,
        host=host,
        port=port,
        timeout_keep_alive=PREFECT_SERVER_API_KEEPALIVE_TIMEOUT.value(),
        access_log=False,
    )


def _end_with_run(folder: Path) -> None:
    while os.read(0, 1):
        pass
    remove_tree(folder)
    os._exit(0)


def prepare(database: Path) -> None:
    """Make the tables. That takes many seconds, so a copy is kept for the next runs with the same version of Prefect.

    ``database`` is where Prefect's settings say that it is.
    """
    from prefect import __version__ as version

    template = cache_folder() / f"prefect-{version}.db"
    with contextlib.suppress(OSError, sqlite3.Error):
        shutil.copyfile(template, database)
        if _has_tables(database):
            return
    database.unlink(missing_ok=True)
    from prefect.server.database import provide_database_interface

    asyncio.run(provide_database_interface().create_db())
    with contextlib.suppress(OSError, sqlite3.Error), written_atomically(template) as temporary:
        _copy(database, temporary)


def _has_tables(database: Path) -> bool:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        healthy: bool = connection.execute("PRAGMA quick_check").fetchone() == ("ok",)
        tables: bool = connection.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)
        return healthy and tables


def _copy(database: Path, target: Path) -> None:
    with contextlib.closing(sqlite3.connect(database)) as source, contextlib.closing(sqlite3.connect(target)) as copy:
        source.backup(copy)


if __name__ == "__main__":
    main()
