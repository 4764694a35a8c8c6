from __future__ import annotations

import logging
from pathlib import Path

import pytest

from s2sr_core.logs import log_environment, logged_to


def test_a_log_is_appended_to_while_the_block_runs(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "pipeline_rank0.log"
    for text in ("one", "two"):
        with logged_to(path):
            logging.getLogger("s2sr_core.composites.composite").info(text)
    logging.getLogger("s2sr_core.composites.composite").info("three")
    lines = path.read_text().splitlines()
    assert [line.split()[-1] for line in lines] == ["one", "two"]


def test_a_line_that_comes_while_the_log_is_closed_does_not_open_it_again(tmp_path: Path) -> None:
    path = tmp_path / "pipeline_rank0.log"
    logger = logging.getLogger("s2sr_core")
    before = list(logger.handlers)
    with logged_to(path):
        (handler,) = (each for each in logger.handlers if each not in before)
        logger.info("one")
    handler.handle(logging.makeLogRecord({"msg": "of another thread", "levelno": logging.INFO}))
    assert path.read_text().splitlines()[-1].endswith("one")


def test_an_overridden_setting_is_one_line_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for value, lines in (("YES", 1), ("TRUSTED_MODULES", 0)):
        monkeypatch.setenv("GDAL_VRT_ENABLE_PYTHON", value)
        path = tmp_path / value
        with logged_to(path):
            log_environment()
        assert (path.read_text().count("GDAL_VRT_ENABLE_PYTHON=YES") if path.exists() else 0) == lines
