"""The service with PostgreSQL, as root and as another user; it comes from Debian's package."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from support.serving import ROOT, Service
from support.waiting import until

from deployments.server.postgresql import is_ready, postgresql
from s2sr_core.errors import InputError

pytestmark = pytest.mark.skipif(
    not any(Path("/usr/lib/postgresql").glob("*/bin/postgres")), reason="Debian's package postgresql is not installed"
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Of this user, but other accounts can enter it, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="s2sr-tests-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


def as_plain_user(call: Callable[[], None]) -> None:
    """In a copy of this process, as nobody if this is root; what goes wrong there is in this test's error output.

    The copy ends at once: what other tests left to be done at the end of this process is not its business, and made a
    process of multiprocessing end with 1, without a word.
    """
    number = os.fork()
    if not number:
        code = 1
        try:
            if os.geteuid() == 0:
                account = pwd.getpwnam("nobody")
                os.setgroups([])
                os.setgid(account.pw_gid)
                os.setuid(account.pw_uid)
            call()
            code = 0
        except BaseException:  # noqa: BLE001  # pytest's own copy must not go on
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) == 0


def test_a_plain_user_has_a_cluster_which_ends_the_server_that_a_killed_service_left(folder: Path) -> None:
    data = folder / "mine" / "postgresql"
    data.parent.mkdir()
    data.parent.chmod(0o777)

    def twice() -> None:
        with postgresql(data) as database:
            left = subprocess.Popen(database.words, stderr=subprocess.DEVNULL, **database.account)
            until(lambda: is_ready(database))
            assert data.stat().st_uid == os.geteuid()
        with postgresql(data) as database:
            assert left.wait() == 0
            again = subprocess.Popen(database.words, stderr=subprocess.DEVNULL, **database.account)
            until(lambda: is_ready(database))
            again.terminate()
            assert again.wait() == 0

    as_plain_user(twice)


def test_a_folder_that_its_account_cannot_enter_is_refused_in_one_sentence(folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir()
    closed.chmod(0)
    refused = pytest.raises(InputError, match=r"cannot be used by the account \w+ \(.*\); use a checkout")
    with refused, postgresql(closed / "postgresql"):
        pass


def test_the_service_keeps_its_records_in_a_postgresql_that_ends_with_it(folder: Path) -> None:
    shutil.copy(ROOT / "prefect.yaml", folder)
    service = Service(folder, "--no-sandbox", "--database", "postgresql")
    service.start()
    try:
        assert len(service.post("/deployments/filter", {})) == 7
        assert (folder / "service" / "postgresql" / "PG_VERSION").exists()
        assert not list((folder / "service").rglob("*.db"))
    finally:
        family = service.family()
        code = service.stop()
        service.api.close()
    _, alive = psutil.wait_procs(family, timeout=0)
    assert (code, alive) == (0, [])
    assert not (folder / "service" / "postgresql" / "postmaster.pid").exists()
