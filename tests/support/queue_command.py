"""The commands of a small batch system: ``submit SCRIPT``, ``state ID``, ``cancel ID``. Its jobs are processes here.

S2SR_TEST_QUEUE names the folder that holds its state. Jobs of the queue ``closed`` never start; there is no queue
``nowhere``. Imports as little as it can, since each command is a process of its own.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil


def submit(folder: Path, script: str) -> int:
    text = Path(script).read_text()
    directives = dict(re.findall(r"^#QUEUE (\w+)=(.*)$", text, re.MULTILINE))
    if directives["queue"] == "nowhere":
        print("submit: error: there is no queue nowhere", file=sys.stderr)
        return 1
    number = 1 + len(list(folder.glob("*.json")))
    job, record = folder / f"{number}.sh", {}
    job.write_text(text)
    if directives["queue"] != "closed":
        with Path(directives["logs"], f"s2sr-{number}.out").open("wb") as log:
            process = subprocess.Popen(
                ["bash", str(job)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        record = {"pid": process.pid, "created": psutil.Process(process.pid).create_time()}
    (folder / f"{number}.json").write_text(json.dumps(record))
    print(f"job {number} is submitted")
    return 0


def state(folder: Path, number: str) -> int:
    path = folder / f"{number}.json"
    if not path.exists():
        print(f"state: error: job {number} is unknown", file=sys.stderr)
        return 1
    if not json.loads(path.read_text()):
        print("PENDING QueueIsClosed")
    elif running(path):
        print("RUNNING")
    return 0


def cancel(folder: Path, number: str) -> int:
    path = folder / f"{number}.json"
    if running(path):
        os.killpg(json.loads(path.read_text())["pid"], signal.SIGKILL)
    path.write_text(json.dumps({"pid": 0, "created": 0}))
    return 0


def running(path: Path) -> bool:
    """Whether the process that was started for the job is there, and not another that got its number."""
    record = json.loads(path.read_text())
    try:
        process = psutil.Process(record.get("pid", 0))
        return process.create_time() == record.get("created") and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


if __name__ == "__main__":
    commands = {"submit": submit, "state": state, "cancel": cancel}
    raise SystemExit(commands[sys.argv[1]](Path(os.environ["S2SR_TEST_QUEUE"]), sys.argv[2]))
