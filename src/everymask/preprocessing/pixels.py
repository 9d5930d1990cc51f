"""From an image to the input of a network."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from everymask.errors import ImageError
from everymask.geometry import Geometry, Size
from everymask.preprocessing.opencv import resize_like_opencv
from everymask.preprocessing.recipe import Preprocessing


@dataclass(frozen=True, slots=True)
class Prepared:
    """An image as a network takes it.

    ``pixel_values`` (1, 3, h, w) float32, contiguous, on the CPU, with (h, w) == ``geometry.canvas``; for an image in
    one window that is ``geometry.padded``.
    """

    pixel_values: torch.Tensor
    geometry: Geometry

    def windows(self) -> Iterator[torch.Tensor]:
        """The image in each of ``geometry.windows``, (1, 3, h, w) with (h, w) == ``geometry.padded``: views."""
        height, width = self.geometry.padded
        for top, left in self.geometry.windows:
            yield self.pixel_values[..., top : top + height, left : left + width]


def prepare(image: NDArray[np.uint8], preprocessing: Preprocessing) -> Prepared:
    """Makes the network's input from an image, (H, W, 3) uint8 RGB as ``read_image`` gives it.

    Equal to the Pillow image processors of transformers within float32 rounding: resized in uint8, then rescaled and
    normalised, then padded with zeros (EoMT's with black).

    Raises ImageError for an array of another shape or type.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ImageError(
            f"expected (H, W, 3) uint8, got an array of shape {image.shape} and type {image.dtype}; "
            "pass it through everymask.images.read_image first"
        )
    geometry = preprocessing.geometry(Size(*image.shape[:2]))
    image = _resize(image, preprocessing, geometry.resized)  # (h, w, 3)
    pixel_values = np.empty((1, 3, *geometry.canvas), np.float32)
    (top, left), (height, width) = geometry.offset, geometry.resized
    for channel, (mean, std) in enumerate(zip(preprocessing.mean, preprocessing.std, strict=True)):
        # One multiply-add: (x * rescale - mean) / std
        scale, shift = np.float32(preprocessing.rescale_factor / std), np.float32(mean / std)
        inside = pixel_values[0, channel, top : top + height, left : left + width]
        if geometry.resized != geometry.canvas:
            pixel_values[0, channel] = -shift if preprocessing.black_padding else 0
        np.multiply(image[:, :, channel], scale, out=inside, dtype=np.float32)
        inside -= shift
    return Prepared(torch.from_numpy(pixel_values), geometry)


def _resize(image: NDArray[np.uint8], preprocessing: Preprocessing, size: Size) -> NDArray[np.uint8]:
    """The image at ``size``, which is the one that ``preprocessing.geometry`` gives for it."""
    original = Size(*image.shape[:2])
    if preprocessing.resample is None and preprocessing.resize is not None:
        return resize_like_opencv(resize_like_opencv(image, preprocessing.resize.target(original)), size)
    if size == original:
        return image
    return np.asarray(Image.fromarray(image).resize((size.width, size.height), preprocessing.resample))
