"""Functions compiled by numba."""

from __future__ import annotations

import atexit
import contextlib
from collections.abc import Callable
from typing import Any

import numba


def compiled(signature: str | None = None) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function, and keep the result on disk if numba finds a folder that it may write to.

    Nothing in it is rearranged: operations on floating-point numbers give the same bits everywhere.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(signature, cache=True, nogil=True, error_model="numpy")(function)
        except RuntimeError:
            return numba.njit(signature, nogil=True, error_model="numpy")(function)

    return decorate


with contextlib.suppress(ImportError):
    # numba starts colorama if it is installed, which would write an escape sequence to standard output at the end.
    from colorama.initialise import reset_all

    atexit.unregister(reset_all)
