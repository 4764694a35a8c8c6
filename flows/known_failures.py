"""Runs that fail for a reason that is known: the state has it in one sentence, and the log needs no traceback.

In the process of a worker Prefect's engine raises the error of a failed flow once more, and logs it as unexpected.
"""

from __future__ import annotations

import logging

from prefect.exceptions import FailedRun, SignatureMismatchError

from s2sr_core.errors import S2SRError

_ENGINE = "Engine execution exited with unexpected exception"
#: Begins what Prefect raises for a failed state that holds a summary.
_SUMMARY = "Unexpected result for failed state"


def _without_known_failures(record: logging.LogRecord) -> bool:
    """False for the engine's record of an error that the flow has put into its state."""
    error = record.exc_info[1] if record.exc_info else None
    if record.msg != _ENGINE or error is None:
        return True
    if isinstance(error, SignatureMismatchError):  # before the flow: nothing else says what is wrong
        record.msg, record.exc_info = f"a parameter is unknown: {error}", None
        return True
    return not (isinstance(error, S2SRError | FailedRun) or str(error).startswith(_SUMMARY))


logging.getLogger("prefect.flow_runs").addFilter(_without_known_failures)
