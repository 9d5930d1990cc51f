"""What one look at a file tells: small facts, so that all files of a data set can be compared.

Nothing here raises for a bad file: instead of its facts comes a text that says why it cannot be read.
"""

import io
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from everymask.doctor.textures import border_steps, speck_share
from everymask.errors import ImageError
from everymask.geometry import Size
from everymask.images import read_image
from everymask.images.decode import ORIENTATION_TAG

EMPTY = "it is empty"
THUMB = 16
# A photograph has up to as many colours as pixels, a label map a few: what comes after these says nothing more.
MOST_VALUES = 4096
PNG_DEPTH = 24  # where the bits of a sample stand: PNG specification, section 11.2.1


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What an image file tells.

    ``size``: upright, as readers give it. ``stored``: as the file has it. ``orientation``: EXIF's, 1 is upright.
    ``digest``: of the bytes. ``thumb`` (16, 16) uint8, grey.
    """

    size: Size
    stored: Size
    orientation: int
    digest: bytes
    thumb: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class LabelPixels:
    """What a label file stores. ``format``, ``mode``: see ``LabelFacts``.

    ``values`` (H, W) int64: indices, or colours as R + 256 G + 65536 B. ``channels`` (H, W, 1) or (H, W, 3).
    """

    format: str
    mode: str
    values: NDArray[np.int64]
    channels: NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class LabelFacts:
    """What a label file tells.

    ``format``: of the file, such as "PNG". ``mode``: Pillow's. ``channels``: 1 for indices, 3 for colours, whose
    ``values`` are R + 256 G + 65536 B. ``values`` (K,) int64, rising, and ``counts`` (K,) int64, their pixels.
    ``between``: of the steps from one flat area to another, the share that passes over values in between, 0 to 1;
    what interpolation does. ``specks``: the share of pixels that differ from all four neighbours.
    """

    format: str
    mode: str
    size: Size
    channels: int
    values: NDArray[np.int64]
    counts: NDArray[np.int64]
    between: float
    specks: float

    def histogram(self) -> dict[int, int]:
        """The pixels of every value that occurs."""
        return dict(zip(self.values.tolist(), self.counts.tolist(), strict=True))


def look_at_image(content: bytes) -> ImageFacts | str:
    """The facts of an image file, or why it cannot be read."""
    if not content:
        return EMPTY
    try:
        pixels = read_image(content)  # (H, W, 3)
    except ImageError as error:
        return _without_source(error)
    stored, orientation = _header(content, Size(*pixels.shape[:2]))
    grey = Image.fromarray(pixels).convert("L").resize((THUMB, THUMB), Image.Resampling.BOX)
    digest = blake2b(content, digest_size=16).digest()
    return ImageFacts(Size(*pixels.shape[:2]), stored, orientation, digest, np.asarray(grey))


def look_at_labels(content: bytes) -> LabelFacts | str:
    """The facts of a label file, or why it cannot be read."""
    pixels = label_pixels(content)
    return pixels if isinstance(pixels, str) else label_facts(pixels)


def label_pixels(content: bytes) -> LabelPixels | str:
    """The numbers that a label file stores, or why it cannot be read."""
    if not content:
        return EMPTY
    try:
        with Image.open(io.BytesIO(content)) as picture:
            kind, mode = str(picture.format), picture.mode
            array = np.asarray(picture if single_channel(mode) else picture.convert("RGB"))
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error, zlib.error, KeyError ...
        return str(error) or type(error).__name__
    if array.ndim == 3:
        return LabelPixels(kind, mode, array.astype(np.int64) @ np.array([1, 256, 65536]), array)
    values = array.astype(np.int64)
    if kind == "PNG" and mode == "L" and content[PNG_DEPTH] < 8:  # Pillow spreads 2 and 4 bits of grey over 0..255
        values //= 255 // (2 ** content[PNG_DEPTH] - 1)
    return LabelPixels(kind, mode, values, array[..., None])


def label_facts(pixels: LabelPixels) -> LabelFacts:
    """The facts of a file from its pixels."""
    values, counts = _count(pixels.values)
    if len(values) > MOST_VALUES:
        most = np.sort(np.argsort(counts)[-MOST_VALUES:])
        values, counts = values[most], counts[most]
    channels = pixels.channels.shape[2]
    small = np.int16 if pixels.channels.dtype == np.uint8 else np.int32  # differences are taken
    between = max(border_steps(pixels.channels[..., each].astype(small)) for each in range(channels))
    size = Size(*pixels.values.shape)
    return LabelFacts(pixels.format, pixels.mode, size, channels, values, counts, between, speck_share(pixels.values))


def _count(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The values that occur, rising, and how often."""
    if values.max(initial=0) >= 1 << 16:
        return np.unique(values, return_counts=True)
    counts = np.bincount(values.ravel())
    present = np.flatnonzero(counts)
    return present, counts[present]


def single_channel(mode: str) -> bool:
    """Whether pixels of this Pillow mode are one number each; a palette's are, its colours are only for looking at."""
    return mode in ("1", "L", "P", "I") or mode.startswith("I;16")


def _header(content: bytes, size: Size) -> tuple[Size, int]:
    """The stored size and the EXIF orientation of an image that is known to be readable."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            orientation = image.getexif().get(ORIENTATION_TAG, 1)
            return Size(image.height, image.width), orientation if orientation in range(1, 9) else 1
    except Exception:  # EXIF is parsed from arbitrary bytes; the readers take such an image as upright, too
        return size, 1


def _without_source(error: Exception) -> str:
    """The reason without "the 17 bytes given: ", which names nothing here."""
    text = str(error)
    head, separator, rest = text.partition(": ")
    return rest if separator and head.startswith("the ") else text
