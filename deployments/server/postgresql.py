"""A PostgreSQL of Debian's packages as the database of ``make serve``, with its data in the folder of the service."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from s2sr_core.errors import InputError

#: Where Debian keeps the programs that only administrators call, in a folder for each version.
_DEBIAN = Path("/usr/lib/postgresql")
#: The account of Debian's package, which the server has if this process is root's: it refuses to be root.
_ACCOUNT = "postgres"
#: The role of Prefect's server, and its database, which every new cluster has.
_ROLE, _DATABASE = "prefect", "postgres"
_INSTALL = "install Debian's package postgresql, or use sqlite"


@dataclass(frozen=True)
class Postgresql:
    """How to start the server.

    Attributes
    ----------
    words: its command.
    account: the account that it runs under, as arguments of ``subprocess.Popen``.
    url: of its database, for Prefect.
    """

    words: tuple[str, ...]
    account: Mapping[str, Any]
    url: str


@contextlib.contextmanager
def postgresql(folder: Path) -> Iterator[Postgresql]:
    """Make the cluster of ``folder`` if there is none, and a folder for its socket, which lasts as long as the block.

    The server listens nowhere else, and only its account and root can enter the folder of the socket.

    Raises
    ------
    InputError
        If PostgreSQL is not installed, or its account cannot use ``folder``.
    """
    account = _ACCOUNT if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    data = folder.absolute()
    _prepare(data, account)
    with tempfile.TemporaryDirectory(prefix="s2sr-postgresql-") as socket:
        shutil.chown(socket, account)
        words = (_program("postgres"), "-D", str(data), "-k", socket, "-c", "listen_addresses=")
        yield Postgresql(words, _arguments(account), f"postgresql+asyncpg://{_ROLE}@/{_DATABASE}?host={quote(socket)}")


def is_ready(database: Postgresql) -> bool:
    """Whether the server takes connections."""
    socket = database.words[database.words.index("-k") + 1]
    done = subprocess.run([_program("pg_isready"), "--quiet", "--host", socket], check=False)  # noqa: S603
    return done.returncode == 0


def _prepare(data: Path, account: str) -> None:
    """Make the cluster, or end a server of it that a killed service left."""
    try:
        if (data / "PG_VERSION").exists():
            if (data / "postmaster.pid").exists():
                _call(account, data, _program("pg_ctl"), "stop", "--pgdata", str(data), "--mode", "fast", check=False)
            return
        initdb = _program("initdb")
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.chown(data, account)
        words = ["--pgdata", str(data), "--username", _ROLE, "--auth-local", "trust", "--auth-host", "reject"]
        _call(account, data, initdb, *words, "--encoding", "UTF8", "--locale", "C.UTF-8")
    except LookupError as error:
        raise InputError("database", "postgresql", f"needs the account {account}", _INSTALL) from error
    except (OSError, subprocess.CalledProcessError) as error:
        why = error.stderr.strip().splitlines()[-1] if isinstance(error, subprocess.CalledProcessError) else error
        remedy = "use a checkout in a folder that this account can enter, such as one of /srv"
        raise InputError("folder", data, f"cannot be used by the account {account} ({why})", remedy) from error


def _program(name: str) -> str:
    versions = sorted(_DEBIAN.glob("*/bin"), key=lambda folder: folder.parent.name.zfill(4))
    found = shutil.which(name, path=os.pathsep.join([*map(str, reversed(versions)), os.environ.get("PATH", "")]))
    if found is None:
        raise InputError("database", "postgresql", f"has no program {name} on this machine", _INSTALL)
    return found


def _call(account: str, folder: Path, *words: str, check: bool = True) -> None:
    subprocess.run(words, cwd=folder, check=check, capture_output=True, text=True, **_arguments(account))  # noqa: S603


def _arguments(account: str) -> dict[str, Any]:
    if os.geteuid():
        return {}
    return {"user": account, "group": pwd.getpwnam(account).pw_gid, "extra_groups": ()}
