"""What the tasks have in common."""

from __future__ import annotations

import logging
from typing import Any

from prefect.cache_policies import NO_CACHE

#: Every task must run: the records on disk say whether its work is already done, not Prefect's cache.
COMMON: dict[str, Any] = {"cache_policy": NO_CACHE}

#: Reads of a shared filesystem sometimes fail, and a unit can be repeated safely.
RETRIES: dict[str, Any] = {"retries": 1, "retry_delay_seconds": 5}

_HOUR = 3600.0
#: A unit that takes longer than this hangs.
UNIT_TIMEOUT: dict[str, Any] = {"timeout_seconds": 12 * _HOUR}
INDEX_TIMEOUT: dict[str, Any] = {"timeout_seconds": 6 * _HOUR}


def _is_not_the_thread_warning(record: logging.LogRecord) -> bool:
    return "the task is running in a worker thread" not in str(record.msg)


# Dask runs tasks in threads, in which a timeout takes effect at the next Python instruction. That is soon enough here,
# because every window of pixels returns to Python, so Prefect need not warn of it in each task run.
logging.getLogger("prefect.task_runs").addFilter(_is_not_the_thread_warning)
