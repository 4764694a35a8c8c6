"""What says that the Prefect server is away, and what does not."""

from __future__ import annotations

import threading

import httpx
import pytest
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.exceptions import PrefectHTTPStatusError

from deployments.server import outage
from deployments.server.outage import answered, is_outage, was_away

REQUEST = httpx.Request("GET", "http://127.0.0.1:4200/api")


def status(code: int, kind: type[httpx.HTTPStatusError] = httpx.HTTPStatusError) -> httpx.HTTPStatusError:
    return kind("an answer", request=REQUEST, response=httpx.Response(code, request=REQUEST))


def without_slots(cause: Exception | None) -> ConcurrencySlotAcquisitionError:
    error = ConcurrencySlotAcquisitionError("Unable to acquire concurrency slots on ['tag:s2sr']")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (httpx.ConnectError("refused"), True),
        (httpx.ReadError("broken"), True),
        (status(503), True),
        (status(500, PrefectHTTPStatusError), True),
        (RuntimeError("Failed to reach API at http://127.0.0.1:4200/api"), True),
        (without_slots(httpx.ConnectError("refused")), True),
        (without_slots(status(503)), True),
        (without_slots(status(422)), False),
        (without_slots(None), False),
        (status(404, PrefectHTTPStatusError), False),
        (RuntimeError("another"), False),
        (ValueError("another"), False),
        (None, False),
    ],
    ids=repr,
)
def test_an_outage_is_told_from_other_errors(error: object, expected: bool) -> None:
    assert is_outage(error) is expected


def test_a_call_is_made_again_until_the_server_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage, "PAUSE", 0.0)
    errors = [httpx.ConnectError("refused"), without_slots(httpx.ConnectError("refused")), status(502)]

    def call(value: int) -> int:
        if errors:
            raise errors.pop(0)
        return value

    monkeypatch.setattr(outage, "_away", threading.Event())
    assert not was_away()
    assert answered(call, 7) == 7
    assert not errors
    assert was_away()


@pytest.mark.parametrize("error", [without_slots(status(422)), RuntimeError("another"), status(404)], ids=repr)
def test_another_error_is_raised_at_once(error: Exception) -> None:
    calls = []

    def call() -> None:
        calls.append(1)
        raise error

    with pytest.raises(type(error)):
        answered(call)
    assert len(calls) == 1
