"""OpenCV's bilinear resize of 8-bit images, bit for bit: what networks trained with mmcv have seen."""

import numpy as np
from numpy.typing import NDArray

from everymask.geometry import Size

_ONE = 1 << 11  # weights are integers of 11 bits
_BAND = 64  # rows of the result that are computed at a time, so that memory stays small


def resize_like_opencv(image: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """``cv2.resize`` with INTER_LINEAR of (H, W, C) uint8, to (h, w, C) uint8 with (h, w) == ``size``.

    Unlike Pillow's, this filter does not smooth: an output pixel is a mean of the four nearest input pixels however
    much the image shrinks. OpenCV computes it in integers and drops bits on the way, and takes the plain mean of 2 x 2
    pixels where both sides shrink to exactly one half; both are followed. An image of the right size is returned as it
    is.
    """
    height, width = image.shape[:2]
    if (height, width) == size:
        return image
    if (height, width) == (2 * size.height, 2 * size.width):
        return _halve(image)
    top, above, below = _neighbours(height, size.height)
    left, before, after = _neighbours(width, size.width)
    # Columns beyond the image have no weight at all; rows do, which the dropped bits tell apart.
    after[(left < 0) | (left >= width - 1)] = 0
    before[(left < 0) | (left >= width - 1)] = _ONE
    rows = np.clip(np.stack((top, top + 1)), 0, height - 1)  # (2, h)
    columns = np.clip(np.stack((left, left + 1)), 0, width - 1)  # (2, w)

    def across(source: NDArray[np.intp]) -> NDArray[np.int32]:
        """These rows of the image at the new width, in units of 1 / 2048, less their four lowest bits."""
        lines = image[source]  # (n, W, C)
        first, second = (np.take(lines, places, axis=1) for places in columns)  # (n, w, C)
        mixed: NDArray[np.int32] = first * before[:, None] + second * after[:, None]
        return mixed >> 4

    result = np.empty((*size, image.shape[2]), np.uint8)
    for start in range(0, size.height, _BAND):
        band = slice(start, start + _BAND)
        upper = across(rows[0, band]) * above[band, None, None] >> 16
        lower = across(rows[1, band]) * below[band, None, None] >> 16
        result[band] = (upper + lower + 2) >> 2
    return result


def _neighbours(length: int, new: int) -> tuple[NDArray[np.intp], NDArray[np.int32], NDArray[np.int32]]:
    """For each of ``new`` places along an axis of ``length``: its lower neighbour, and the weights of both neighbours.

    The lower neighbour is -1 or more, the upper one, which follows it, ``length`` or less.
    """
    scale = 1 / (new / length)
    places = ((np.arange(new) + 0.5) * scale - 0.5).astype(np.float32)
    lower = np.floor(places)
    fraction = places - lower
    first, second = (np.rint(part * np.float32(_ONE)).astype(np.int32) for part in (1 - fraction, fraction))
    return lower.astype(np.intp), first, second


def _halve(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    pairs = image[0::2].astype(np.uint16) + image[1::2]  # (h, W, C)
    halved: NDArray[np.uint8] = ((pairs[:, 0::2] + pairs[:, 1::2] + 2) >> 2).astype(np.uint8)
    return halved
