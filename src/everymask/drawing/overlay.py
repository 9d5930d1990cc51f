"""The segments laid over the image: translucent fills and opaque outlines."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from everymask.drawing.colors import outline_color
from everymask.drawing.depth import outline_shades, shades
from everymask.geometry import Size
from everymask.labels import Color
from everymask.segmentation import Segmentation

OPACITY = 150  # of a fill, in 1/256
BAND_PIXELS = 1 << 18  # blended at a time, so that the intermediate values stay in the processor's cache


def overlay(
    result: Segmentation,
    image: NDArray[np.uint8],
    colors: Mapping[int, Color],
    brightness: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """``image`` (H, W, 3) uint8 with the segments of ``result`` drawn over it, a new array of the same shape.

    ``colors`` gives the fill of every segment id. Where masks overlap, the fill is that of the segment that comes
    first (the higher score), and the outlines of all of them show, those of earlier segments on top. Pixels of no
    segment stay as they are. With ``brightness`` (H, W) uint8 a segment's colour becomes darker where that is low and
    lighter where it is high.
    """
    thickness = outline_thickness(result.size)
    if result.id_map is not None:
        fill_ids = result.id_map
        outline_ids = np.where(borders(fill_ids, thickness), fill_ids, 0)  # (H, W)
    else:
        fill_ids, outline_ids = _paint(result, thickness)
    return _blend(image, fill_ids, outline_ids, colors, brightness)


def outline_thickness(size: Size) -> int:
    """Pixels of an outline, drawn inside its segment: 1 up to about a megapixel, 4 at 12 megapixels."""
    return max(1, round(math.sqrt(size.height * size.width) / 900))


def borders(regions: NDArray[np.generic], thickness: int) -> NDArray[np.bool_]:
    """Where a pixel of ``regions`` (H, W), ids or a mask, is nearer than ``thickness`` to one of another value.

    The image's own edge is no border. (H, W) bool.
    """
    near = np.zeros(regions.shape, np.bool_)
    across = regions[:, 1:] != regions[:, :-1]  # (H, W - 1)
    near[:, 1:] |= across
    near[:, :-1] |= across
    down = regions[1:] != regions[:-1]  # (H - 1, W)
    near[1:] |= down
    near[:-1] |= down
    for _ in range(thickness - 1):
        near[:, 1:] |= near[:, :-1]
        near[:, :-1] |= near[:, 1:]
        near[1:] |= near[:-1]
        near[:-1] |= near[1:]
    return near


def _paint(result: Segmentation, thickness: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The ids of the fill and of the outline at every pixel, (H, W) int32 each, of masks that may overlap."""
    fill_ids = np.zeros(result.size, np.int32)
    outline_ids = np.zeros(result.size, np.int32)
    for segment in reversed(result.segments):  # the lowest score first
        x, y, width, height = segment.box
        # One pixel more on each side shows `borders` what lies outside the mask.
        window = np.s_[max(y - 1, 0) : y + height + 1, max(x - 1, 0) : x + width + 1]
        mask = segment.mask[window]
        fill_ids[window][mask] = segment.id
        outline_ids[window][mask & borders(mask, thickness)] = segment.id
    return fill_ids, outline_ids


def _blend(
    image: NDArray[np.uint8],
    fill_ids: NDArray[np.int32],
    outline_ids: NDArray[np.int32],
    colors: Mapping[int, Color],
    brightness: NDArray[np.uint8] | None,
) -> NDArray[np.uint8]:
    """``image`` under the fills and outlines of the given ids, (H, W, 3) uint8."""
    count = 1 + max(colors, default=0)
    levels = 1 if brightness is None else 256
    keep = np.full((count, 1), 256, np.uint16)  # how much of the image stays under id i, in 1/256
    tint = np.full((count, levels, 3), 128, np.uint16)  # what the fill of id i adds, in 1/256; 128 rounds to nearest
    outline = np.zeros((count, levels, 3), np.uint8)
    for id, color in colors.items():
        keep[id] = 256 - OPACITY
        tint[id] += (np.array(color) if brightness is None else shades(color)).astype(np.uint16) * OPACITY
        outline[id] = outline_color(color) if brightness is None else outline_shades(color)
    tints, outline_colors = tint.reshape(-1, 3), outline.reshape(-1, 3)  # by id * levels + level

    drawn = np.empty_like(image)
    rows = max(1, BAND_PIXELS // max(1, image.shape[1]))
    for start in range(0, image.shape[0], rows):
        band = slice(start, start + rows)
        fills, outlines = fill_ids[band], outline_ids[band]
        blended = image[band] * keep[fills]  # (rows, W, 3) uint16: at most 255 * 256
        outlined = outlines > 0
        if brightness is not None:
            fills, outlines = levels * fills + brightness[band], levels * outlines + brightness[band]
        blended += tints[fills]
        blended >>= 8
        drawn[band] = blended
        drawn[band][outlined] = outline_colors[outlines[outlined]]
    return drawn
