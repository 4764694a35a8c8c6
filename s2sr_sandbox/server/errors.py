"""The errors of the download host, with the codes of its zipper (facts recorded from clients in the field)."""

from __future__ import annotations

import uuid

from fastapi.responses import JSONResponse


def refusal(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """The JSON body of today's errors: trace id, code, message."""
    return JSONResponse({"trace-id": uuid.uuid4().hex, "code": code, "message": message}, status, headers)


def detail(status: int, text: str) -> JSONResponse:
    """The JSON body of older errors."""
    return JSONResponse({"detail": text}, status)
