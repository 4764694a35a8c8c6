"""The Prefect that a user has configured: its settings, and the API that they name."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from s2sr_core.errors import InputError

#: Variables, and what is in files of the current folder, by which Prefect is given the address of an API.
_VARIABLES = {"PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH"}
_IN_FILES = {".env": "prefect_", "pyproject.toml": "tool.prefect", "prefect.toml": ""}


def may_have_api() -> bool:
    """Whether Prefect may have been given the address of an API: for certain only :func:`check_prefect` knows.

    To ask Prefect costs more than a run that has nothing to do, so that is asked here first.
    """
    if any(name.upper() in _VARIABLES and value for name, value in os.environ.items()):
        return True
    home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    if (home / "profiles.toml").exists():
        return True
    return any(_mentions(Path(name), word) for name, word in _IN_FILES.items())


def _mentions(path: Path, word: str) -> bool:
    try:
        return word in path.read_text(encoding="utf-8", errors="replace").lower()
    except FileNotFoundError:
        return False
    except OSError:
        return True


def check_prefect() -> str:
    """Where a run would be reported to: the API that is configured, or a server of its own.

    Raises
    ------
    InputError
        If Prefect refuses its settings, or the API that they name does not answer, or refuses to.
    """
    import httpx

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
