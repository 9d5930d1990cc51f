"""The bar beside a picture that says which brightness is which depth."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from everymask.drawing.depth import DepthScale
from everymask.drawing.legend import BACKGROUND, INK, text_size

LINES_BETWEEN_TICKS = 1.5  # of text, at least
FEWEST_LINES = 8  # of a bar; a picture less high than that grows
FEW_TICKS = 5  # of an even scale, about


def with_depth_bar(picture: Image.Image, scale: DepthScale, colors: NDArray[np.uint8]) -> Image.Image:
    """``picture`` with a bar of ``colors`` (256, 3) uint8, far to near, to its right: the nearest is at the top.

    Metric depth has ticks in metres, relative depth the words near and far. The text has the size of a legend's, and
    the picture stays at the top left.
    """
    size = text_size(picture.size, 1)
    font = ImageFont.load_default(size)
    margin, width, tick = round(0.8 * size), round(1.2 * size), round(0.3 * size)
    height = max(picture.height, FEWEST_LINES * size + 2 * margin)
    top, bottom = margin, height - margin  # of the bar, the bottom exclusive
    labels = depth_labels(scale, LINES_BETWEEN_TICKS * size / (bottom - top))
    label_width = math.ceil(max(font.getlength(label) for _, label in labels))

    left = picture.width + margin
    label_x = left + width + 2 * tick
    canvas = Image.new("RGB", (label_x + label_width + margin, height), BACKGROUND)
    canvas.paste(picture, (0, 0))
    levels = np.linspace(255, 0, bottom - top).round().astype(np.uint8)
    canvas.paste(Image.fromarray(colors[levels][:, None].repeat(width, axis=1)), (left, top))
    pen = ImageDraw.Draw(canvas)
    for nearness, label in labels:
        y = round(bottom - 1 - nearness * (bottom - 1 - top))
        pen.line((left + width, y, left + width + tick, y), INK, max(1, size // 12))
        pen.text((label_x, min(max(y, top + size // 2), bottom - size // 2)), label, INK, font, anchor="lm")
    return canvas


def depth_labels(scale: DepthScale, apart: float) -> list[tuple[float, str]]:
    """What stands beside the bar, and where: 1 is its near end, 0 its far one. Ticks are at least ``apart`` apart."""
    near, far = scale.near, scale.far
    if scale.kind == "relative":
        return [(1.0, "near"), (0.0, "far")]
    if near == far:
        return [(0.5, f"{near:.3g} m")]
    ticks: list[tuple[float, str]] = []
    for value in _round_values(near, far):
        nearness = scale.nearness(value)
        if not ticks or ticks[-1][0] - nearness >= apart:
            ticks.append((nearness, f"{value:.7g} m"))
    return ticks


def _round_values(low: float, high: float) -> list[float]:
    """Round numbers from ``low`` to ``high``, rising: 1, 2 and 5 times powers of ten, or few even steps of such."""
    if high / low >= 10:
        powers = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
        values = [times * 10.0**power for power in powers for times in (1, 2, 5)]
        return [value for value in values if low <= value <= high]
    least = (high - low) / FEW_TICKS
    power = 10.0 ** math.floor(math.log10(least))
    step = power * next((times for times in (1, 2, 5) if times * power >= least), 10)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
