"""Reading ahead: the next sources of a stream are read in threads while the network is at work."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Source = TypeVar("Source")
Item = TypeVar("Item")

MOST_READERS = 8


def read_ahead(
    sources: Iterator[Source], read: Callable[[Source], Callable[[], Item]], ahead: int
) -> Generator[Item, None, None]:
    """What reading each of ``sources`` gives, in their order, up to ``ahead`` further ones (at least 1) being read.

    ``read`` takes a source at once, in the thread of the caller, and returns what is left to do, which a thread does.
    ``sources`` is asked in the thread of the caller, too. When it raises, what was taken before comes first, then its
    error; an error of ``read`` or of its remainder comes in the place of its item and ends the iteration. When this
    ends or is closed, no thread is left: what has not begun is dropped, what has is waited for.
    """
    readers = min(ahead, max(os.cpu_count() or 1, 2), MOST_READERS)
    threads = ThreadPoolExecutor(readers, "everymask-read")
    pending: deque[Future[Item]] = deque()
    broken: Exception | None = None
    more = True
    try:
        while True:
            while more and len(pending) <= ahead:
                try:
                    pending.append(threads.submit(read(next(sources))))
                except StopIteration:
                    more = False
                except Exception as error:
                    broken, more = error, False
            if not pending:
                break
            yield pending.popleft().result()
        if broken is not None:
            raise broken
    finally:
        threads.shutdown(wait=True, cancel_futures=True)
