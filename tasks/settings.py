"""What the tasks have in common."""

from __future__ import annotations

import logging
from typing import Any

from prefect.cache_policies import NO_CACHE

#: Every task must run: whether its work is done already is told by the records on disk, not by Prefect's cache.
COMMON: dict[str, Any] = {"cache_policy": NO_CACHE}

#: Reads of a shared filesystem fail now and then, and a unit can be repeated safely.
RETRIES: dict[str, Any] = {"retries": 1, "retry_delay_seconds": 5}

_HOUR = 3600.0
#: A unit of computing that takes longer hangs.
UNIT_TIMEOUT: dict[str, Any] = {"timeout_seconds": 12 * _HOUR}
INDEX_TIMEOUT: dict[str, Any] = {"timeout_seconds": 6 * _HOUR}


def _is_not_the_thread_warning(record: logging.LogRecord) -> bool:
    return "the task is running in a worker thread" not in str(record.msg)


# Dask runs tasks in threads, where a timeout takes effect at the next Python instruction; that is soon enough here,
# where every window of pixels comes back to Python, and Prefect need not warn of it once for each task run.
logging.getLogger("prefect.task_runs").addFilter(_is_not_the_thread_warning)
