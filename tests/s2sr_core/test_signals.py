"""Signals in a program of its own: they are heard wherever it is, and it ends with one sentence."""

from __future__ import annotations

import random
import signal
import subprocess
import sys

import psutil
import pytest
from support.waiting import until

#: Works in tiny pieces until it is to stop. It is often in a callback of the garbage collector, where what a
#: handler raises is dropped: that must not drop the signal.
WORK = """
import gc, sys
from s2sr_core import stopping
from s2sr_core.command_line import run
from s2sr_core.signals import handlers_kept_quiet

def main(words):
    gc.callbacks.append(lambda phase, info: sum(range(20_000)))
    print("works", flush=True)
    if "quiet" in sys.argv:
        with handlers_kept_quiet():
            work()
    work()

def work():
    while True:
        gc.collect(0)
        stopping.check()

sys.exit(run(main, "tool"))
"""
#: Never looks whether it is to stop, and has a child.
DEAF = """
import subprocess, sys
from s2sr_core.command_line import run
from s2sr_core.signals import handlers_kept_quiet

def main(words):
    with subprocess.Popen(["sleep", "600"]) as child, handlers_kept_quiet():
        print("works", flush=True)
        while True:
            sum(range(1000))

sys.exit(run(main, "tool"))
"""
SENTENCE = "tool: interrupted; finished composites are kept, and the same command continues from there."


def started(code: str, *words: str) -> subprocess.Popen[str]:
    """The program, which ignores nothing, even if nohup started the tests."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "works\n"
    return process


@pytest.mark.parametrize("words", [(), ("quiet",)])
def test_each_signal_is_heard_at_whatever_moment(words: tuple[str, ...]) -> None:
    rng = random.Random(0)
    for number in rng.choices([signal.SIGINT, signal.SIGTERM, signal.SIGHUP], k=6):
        with started(WORK, *words) as process:
            for _ in range(rng.randrange(50)):
                psutil.Process(process.pid).cpu_times()  # some moments pass
            process.send_signal(number)
            _, errors = process.communicate(timeout=60)
        assert process.returncode == 128 + number, errors
        said = [line for line in errors.splitlines() if "interrupted" in line]
        assert said == [SENTENCE]
        assert errors.splitlines()[-1] == SENTENCE


def test_a_second_ctrl_c_ends_at_once_and_leaves_no_process() -> None:
    """It is sent until it is taken for the second: twice within a moment is not."""
    with started(DEAF) as process:
        (child,) = psutil.Process(process.pid).children()

        def has_ended() -> bool:
            process.send_signal(signal.SIGINT)
            return process.poll() is not None

        until(has_ended)
        assert process.stderr is not None
        assert process.stderr.read() == f"{SENTENCE}\n"
        assert process.returncode == 130
        until(lambda: not child.is_running())


def test_a_closed_terminal_does_not_end_what_nohup_started() -> None:
    ignoring = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    with started(ignoring + WORK) as process:
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
