"""What the suite promises the people who run it: no test hangs, sleeps, or touches a process that it did not start."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.waiting import DEADLINE, until

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
SOURCES = sorted(TESTS.rglob("*.py"))
#: Programs and functions that find processes by their name, and so find those of others.
SEARCHES = re.compile(r"\b(process_iter|pids|pkill|pgrep|killall|pidof|kill_all)\b")


def _sleeps(source: Path) -> list[str]:
    """Calls of ``time.sleep`` with a number."""
    return [
        f"{source.relative_to(ROOT)}:{node.lineno}"
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("time.sleep", "sleep")
        and node.args
        and isinstance(node.args[0], ast.Constant)
    ]


def test_tests_wait_for_a_state_not_for_a_time() -> None:
    assert [place for source in SOURCES for place in _sleeps(source)] == []


def test_tests_signal_only_processes_that_they_started() -> None:
    found = [
        f"{source.relative_to(ROOT)}:{number}: {line.strip()}"
        for source in SOURCES
        if source != Path(__file__)
        for number, line in enumerate(source.read_text(encoding="utf-8").splitlines(), start=1)
        if SEARCHES.search(line)
    ]
    assert found == []


def test_every_test_has_a_time_limit(request: pytest.FixtureRequest) -> None:
    assert float(request.config.getini("timeout")) > DEADLINE  # so that a wait says what it waited for
    for item in request.session.items:
        marker = item.get_closest_marker("timeout")
        assert marker is None or marker.args[0] > 0, item.nodeid


def test_a_test_that_hangs_fails_and_shows_where_it_was(tmp_path: Path) -> None:
    (tmp_path / "test_hanging.py").write_text("import threading\n\ndef test_it():\n    threading.Event().wait()\n")
    done = _pytest(str(tmp_path), "-c", str(ROOT / "pyproject.toml"), "-o", "timeout=1")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Failed: Timeout" in done.stdout
    assert "threading.Event().wait()" in done.stdout
    assert "1 failed" in done.stdout


def test_sigint_ends_a_program_that_a_test_started() -> None:
    words = [sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(3600)"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        until(lambda: process.poll() is not None)
    assert process.returncode == -signal.SIGINT


def test_sigint_does_so_in_a_suite_that_runs_in_the_background() -> None:
    """There, shells have their children ignore it, as ``trap "" INT`` does."""
    name = f"{Path(__file__).relative_to(ROOT)}::{test_sigint_ends_a_program_that_a_test_started.__name__}"
    done = _pytest(name, shell='trap "" INT; exec "$@"')
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_ci_runs_both_groups_and_the_demo() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert [line for line in script if line.startswith("make ")] == ["make test", "make test-slow", "make demo"]


def _pytest(*words: str, shell: str = 'exec "$@"') -> subprocess.CompletedProcess[str]:
    """A pytest of its own; ``shell`` starts it."""
    command = ["sh", "-c", shell, "sh", sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words]
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=False, timeout=DEADLINE)
