"""The pages that teach: the messages of troubleshooting are those of the program."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_PARTS = ("deployments", "flows", "s2sr", "s2sr_core", "tasks")


def test_the_pages_show_commands_and_python_and_a_little_of_r() -> None:
    for page in ("tutorial.md", "recipes.md", "python.md"):
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        assert set(re.findall(r"^```(\w+)$", text, re.MULTILINE)) <= {"sh", "python", "r"}, page


def words() -> str:
    """Every text in the program, in no order."""
    texts = []
    for path in [path for part in _PARTS for path in (ROOT / part).rglob("*.py")]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        texts += [
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
    return "\n".join(texts)


def test_the_messages_of_troubleshooting_are_the_programs() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8").partition("## Results that look wrong")[0]
    messages = [
        message
        for line in text.splitlines()
        if line.startswith("| `")
        for message in re.findall(r"`([^`]+)`", line.split(" | ")[0])
    ]
    assert len(messages) > 15
    there = words()
    fragments = [part.strip() for message in messages for part in message.split("…") if part.strip()]
    assert [fragment for fragment in fragments if fragment not in there] == []
