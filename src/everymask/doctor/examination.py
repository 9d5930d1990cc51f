"""What an examination of the files of one format gives, for the checks that all formats share."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import cpu_count
from typing import TypeVar

from everymask.datasets.storage import Storage
from everymask.doctor.facts import ImageFacts, look_at_image
from everymask.doctor.files import Pair
from everymask.doctor.findings import Finding
from everymask.doctor.listing import Convention, Entry
from everymask.errors import DataError
from everymask.labels import LabelSet

Item = TypeVar("Item")
Result = TypeVar("Result")
Facts = TypeVar("Facts")
Progress = Callable[[int, int], None]
"""Is told how many files were looked at, of how many."""


@dataclass(frozen=True, slots=True)
class Examined:
    """``findings`` are those that only this format can have. ``problems``: names of files that cannot be read, and why.
    ``pixels``: how many each class has. ``convention``: of pictures of class indices; None for COCO's JSON.
    """

    splits: dict[str, int]
    labels: LabelSet
    convention: Convention | None
    entries: Sequence[Entry]
    images: Sequence[tuple[Entry, ImageFacts]]
    pairs: Sequence[Pair]
    problems: Sequence[tuple[str, str]]
    pixels: Counter[int]
    findings: Sequence[Finding]


def for_each(items: Sequence[Item], look: Callable[[Item], Result], progress: Progress) -> Iterator[Result]:
    """What ``look`` gives for each item, in order; several at a time, as decoding leaves Python's lock to others."""
    with ThreadPoolExecutor(cpu_count()) as threads:
        for done, result in enumerate(threads.map(look, items), 1):
            progress(done, len(items))
            yield result


def read_or_nothing(storage: Storage, member: str) -> bytes:
    """The content of a file; nothing where it cannot be read, which is told like an empty one."""
    try:
        return storage.read(member)
    except DataError:
        return b""


def look_at_entry_image(storage: Storage, entry: Entry) -> ImageFacts | str | None:
    """The facts of an entry's image, or why it cannot be read; None where there is none."""
    return None if entry.image is None else look_at_image(read_or_nothing(storage, entry.image))


def facts_of(looked: Facts | str | None) -> Facts | None:
    """The facts of a file; None where there is none or it cannot be read."""
    return None if isinstance(looked, str) else looked


def problems_of(looked: Iterable[tuple[str | None, object]]) -> list[tuple[str, str]]:
    """The files, given by their members, that cannot be read, and why."""
    return [(str(member), result) for member, result in looked if isinstance(result, str)]
