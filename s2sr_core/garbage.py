"""How often Python looks for garbage while a great many values are made that stay."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

#: New objects between two searches; Python's own number is 700.
_OBJECTS = 100_000


@contextlib.contextmanager
def seldom_collected() -> Iterator[None]:
    """In the block, or the function, garbage is looked for seldom, by all threads.

    A plan of a large run makes millions of values, nearly all of which stay. To look through them again and again takes
    a sixth of its time. Garbage without cycles, which is nearly all there is, goes at once as ever.
    """
    objects, *others = gc.get_threshold()
    if objects:  # else it is switched off
        gc.set_threshold(max(objects, _OBJECTS), *others)
    try:
        yield
    finally:
        gc.set_threshold(objects, *others)
