"""The photographs of a data set, and the annotations that it stores as PNGs."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from everymask.datasets.storage import Storage
from everymask.errors import DataError, ImageError
from everymask.images.decode import check_pixels, decode_file

MAX_PIXELS = 200_000_000  # as images.read_image

# "P" stores indices into a palette that is only for looking at. "I" is what older Pillows make of 16 bits.
_INDEX_MODES = ("1", "L", "P", "I;16", "I;16B", "I")
_GREY_MODES = ("L", "I;16", "I;16B", "I")


def read_photograph(storage: Storage, name: str) -> NDArray[np.uint8]:
    """An image file, (H, W, 3) uint8 RGB, upright. Raises ImageError where it is missing or cannot be read."""
    try:
        content = storage.read(name)
    except DataError as error:
        raise ImageError(str(error)) from error
    return decode_file(io.BytesIO(content), storage.where(name), MAX_PIXELS)


def read_index_png(storage: Storage, name: str) -> NDArray[Any]:
    """The number stored at every pixel of a single-channel PNG of 1 to 16 bits, (H, W) uint8, uint16 or int32.

    Palettes do not matter: the indices are the numbers. Raises DataError for a file that is missing, damaged, no PNG,
    or has colours.
    """
    picture, bits = _open(storage, name)
    if picture.mode not in _INDEX_MODES:
        raise DataError(
            f"{storage.where(name)} has the mode {picture.mode}: labels must be single-channel PNGs that hold class "
            "indices, not colours; replace each colour by the index of its class"
        )
    values: NDArray[Any] = np.asarray(picture)  # (H, W)
    if picture.mode == "1":
        return values.astype(np.uint8)
    if picture.mode == "L" and bits < 8:  # Pillow spreads 2 and 4 bits of grey over 0..255
        values = values // (255 // (2**bits - 1))
    return values


def read_grey_png(storage: Storage, name: str) -> NDArray[Any]:
    """The number stored at every pixel of a grey PNG of 8 or 16 bits, (H, W) uint8, uint16 or int32.

    Raises DataError for a file that is missing, damaged, no PNG, or not of this kind.
    """
    picture, bits = _open(storage, name)
    if picture.mode not in _GREY_MODES or bits < 8:
        raise DataError(
            f"{storage.where(name)} has the mode {picture.mode} with {bits} bits: depth is stored as grey PNGs of 16 "
            "bits; colours are only for looking at, so get the original files"
        )
    return np.asarray(picture)


def read_channels(storage: Storage, name: str) -> NDArray[np.uint8]:
    """The channels of an RGB PNG of 8 bits, (H, W, 3) uint8. Raises DataError for everything else."""
    picture, _ = _open(storage, name)
    if picture.mode != "RGB":
        raise DataError(
            f"{storage.where(name)} has the mode {picture.mode}: these annotations are RGB PNGs, with numbers in red, "
            "green and blue; get the original files, for saving them in another mode loses what is in the channels"
        )
    return np.asarray(picture)


def read_id_png(storage: Storage, name: str) -> NDArray[np.int32]:
    """The ids of a PNG in COCO's panoptic format, (H, W) int32: red + 256 green + 65536 blue.

    Raises DataError where it is missing, damaged, no PNG, or not in red, green and blue.
    """
    rgb = read_channels(storage, name)  # (H, W, 3)
    ids = rgb[..., 2].astype(np.int32)
    for channel in (1, 0):
        ids <<= 8
        ids |= rgb[..., channel]
    return ids


def _open(storage: Storage, name: str) -> tuple[Image.Image, int]:
    """The decoded PNG, and the bits of each of its samples."""
    where = storage.where(name)
    content = storage.read(name)
    try:
        # This instead of Image.open, whose own pixel limit is a global of the process that is not ours to change.
        picture = PngImagePlugin.PngImageFile(io.BytesIO(content))
        check_pixels(picture.height, picture.width, where, MAX_PIXELS)
        picture.load()
    except ImageError as error:
        raise DataError(str(error)) from error
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error, zlib.error, KeyError ...
        raise DataError(
            f"{where} cannot be read as a PNG: {error}; get a fresh copy, or save it as a PNG if it is not"
        ) from error
    return picture, content[24]  # the bit depth's place in a PNG is fixed: PNG specification, section 11.2.1
