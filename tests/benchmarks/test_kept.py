"""The made-up folder of a large run, made small: the program must find that there is nothing to do in it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import s2sr_pipeline
from benchmarks import kept


def test_a_run_finds_all_products_and_composites_and_has_nothing_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = kept.make(tmp_path, composites=4, scenes=3)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["s2sr_pipeline.py", *options])
    monkeypatch.setitem(sys.modules, "flows.pipeline", None)  # importing it would be an error
    for name in ("PREFECT_API_URL", "PREFECT_PROFILES_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    assert s2sr_pipeline.main() == 0
    said = capsys.readouterr().out
    assert said.startswith("nothing to do: 4 composites of 2 cells")
    assert "0 written, 4 kept" in said
