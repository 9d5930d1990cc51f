"""Pictures side by side under captions, with one legend for all of them."""

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from everymask.drawing.legend import BACKGROUND, FAINT_INK, INK, SMALLEST_TEXT, Font, printable, shorten
from everymask.labels import Color

LONGEST_SIDE = 800  # of a panel, in pixels: three of them fit on a screen
SHORTEST_SIDE = 240  # a panel's longer side is at least this: captions have to fit


def side_by_side(
    panels: Sequence[tuple[str, Image.Image]], *, title: str, legend: Sequence[tuple[str, Color]]
) -> Image.Image:
    """The ``panels``, captions and pictures of one size, from left to right: an RGB picture with a title.

    Panels are resized so that their longer side is 240 to 800 pixels. The ``legend``, labels and their colours, is
    below, in as many lines as it needs.
    """
    size = _panel_size(panels[0][1].size)
    text = max(SMALLEST_TEXT, round(math.sqrt(size[0] * size[1]) / 32))
    font = ImageFont.load_default(text)
    gap, line = round(0.8 * text), round(1.7 * text)
    width = len(panels) * (size[0] + gap) + gap
    lines = _break_lines(legend, font, text, width - 2 * gap)
    top = gap + 2 * line  # of the pictures: below the title and the captions
    canvas = Image.new("RGB", (width, top + size[1] + gap + len(lines) * line + gap * bool(lines)), BACKGROUND)
    pen = ImageDraw.Draw(canvas)
    pen.text((gap, gap + line // 2), shorten(printable(title), font, width - 2 * gap), INK, font, anchor="lm")
    for place, (caption, picture) in enumerate(panels):
        left = gap + place * (size[0] + gap)
        pen.text((left, gap + line + line // 2), caption, FAINT_INK, font, anchor="lm")
        canvas.paste(_resized(picture, size), (left, top))
    for row, entries in enumerate(lines):
        middle = top + size[1] + gap + row * line + line // 2
        for left, label, color in entries:
            swatch = (gap + left, middle - text // 2, gap + left + text - 1, middle - text // 2 + text - 1)
            pen.rectangle(swatch, fill=color)
            pen.text((gap + left + round(1.4 * text), middle), label, INK, font, anchor="lm")
    return canvas


def _panel_size(picture: tuple[int, int]) -> tuple[int, int]:
    longest = max(picture)
    scale = min(max(longest, SHORTEST_SIDE), LONGEST_SIDE) / longest
    width, height = (max(1, round(scale * side)) for side in picture)
    return width, height


def _resized(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Larger in whole pixels, so that single ones can be told apart; smaller with a filter."""
    larger = size[0] > picture.width
    return picture.resize(size, Image.Resampling.NEAREST if larger else Image.Resampling.BOX)


def _break_lines(
    legend: Sequence[tuple[str, Color]], font: Font, text: int, width: int
) -> list[list[tuple[int, str, Color]]]:
    """The legend in lines of at most ``width`` pixels: where the swatch of each label begins, its text, its colour."""
    lines: list[list[tuple[int, str, Color]]] = []
    left = width
    for name, color in legend:
        label = shorten(printable(name), font, width - round(1.4 * text))
        needed = round(1.4 * text) + math.ceil(font.getlength(label))
        if left + needed > width:
            lines.append([])
            left = 0
        lines[-1].append((left, label, color))
        left += needed + round(1.2 * text)
    return lines
