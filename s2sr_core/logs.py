"""One log file per rank, ``logs/pipeline_rank<R>.log``: rank 0 is the flow, workers are counted from 1."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from s2sr_core.files import open_to_append
from s2sr_core.geo.gdal_runtime import overridden_python_setting

_FORMAT = "%(asctime)s %(levelname)-7s %(message)s"
_logger = logging.getLogger("s2sr_core")


class _LogFile(logging.FileHandler):
    """Appends to a regular file, and never to what a link leads to."""

    _ended = False

    def _open(self) -> IO[str]:  # type: ignore[override]  # any text file will do
        return open_to_append(Path(self.baseFilename))

    def emit(self, record: logging.LogRecord) -> None:
        """What another thread says after the file was closed is lost: :mod:`logging` would open it again, for good."""
        if not self._ended:
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """On a full disk lines are lost, and what matters is said elsewhere."""
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)

    def close(self) -> None:
        self._ended = True
        with contextlib.suppress(OSError):
            super().close()


@contextlib.contextmanager
def logged_to(path: Path) -> Iterator[None]:
    """While the block runs, append the log messages of ``s2sr_core`` (INFO and above) to ``path``, and nowhere else."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = _LogFile(path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter(_FORMAT))
    level, propagate = _logger.level, _logger.propagate
    _logger.addHandler(handler)
    _logger.setLevel(logging.INFO)
    _logger.propagate = False
    try:
        yield
    finally:
        _logger.removeHandler(handler)
        _logger.setLevel(level)
        _logger.propagate = propagate
        handler.close()


def log_environment() -> None:
    """Log the settings of the environment that this program overrides."""
    if (setting := overridden_python_setting()) is not None:
        _logger.warning(
            "GDAL_VRT_ENABLE_PYTHON=%s is overridden by TRUSTED_MODULES: a VRT may only call functions of this program",
            setting,
        )
