"""Prefect's settings for programs that show progress and results themselves."""

from __future__ import annotations

#: Of the environment, unless it has them already. Prefect reads them when it is imported.
QUIET_PREFECT = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "DO_NOT_TRACK": "1",
}
