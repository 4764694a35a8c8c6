"""What the engine logs when a flow run of a worker has failed: its own logger, with an error as it raises it."""

from __future__ import annotations

import logging

import pytest
from prefect.exceptions import FailedRun, SignatureMismatchError

from flows import known_failures
from s2sr_core.errors import InputError, SourceError

assert known_failures  # which the flows import
MESSAGE = "Engine execution exited with unexpected exception"


def logged(error: Exception, message: str, caplog: pytest.LogCaptureFixture) -> str:
    logger = logging.getLogger("prefect.flow_runs")
    handlers, logger.handlers = logger.handlers, [caplog.handler]  # Prefect's own would look for a flow run
    propagates, logger.propagate = logger.propagate, False
    try:
        raise error
    except Exception:
        logger.exception(message)
    finally:
        logger.handlers, logger.propagate = handlers, propagates
    return caplog.text


@pytest.mark.parametrize(
    "error",
    [
        InputError("start", "2030", "is not before end", "give an earlier start"),
        SourceError("no answer"),
        FailedRun("3 composites failed"),
        TypeError("Unexpected result for failed state: Summary(...)"),
    ],
)
def test_a_failure_that_the_state_explains_has_no_traceback(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    assert logged(error, MESSAGE, caplog) == ""


def test_an_unknown_parameter_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    text = logged(SignatureMismatchError.from_bad_params(["bbox"], ["colour"]), MESSAGE, caplog)
    assert "a parameter is unknown: Function expects parameters ['bbox'] but was provided with" in text
    assert (text.count("\n"), "Traceback" in text) == (1, False)


@pytest.mark.parametrize(
    ("error", "message"), [(ValueError("a mistake"), MESSAGE), (InputError("a", "b", "c", "d"), "another message")]
)
def test_whatever_else_goes_wrong_has_one(error: Exception, message: str, caplog: pytest.LogCaptureFixture) -> None:
    assert "Traceback" in logged(error, message, caplog)
