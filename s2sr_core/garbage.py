"""How often Python looks for garbage while a great many values are made that stay."""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Iterator

#: New objects between two searches; Python's own number is 700.
_OBJECTS = 100_000


_lock = threading.Lock()
_inside = 0
_usual = gc.get_threshold()


@contextlib.contextmanager
def seldom_collected() -> Iterator[None]:
    """In the block, or the function, garbage is looked for seldom, by all threads.

    A plan of a large run makes millions of values, nearly all of which stay. To look through them again and again takes
    a sixth of its time. Garbage without cycles, which is nearly all there is, goes at once as ever.
    """
    global _inside, _usual
    with _lock:
        _inside += 1
        if _inside == 1:
            _usual = gc.get_threshold()
            if _usual[0]:  # else it is switched off
                gc.set_threshold(max(_usual[0], _OBJECTS), *_usual[1:])
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                gc.set_threshold(*_usual)
