"""Importing heavy packages quickly."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_imports() -> Iterator[None]:
    """Inside, no garbage is collected; what is there at the end is kept for good and never looked at again.

    Importing torch makes so many objects that looking through them for garbage, while they come and once more when
    the process ends, takes a fifth of the time that segmenting one photograph does. They are modules, classes and
    functions, and live as long as the process in any case.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collects:
            gc.enable()
