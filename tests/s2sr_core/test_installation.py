from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from s2sr_core.installation import GDAL_REMEDY, require_gdal

ROOT = Path(__file__).resolve().parents[2]


def test_with_gdal_nothing_happens() -> None:
    require_gdal("tool")


def test_without_gdal_a_program_ends_with_a_sentence_that_names_both_extras() -> None:
    """``-S`` leaves out all that is installed, GDAL's bindings among it."""
    code = "from s2sr_core.installation import require_gdal; require_gdal('tool'); print('not ended')"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"tool: GDAL's Python bindings (osgeo) are not installed; {GDAL_REMEDY}.\n"
    assert "pip install 's2sr[gdal-wheel]'" in GDAL_REMEDY
    assert "pip install 's2sr[gdal]'" in GDAL_REMEDY
