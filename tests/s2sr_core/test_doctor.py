from __future__ import annotations

from pathlib import Path

import pytest

from s2sr_core import doctor
from s2sr_core.geo import jp2_check
from s2sr_core.geo.gdal_runtime import gdal


def test_a_good_installation_has_nothing_wrong(tmp_path: Path) -> None:
    findings = {finding.name: finding for finding in doctor.examine(tmp_path / "not" / "yet", {})}
    assert {name for name, finding in findings.items() if finding.remedy} <= {"disk"}
    assert findings["GDAL"].detail == gdal.__version__
    assert findings["pixel function"].detail == "executed"
    assert "GB free" in findings["disk"].detail
    assert {"JPEG 2000", "GDAL with numpy", "PROJ data", "prefect", "dask"} <= set(findings)


def test_what_is_wrong_comes_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python in VRTs switched off altogether, PROJ without a database."""
    monkeypatch.setattr(jp2_check, "check_drivers", dict)
    with gdal.config_option("GDAL_VRT_ENABLE_PYTHON", "NO"):
        findings = {finding.name: finding for finding in doctor.examine(tmp_path, {})}
    assert "one environment" in findings["pixel function"].remedy
    assert "OpenJPEG" in findings["JPEG 2000"].remedy
    assert not findings["GDAL"].remedy


def test_an_overridden_setting_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GDAL_VRT_ENABLE_PYTHON", "YES")
    findings = {finding.name: finding for finding in doctor.examine(tmp_path, {})}
    assert "GDAL_VRT_ENABLE_PYTHON=YES" in findings["pixel function"].detail
