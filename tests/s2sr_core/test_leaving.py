from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import atexit, sys
from s2sr_core.signals import Leaving

class Torn:
    def __del__(self):
        print("taken apart")

leaving = Leaving()
atexit.register(print, "registered")
kept = Torn()
kept.itself = kept
print("last word")
if len(sys.argv) > 1:
    leaving.with_code(int(sys.argv[1]))
sys.exit(7)
"""


def ended(*words: str) -> tuple[int, list[str]]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.splitlines()


def test_what_is_registered_for_the_end_is_done_and_nothing_is_taken_apart() -> None:
    assert ended("3") == (3, ["last word", "registered"])


def test_without_a_code_a_program_ends_as_any_other() -> None:
    assert ended() == (7, ["last word", "registered", "taken apart"])
