"""The images that went worst, kept as pictures of a bounded number and size."""

import heapq
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from everymask.atomic import ready_folder, write

_LONGEST_STEM = 100
_FILE = re.compile(r"worst-\d{3,}-.*\.png")


@dataclass(frozen=True, slots=True)
class WorstImage:
    """``name`` of the image, its own ``score`` by the figure for one image, and a ``picture``: a PNG file of prediction
    beside truth."""

    name: str
    score: float
    picture: bytes = field(repr=False)


class WorstImages:
    """Keeps the ``count`` images with the lowest scores, or with the highest where these are errors; of equal scores
    the earlier."""

    def __init__(self, count: int, *, errors: bool = False) -> None:
        self._count = count
        self._sign = 1 if errors else -1
        self._kept: list[tuple[float, int, WorstImage]] = []  # a heap: the best of them first
        self._offered = 0

    def offer(self, name: str, score: float, draw: Callable[[], Image.Image]) -> None:
        """Keeps an image if it is bad enough; only then it is drawn."""
        self._offered += 1
        badness = self._sign * score
        if len(self._kept) == self._count and badness <= self._kept[0][0]:
            return
        entry = (badness, -self._offered, WorstImage(name, score, _png(draw())))
        if len(self._kept) < self._count:
            heapq.heappush(self._kept, entry)
        else:
            heapq.heapreplace(self._kept, entry)

    def kept(self) -> tuple[WorstImage, ...]:
        """The images kept, the worst first."""
        return tuple(image for _, _, image in sorted(self._kept, key=lambda entry: entry[:2], reverse=True))


def save_worst(worst: Sequence[WorstImage], folder: Path) -> list[Path]:
    """Writes the pictures as ``worst-RANK-NAME.png``, in place of those of an earlier call, and returns their paths.

    Raises OptionError where the folder cannot be written.
    """
    for old in ready_folder(folder).iterdir():
        if _FILE.fullmatch(old.name):
            old.unlink()
    paths = []
    for rank, image in enumerate(worst, start=1):
        stem = re.sub(r"[^\w.-]+", "-", image.name)[-_LONGEST_STEM:]
        paths.append(write(folder / f"worst-{rank:03d}-{stem}.png", image.picture))
    return paths


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
