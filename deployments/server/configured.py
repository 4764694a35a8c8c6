"""The Prefect that a user has configured: its settings, and the API that they name."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import httpx
from pydantic import ValidationError

from s2sr_core.errors import InputError


def check_prefect() -> str:
    """Where a run would be reported to: the API that is configured, or a server of its own.

    Raises
    ------
    InputError
        If Prefect refuses its settings, or the API that they name does not answer, or refuses to.
    """
    with contextlib.redirect_stderr(io.StringIO()):  # Prefect says on import, in several lines, what is said here
        try:
            from prefect.client.orchestration import get_client
            from prefect.settings import PREFECT_API_URL

            url = PREFECT_API_URL.value()
        except ValidationError as error:
            raise _setting_refused(error) from error
    if not url:
        return "a server of its own for each run"
    try:
        with get_client(sync_client=True) as client:
            version = client.api_version()
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        problem, remedy = f"answers HTTP {status}", "give the URL of a Prefect API, such as http://127.0.0.1:4200/api"
        if status in (401, 403):
            remedy = "set PREFECT_API_AUTH_STRING, or PREFECT_API_KEY, to what that server wants"
        raise InputError("PREFECT_API_URL", url, problem, remedy) from error
    except (OSError, ValueError, RuntimeError, httpx.HTTPError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            "PREFECT_API_URL",
            url,
            f"does not answer ({reason})",
            "start that server, or unset the variable (in a profile: prefect config unset PREFECT_API_URL) for a run "
            "with a server of its own",
        ) from error
    return f"{version} at {url}"


def _setting_refused(error: ValidationError) -> InputError:
    """The first setting that is wrong; Prefect names its fields by group: ``APISettings``, ``request_timeout``."""
    first: Any = error.errors()[0]
    group = error.title.removesuffix("Settings").upper()
    field = "_".join(str(part) for part in first["loc"]).upper()
    known = "" if group == "" or field.startswith(group) else f"{group}_"
    message = str(first["msg"])
    return InputError(
        field if field.startswith("PREFECT_") else f"PREFECT_{known}{field}",
        first["input"],
        f"is refused by Prefect ({message[0].lower()}{message[1:]})",
        "correct or unset it, in the environment, prefect.toml or Prefect's profiles.toml",
    )
