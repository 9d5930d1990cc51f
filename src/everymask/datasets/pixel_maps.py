"""Data sets that have a PNG of numbers beside every image: what the numbers mean, and the data set made of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from everymask.datasets.dataset import Conventions, Truth, TruthSegment
from everymask.datasets.pictures import MAX_PIXELS, read_photograph
from everymask.datasets.storage import Storage
from everymask.errors import DataError
from everymask.geometry import Size
from everymask.images.decode import upright_size
from everymask.labels import LabelSet
from everymask.segmentation import Region, Task

_PIXELS_AT_ONCE = 2**20


class Meaning(NamedTuple):
    """What a number in a PNG says of a pixel. Pixels that mean the same are one segment.

    ``label_id``: the index of the class. ``instance``: which of its instances; None where they are not told apart.
    """

    label_id: int
    instance: int | None = None
    is_crowd: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """The files of one image, as members of the storage.

    ``labels`` is empty where there are none. ``instances`` and ``depth`` are None where they are not needed.
    """

    name: str
    image: str
    labels: str
    instances: str | None = None
    depth: str | None = None


def truth_of(numbers: NDArray[Any], meaning: Callable[[int], Meaning | None]) -> Truth:
    """The truth that a map of numbers stands for.

    ``numbers`` (H, W), integers from 0 on, each below about 2^17: every number up to the largest takes a few bytes.
    ``meaning`` is asked once for each number that occurs, rising, and says None for what is ignored; what it raises for
    a number that has no meaning comes through. Segments come in the order of their numbers.
    """
    counts = np.zeros(1, np.int64)
    for band in _bands(numbers):
        more = np.bincount(band.ravel(), minlength=len(counts))
        more[: len(counts)] += counts
        counts = more
    place_of: dict[Meaning, int] = {}
    places = np.zeros(len(counts), np.int32)  # the place of a number's segment + 1; 0 for none
    areas: list[int] = []
    for number in np.flatnonzero(counts):
        what = meaning(int(number))
        if what is None:
            continue
        if what not in place_of:
            place_of[what] = len(place_of) + 1
            areas.append(0)
        places[number] = place_of[what]
        areas[place_of[what] - 1] += int(counts[number])
    id_map = np.empty(numbers.shape, np.int32)
    for band, ids in zip(_bands(numbers), _bands(id_map), strict=True):
        np.take(places, band, out=ids, mode="clip")  # nothing is clipped; only so numpy writes without a buffer
    segments = tuple(
        TruthSegment(what.label_id, Region(id_map, place), area, what.is_crowd)
        for (what, place), area in zip(place_of.items(), areas, strict=True)
    )
    return Truth(Size(*numbers.shape), segments, id_map)


def differing_sizes(storage: Storage, entry: Entry) -> DataError:
    """The error where the two annotations of an image cannot be of the same one."""
    return DataError(
        f"{storage.where(entry.labels)} and {storage.where(entry.instances or entry.labels)} have different sizes: "
        "both must have the size of their image; get fresh copies"
    )


def size_of_image(storage: Storage, entry: Entry) -> Size:
    """The size of an image, upright. Raises ImageError where it cannot be read, DataError where the file is missing."""
    return Size(*upright_size(storage.read(entry.image), storage.where(entry.image), MAX_PIXELS))


def check_size(storage: Storage, entry: Entry, member: str, found: Size, what: str) -> None:
    """Raises DataError where an annotation, ``what`` is in the file ``member``, has not the size of its image."""
    size = size_of_image(storage, entry)
    if found != size:
        turned = ", turned upright as its EXIF orientation says" if found == (size.width, size.height) else ""
        raise DataError(
            f"{storage.where(member)} is {found.width} x {found.height} pixels and its image"
            f"{turned} {size.width} x {size.height}: {what} must have the size of their image"
        )


def _bands(numbers: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Views of some rows each: numpy counts and looks up in numbers of 8 bytes."""
    step = max(1, _PIXELS_AT_ONCE // numbers.shape[1])
    for y in range(0, numbers.shape[0], step):
        yield numbers[y : y + step]


@dataclass(frozen=True)
class PixelMaps:
    """A ``DataSet`` of images with PNGs beside them. ``read_entry`` makes the truth of an image from its PNGs."""

    name: str
    labels: LabelSet
    tasks: tuple[Task, ...]
    conventions: Conventions
    storage: Storage = field(repr=False)
    entries: tuple[Entry, ...] = field(repr=False)
    read_entry: Callable[[Storage, Entry], Truth] = field(repr=False)

    @cached_property
    def names(self) -> Sequence[str]:
        """Of the images: the paths below the folder of their split, without the suffix."""
        return [entry.name for entry in self.entries]

    def read_image(self, index: int) -> NDArray[np.uint8]:
        """The image, (H, W, 3) uint8 RGB, upright. Raises ImageError where it cannot be read."""
        return read_photograph(self.storage, self.entries[index].image)

    def read_truth(self, index: int) -> Truth:
        """Its annotation. Raises DataError where a file is missing or damaged, has another size than the image, or
        holds what has no meaning here; ImageError where the image's size cannot be read."""
        entry = self.entries[index]
        truth = self.read_entry(self.storage, entry)
        check_size(self.storage, entry, entry.labels, truth.size, "labels")
        return truth

    def source(self, index: int) -> str:
        """Where the image lies, for messages."""
        return self.storage.where(self.entries[index].image)
