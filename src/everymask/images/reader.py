"""One reader for every kind of image source."""

import io
import os
import re
import stat
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from everymask.errors import ImageError
from everymask.images.arrays import from_array, from_tensor, is_tensor
from everymask.images.decode import check_pixels, decode_file, decode_pillow, on_white
from everymask.images.download import download

ACCEPTED = "a path, URL, bytes, binary file object, PIL image, numpy array or torch tensor"


def read_image(
    source: Any, *, max_pixels: int = 200_000_000, timeout: float = 30.0, max_bytes: int = 500_000_000
) -> NDArray[np.uint8]:
    """The pixels of ``source``, (H, W, 3) uint8 RGB, contiguous, upright, and the caller's own.

    ``source`` is one of

    - a path (str or PathLike) or a ``file:``, ``http:`` or ``https:`` URL (str), the content of a file (bytes,
      bytearray or memoryview), or a binary file object, read from where it stands to its end and left open. Formats:
      JPEG, PNG, WebP, TIFF, BMP, GIF and, where Pillow has it, AVIF; of several frames or pages, the first.
    - a PIL image.
    - a numpy array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4): uint8, uint16, floats in 0..1, or bool (0 and 255).
    - a torch tensor of those types: (H, W), or (C, H, W) or (H, W, C) where only one of the two has C in 1, 3, 4.

    An EXIF orientation is applied. Transparency is composited on white. 16-bit values are scaled from 0..65535 to
    0..255 (their high byte), float values from 0..1 (rounded). Colour profiles are not applied.

    ``max_pixels``: the most pixels an image may have; of files only the header is read to find out.
    ``timeout``: seconds a URL may take from start to end. ``max_bytes``: the most bytes a URL may send.

    Raises ImageError, naming the source and the cure, for everything that is not such an image.
    """
    if isinstance(source, str | os.PathLike):
        return _read_named(os.fspath(source), isinstance(source, str), max_pixels, timeout, max_bytes)
    if isinstance(source, bytes | bytearray | memoryview):
        return decode_file(io.BytesIO(bytes(source)), f"the {len(source):,} bytes given", max_pixels)
    if isinstance(source, Image.Image):
        return decode_pillow(source, f"the PIL image of mode {source.mode}", max_pixels)
    if isinstance(source, np.ndarray):
        name = f"the array of shape {source.shape} and type {source.dtype}"
        return _from_numbers(from_array(np.asarray(source), name), name, max_pixels)
    if is_tensor(source):
        return _from_numbers(from_tensor(source), "the tensor", max_pixels)
    if hasattr(source, "read"):
        return _read_file_object(source, max_pixels)
    raise ImageError(f"cannot read a {type(source).__name__} as an image; pass {ACCEPTED}")


def _read_named(
    source: str | bytes, may_be_url: bool, max_pixels: int, timeout: float, max_bytes: int
) -> NDArray[np.uint8]:
    """Reads a path or URL."""
    location = os.fsdecode(source)
    name = _short(location)
    scheme = _scheme(location) if may_be_url else None
    if scheme is None:
        return _read_path(location, name, max_pixels)
    if scheme == "file":
        return _read_path(_file_url_path(location, name), name, max_pixels)
    if scheme in ("http", "https"):
        body = download(location, name=name, timeout=timeout, max_bytes=max_bytes)
        return decode_file(io.BytesIO(body), name, max_pixels)
    raise ImageError(f"{name}: {scheme}: URLs are not read; use file:, http: or https:, or pass the bytes")


def _file_url_path(url: str, name: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ImageError(f"{name}: is no valid URL ({error}); pass the path instead") from error
    if parts.netloc not in ("", "localhost"):
        raise ImageError(f"{name}: names another machine; a file: URL has three slashes, file:///folder/image.jpg")
    return url2pathname(parts.path)


def _scheme(location: str) -> str | None:
    """The scheme of a URL, in lower case; None for a path. ``C:\\x`` and ``a:b.png`` are paths."""
    match = re.match(r"(?:([a-z][a-z0-9+.-]*)://|(file|data|https?):)", location, re.IGNORECASE)
    return (match[1] or match[2]).lower() if match else None


def _short(location: str) -> str:
    """A path or URL as errors name it: no password, and not a screenful."""
    location = re.sub(r"(?<=://)[^/@]*@", "", location)
    return location if len(location) <= 200 else f"{location[:200]}..."


def _read_path(path: str, name: str, max_pixels: int) -> NDArray[np.uint8]:
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise ImageError(f"{name}: is a folder; pass the images in it one by one")
        if not stat.S_ISREG(mode):  # opening a pipe may wait for ever
            raise ImageError(f"{name}: is a device or a pipe; read it and pass the bytes")
        with open(path, "rb") as file:
            return decode_file(file, name, max_pixels)
    except FileNotFoundError as error:
        raise ImageError(f"{name}: no such file; check the path, which is taken from the working folder") from error
    except PermissionError as error:
        raise ImageError(f"{name}: permission denied; make the file readable, e.g. chmod a+r") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error  # strerror: without the path once more
        raise ImageError(f"{name}: could not be opened ({reason}); check the path and the disk") from error


def _read_file_object(file: Any, max_pixels: int) -> NDArray[np.uint8]:
    name = f"the file object {_short(str(getattr(file, 'name', type(file).__name__)))}"
    try:
        content = file.read()
    except Exception as error:  # whatever a foreign object raises
        raise ImageError(f"{name}: could not be read ({error}); open it anew in binary mode, 'rb'") from error
    if not isinstance(content, bytes | bytearray | memoryview):
        raise ImageError(f"{name}: gives {type(content).__name__}, not bytes; open it in binary mode, 'rb'")
    return decode_file(io.BytesIO(content), name, max_pixels)


def _from_numbers(array: NDArray[np.uint8], name: str, max_pixels: int) -> NDArray[np.uint8]:
    """(H, W), (H, W, 3) or (H, W, 4) uint8 as (H, W, 3), always in new memory."""
    check_pixels(array.shape[0], array.shape[1], name, max_pixels)
    if array.ndim == 2:
        return np.repeat(array[:, :, None], 3, axis=2)
    if array.shape[2] == 4:
        return np.array(on_white(Image.fromarray(array)))
    return np.array(array, order="C")
