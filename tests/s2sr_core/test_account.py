from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from s2sr_core.account import ACCOUNT, account_hidden, account_variable, without_account
from s2sr_core.errors import InputError
from s2sr_core.sources.cdse.settings import Credentials


def inherited() -> str:
    """The environment of a process that is started now."""
    return subprocess.run(["cat", "/proc/self/environ"], capture_output=True, text=True, check=True).stdout


def test_children_do_not_inherit_the_account_and_the_login_still_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks may overlap: a cluster's lies inside a run's."""
    monkeypatch.setenv("CDSE_USERNAME", "somebody")
    monkeypatch.setenv("CDSE_PASSWORD", "hunter2")
    assert "hunter2" in inherited()
    with account_hidden():
        with account_hidden():
            assert "CDSE_" not in inherited()
        assert "CDSE_" not in inherited()
        assert "CDSE_PASSWORD" not in os.environ
        assert Credentials.from_environment().password() == "hunter2"
        assert account_variable("CDSE_PASSWORD_FILE") == ""
    assert os.environ["CDSE_PASSWORD"] == "hunter2"
    assert "CDSE_PASSWORD" not in without_account(os.environ)
    monkeypatch.delenv("CDSE_USERNAME")
    with account_hidden(), pytest.raises(InputError, match="CDSE_USERNAME"):
        Credentials.from_environment()


def test_a_process_that_forgets_the_account_does_not_show_it_either() -> None:
    """What the system shows of its environment, which no change of ``os.environ`` alters."""
    code = """
import os
from pathlib import Path
from s2sr_core.account import forget_account
forget_account()
print(Path("/proc/self/environ").read_bytes().replace(b"\\0", b"\\n").decode())
print(sorted(os.environ.keys() & {names!r}))
"""
    account = dict.fromkeys(ACCOUNT, "hunter2") | {"S2SR_OTHER": "hunter3"}
    done = subprocess.run(
        [sys.executable, "-c", code.replace("{names!r}", repr(set(ACCOUNT)))],
        env=os.environ | account, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "hunter2" not in done.stdout
    assert "CDSE_" not in done.stdout
    assert "S2SR_OTHER=hunter3" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
