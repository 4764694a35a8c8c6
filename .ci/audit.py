# /// script
# requires-python = ">=3.12"
# dependencies = ["pip-audit>=2.10,<3"]
# ///
"""Look up the known vulnerabilities of pinned requirements with pip-audit: ``audit.py REQUIREMENTS``.

Ends with 0 if there are none, with 1 if there are, and with 2, saying so, if no advisories can be reached: pip-audit by
itself calls it a success if its service knows none of the packages, as a mirror of PyPI without advisories does.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

#: A release with published advisories (GHSA-462w-v97r-4m45 is one): who reports none of them has none to give.
_PROBE = "jinja2==2.10"
_SERVICES = ("pypi", "osv")


def main(requirements: Path) -> int:
    """Audit ``requirements`` by the first service that has advisories."""
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder) / "probe.txt"
        probe.write_text(_PROBE + "\n", encoding="utf-8")
        reasons = []
        for service in _SERVICES:
            found, reason = _audit(probe, service, "--no-deps")
            if found is not None and any(dependency.get("vulns") for dependency in found):
                return _report(requirements, service)
            reasons.append(f"{service}: {reason or 'reports no advisory of ' + _PROBE}")
    print(f"No advisories can be reached, nothing was audited ({'; '.join(reasons)}).", file=sys.stderr)
    return 2


def _report(requirements: Path, service: str) -> int:
    found, reason = _audit(requirements, service, "--require-hashes")
    if found is None:
        print(f"Nothing was audited ({service}: {reason}).", file=sys.stderr)
        return 2
    skipped = [dependency for dependency in found if "skip_reason" in dependency]
    vulnerable = [dependency for dependency in found if dependency.get("vulns")]
    for dependency in skipped:
        print(f"{dependency['name']} was not audited: {dependency['skip_reason']}")
    for dependency in vulnerable:
        for advisory in dependency["vulns"]:
            fixed = ", ".join(advisory["fix_versions"]) or "no release"
            print(f"{dependency['name']} {dependency['version']}: {advisory['id']}, fixed in {fixed}")
    print(f"{service}: {len(found) - len(skipped)} packages audited, {len(vulnerable)} with known vulnerabilities.")
    return 1 if vulnerable else 0


def _audit(requirements: Path, service: str, hashes: str) -> tuple[list[dict[str, Any]] | None, str]:
    """What pip-audit found, package by package; None and why if it failed."""
    words = ["--requirement", str(requirements), "--disable-pip", hashes, "--vulnerability-service", service]
    done = subprocess.run(  # noqa: S603 - words of this file and the path given
        [sys.executable, "-m", "pip_audit", *words, "--format", "json", "--progress-spinner", "off"],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except ValueError:
        return None, (done.stderr.strip().splitlines() or ["no answer"])[-1]
    return found, ""


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
