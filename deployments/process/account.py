"""Only the process that downloads knows the account: workers and jobs start without its variables."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

ACCOUNT = ("CDSE_USERNAME", "CDSE_PASSWORD", "CDSE_PASSWORD_FILE")


def forget_account() -> None:
    """Remove the account's variables from this process's environment."""
    for name in ACCOUNT:
        os.environ.pop(name, None)


@contextlib.contextmanager
def account_hidden() -> Iterator[None]:
    """Processes that start within the block inherit nothing of the account. No other thread may log in meanwhile."""
    kept = {name: os.environ[name] for name in ACCOUNT if name in os.environ}
    forget_account()
    try:
        yield
    finally:
        os.environ.update(kept)
