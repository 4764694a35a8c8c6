from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest

from s2sr_core import progress as module
from s2sr_core.progress import progress

CODE = """
from s2sr_core.progress import progress
with progress("scenes", 3) as advance:
    for _ in range(3):
        advance()
"""


def test_in_a_terminal_there_is_a_bar_with_counts(tmp_path) -> None:
    """A real pseudo-terminal: what rich draws holds the title and the count, and ends at the total."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", CODE], stderr=follower, env={**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    )
    os.close(follower)
    drawn = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        drawn += part
    os.close(leader)
    assert process.wait() == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn.decode())
    assert "scenes" in text
    assert "3/3" in text
    assert "━" in text


def test_elsewhere_there_are_plain_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE", 0.0)
    with progress("scenes", 3) as advance:
        for _ in range(3):
            advance()
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"scenes: 1 of 3, about \d+ s left \(\d+ s\)", lines[0])
    assert re.fullmatch(r"scenes: 3 of 3 \(\d+ s\)", lines[-1])
    assert len(lines) == 3


def test_an_unknown_total_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("products found", None) as advance:
        advance()
        advance()
    assert capsys.readouterr().err.startswith("products found: 2 (")
