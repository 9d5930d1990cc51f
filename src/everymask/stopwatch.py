"""How long the phases of a longer work take."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from time import perf_counter
from typing import Literal, get_args

Phase = Literal["read", "prepare", "network", "decode", "metric"]
"""What happens to an image that is evaluated: the first four are its way through a Segmenter."""

PHASES: tuple[Phase, ...] = get_args(Phase)


class Stopwatch:
    """``seconds`` by phase, summed over all images.

    A phase may run inside another, as the network does while windows are decoded: then only the inner one counts, so
    that no second is in two phases. Threads may share a stopwatch, and each is measured by itself: a stream reads while
    its network is at work, and both count in full, so that the phases together may take longer than the stream did.
    """

    def __init__(self) -> None:
        self.seconds: dict[Phase, float] = dict.fromkeys(PHASES, 0.0)
        self._thread = _Thread()
        self._adding = threading.Lock()

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        """Counts the time inside the ``with`` block as ``phase``."""
        self._count()
        self._thread.running.append(phase)
        try:
            yield
        finally:
            self._count()
            self._thread.running.pop()

    def _count(self) -> None:
        """Gives the time since the last call to the phase that runs in this thread."""
        now = perf_counter()
        if self._thread.running:
            with self._adding:
                self.seconds[self._thread.running[-1]] += now - self._thread.since
        self._thread.since = now


class _Thread(threading.local):
    """What a thread is doing, the inner phase last, and since when."""

    def __init__(self) -> None:
        self.running: list[Phase] = []
        self.since = 0.0


def timed(stopwatch: Stopwatch | None, phase: Phase) -> AbstractContextManager[None]:
    """``stopwatch.phase(phase)``, or nothing at all without a stopwatch."""
    return nullcontext() if stopwatch is None else stopwatch.phase(phase)
