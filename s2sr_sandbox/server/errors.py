"""The errors of the download host, with the codes of its zipper (as seen by clients of the real service)."""

from __future__ import annotations

import uuid

from fastapi.responses import JSONResponse


def refusal(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error in the current form: trace id, code, message."""
    return JSONResponse({"trace-id": uuid.uuid4().hex, "code": code, "message": message}, status, headers)


def detail(status: int, text: str) -> JSONResponse:
    """An error in the older form."""
    return JSONResponse({"detail": text}, status)
