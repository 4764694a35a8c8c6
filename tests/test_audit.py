from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / ".ci" / "audit.py"
#: In place of pip-audit and the services that it asks: what each knows of a release, from the environment.
STUB = """
import json, os, sys
words = sys.argv[1:]
service = words[words.index("--vulnerability-service") + 1]
answers = json.loads(os.environ["ANSWERS"])[service]
if isinstance(answers, str):
    sys.exit("Traceback (most recent call last):\\n" + answers)
found = []
for line in open(words[words.index("--requirement") + 1]):
    name, _, version = line.strip().partition("==")
    known = answers.get(line.strip())
    if known is None:
        found.append({"name": name, "skip_reason": "not found"})
    else:
        found.append({"name": name, "version": version, "vulns": [{"id": id, "fix_versions": ["9"]} for id in known]})
print(json.dumps({"dependencies": found, "fixes": []}))
"""
PROBE = '"jinja2==2.10": ["PYSEC-2019-217"]'
UNREACHED = '"ConnectionError: no route to host"'


def audited(tmp_path: Path, answers: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "pip_audit.py").write_text(STUB)
    (tmp_path / "requirements.txt").write_text("aaa==1.0\nbbb==2.0\n")
    return subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path / "requirements.txt")],
        env=os.environ | {"PYTHONPATH": str(tmp_path), "ANSWERS": answers},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("answers", "code", "sentence"),
    [
        (f'{{"pypi": {{{PROBE}, "aaa==1.0": [], "bbb==2.0": []}}}}', 0, "pypi: 2 packages audited, 0 with"),
        (f'{{"pypi": {{{PROBE}, "aaa==1.0": ["X-1"], "bbb==2.0": []}}}}', 1, "aaa 1.0: X-1, fixed in 9\n"),
        (f'{{"pypi": {{{PROBE}, "bbb==2.0": []}}}}', 0, "aaa was not audited: not found\npypi: 1 packages"),
        (f'{{"pypi": {UNREACHED}, "osv": {{{PROBE}, "aaa==1.0": [], "bbb==2.0": []}}}}', 0, "osv: 2 packages"),
    ],
)
def test_the_first_service_that_has_advisories_is_asked(tmp_path: Path, answers: str, code: int, sentence: str) -> None:
    done = audited(tmp_path, answers)
    assert (done.returncode, done.stderr) == (code, "")
    assert sentence in done.stdout


def test_nothing_audited_is_said_and_is_no_success(tmp_path: Path) -> None:
    """A mirror of PyPI knows releases but no advisories: pip-audit by itself calls that "none found"."""
    done = audited(tmp_path, f'{{"pypi": {{"jinja2==2.10": []}}, "osv": {UNREACHED}}}')
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "No advisories can be reached, nothing was audited (pypi: reports no advisory of jinja2==2.10; "
        "osv: ConnectionError: no route to host).\n"
    )
