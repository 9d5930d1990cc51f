"""What a pipeline is called with: one image or many, each as ``transformers.image_utils.load_image`` takes it."""

import base64
import binascii
import os
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from everymask.compat.transformers.errors import ImageFileError, ImageSourceError, ImageTypeError
from everymask.errors import EverymaskError, ImageError
from everymask.images import read_image

Source = str | Path | Image.Image | NDArray[np.uint8]
"""What everymask reads: a URL, a path, a PIL image, or pixels that were read here."""

Answer = TypeVar("Answer")


class Answers(Generic[Answer]):
    """The answers to the images of a data set or generator, computed while they are iterated over.

    A data set is gone through anew by every iteration; its answers are as many as its images.
    """

    def __init__(self, inputs: Any, answer: Callable[[Iterator[Any]], Iterator[Answer]]) -> None:
        self._inputs = inputs
        self._answer = answer

    def __len__(self) -> int:
        return len(self._inputs)

    def __iter__(self) -> Iterator[Answer]:
        return self._answer(_items(self._inputs))


def are_lazy(inputs: Any) -> bool:
    """Whether ``inputs`` are a generator or a data set: anything with a length and numbered items, but no single value.

    Lists are not lazy, and tuples, arrays and mappings are no data sets: transformers takes them for one image.
    """
    if isinstance(inputs, Generator | Dataset):
        return True
    single = isinstance(inputs, str | bytes | bytearray | memoryview | list | tuple | Mapping | np.ndarray | Tensor)
    return not single and hasattr(inputs, "__len__") and hasattr(inputs, "__getitem__")


def source(image: Any, timeout: float | None) -> Source:
    """``image`` as everymask reads it: an http(s) URL, a path, base64 (with or without "data:image/...,"), or PIL.

    ``timeout``: seconds for a URL; None means everymask's own limit (transformers would wait for ever).
    Raises ImageTypeError for any other type, ImageSourceError for a string that is none of these.
    """
    if isinstance(image, Image.Image):
        return image
    if not isinstance(image, str):
        raise ImageTypeError(
            f"cannot read a {type(image).__name__} as an image: pass a path, a URL, base64 or a PIL image, and several "
            "of them as a list, generator or data set; everymask.load takes arrays, tensors and bytes, too"
        )
    if image.startswith(("http://", "https://")):
        return image if timeout is None else _download(image, timeout)
    if os.path.isfile(image):
        return Path(image)  # never a URL, whatever its name
    content = image.partition(",")[2] if image.startswith("data:image/") else image
    try:
        return read_image(base64.decodebytes(content.encode()))
    except (ImageError, binascii.Error) as error:
        shown = image if len(image) <= 80 else f"{image[:80]}..."
        raise ImageSourceError(
            f"{shown!r} is neither a URL that starts with http:// or https://, nor the path of a file, nor an image in "
            "base64: correct the path, which is taken from the working folder"
        ) from error


def as_transformers_raises(error: EverymaskError) -> EverymaskError:
    """The error of an image as one that is an OSError, too; others are left as they are."""
    return ImageFileError(str(error)) if type(error) is ImageError else error


def _download(url: str, timeout: float) -> NDArray[np.uint8]:
    try:
        return read_image(url, timeout=timeout)
    except ImageError as error:
        raise as_transformers_raises(error) from error


def _items(inputs: Any) -> Iterator[Any]:
    if hasattr(inputs, "__iter__"):
        return iter(inputs)
    return (inputs[index] for index in range(len(inputs)))
