"""The panel beside or below a picture that says which colour is what."""

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from everymask.labels import Color
from everymask.segmentation import Legend, Segment, Segmentation

BACKGROUND = (250, 250, 250)
INK = (30, 30, 34)
FAINT_INK = (110, 110, 118)
SMALLEST_TEXT = 14  # pixels; a legend below this is unreadable, however small the image
ROWS_AT_FULL_SIZE = 14  # longer legends get smaller text
LONGEST_LABEL = 15  # in text sizes
LONGEST_SHAPED = 100  # characters: more never fit, and measuring them takes long
STRIPES = 4  # colours that a swatch shows at most

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the legend: a label, or one segment of it.

    ``colors`` are those of its segments, best first; ``share`` is the part of the image its segments cover, 0..1.
    ``note`` is what stands between the two, in faint ink: how many segments, or a score.
    """

    label: str
    colors: tuple[Color, ...]
    share: float
    note: str


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the panel goes: its number of columns, its top left corner and the size of the whole picture."""

    columns: int
    corner: tuple[int, int]
    canvas: tuple[int, int]


def with_legend(picture: Image.Image, entries: Sequence[Entry]) -> Image.Image:
    """``picture`` with a panel of a row per entry: swatch, name, note and share of the image's area.

    The text grows with the picture and never gets smaller than 14 pixels. The picture stays at the top left.
    """
    texts = [_row_texts(entry) for entry in entries] or [("no segments", "", "")]
    size = text_size(picture.size, len(texts))
    font = ImageFont.load_default(size)
    texts = [(shorten(label, font, LONGEST_LABEL * size), note, share) for label, note, share in texts]
    label_width, note_width, share_width = (math.ceil(max(font.getlength(row[i]) for row in texts)) for i in range(3))
    swatch = round(1.1 * size) if entries else 0
    label_x = swatch + round(0.6 * size) * bool(entries)
    note_x = label_x + label_width + round(0.9 * size) * bool(note_width) + note_width  # its right end
    share_x = note_x + round(0.9 * size) * bool(share_width) + share_width  # its right end
    line, margin, gutter = round(1.6 * size), round(0.8 * size), round(1.8 * size)

    layout = _smallest_layout(picture.size, len(texts), (share_x + gutter, line), (2 * margin - gutter, 2 * margin))
    canvas = Image.new("RGB", layout.canvas, BACKGROUND)
    canvas.paste(picture, (0, 0))
    pen = ImageDraw.Draw(canvas)
    rows = math.ceil(len(texts) / layout.columns)
    for i, (label, note, share) in enumerate(texts):
        x = layout.corner[0] + margin + (i // rows) * (share_x + gutter)
        y = layout.corner[1] + margin + (i % rows) * line
        middle = y + line // 2
        if entries:
            _draw_swatch(pen, (x, middle - swatch // 2), swatch, entries[i].colors)
        pen.text((x + label_x, middle), label, INK, font, anchor="lm")
        pen.text((x + note_x, middle), note, FAINT_INK, font, anchor="rm")
        pen.text((x + share_x, middle), share, INK, font, anchor="rm")
    return canvas


def legend_entries(result: Segmentation, colors: Mapping[int, Color], legend: Legend = "labels") -> list[Entry]:
    """The labels found, by falling share of the image, or with "segments" all segments, those of a label together.

    Semantic results have one segment per label, so their number is left out; and no scores.
    """
    by_label: dict[int, list[Segment]] = {}
    for segment in result.segments:
        by_label.setdefault(segment.label_id, []).append(segment)
    pixels = max(1, result.size.height * result.size.width)
    groups = [(_covered(result, segments) / pixels, segments) for segments in by_label.values()]
    groups.sort(key=lambda group: -group[0])
    if legend == "segments":
        names = {segment.id: name for segment, name in zip(result.segments, result.names, strict=True)}
        return [
            Entry(names[each.id], (colors[each.id],), each.area / pixels, _score(each))
            for _, segments in groups
            for each in segments
        ]
    counted = result.task != "semantic"
    return [
        Entry(segments[0].label, tuple(colors[each.id] for each in segments), share, f"{len(segments)} x" * counted)
        for share, segments in groups
    ]


def text_size(picture: tuple[int, int], rows: int) -> int:
    """The text size in pixels for a (width, height) picture and a legend of so many rows."""
    width, height = picture
    crowding = min(1.0, math.sqrt(ROWS_AT_FULL_SIZE / rows))
    return max(SMALLEST_TEXT, round(math.sqrt(width * height) / 32 * crowding))


def _covered(result: Segmentation, segments: list[Segment]) -> int:
    """Pixels in the union of the masks, which overlap only where there is no id map."""
    if result.id_map is not None:
        return sum(segment.area for segment in segments)
    from faster_coco_eval import mask as coco_mask  # it brings OpenCV; see everymask.runs

    return int(coco_mask.area(coco_mask.merge([segment.runs.to_coco() for segment in segments])))


def _score(segment: Segment) -> str:
    return "" if segment.score is None else f"{segment.score:.2f}"


def _row_texts(entry: Entry) -> tuple[str, str, str]:
    share = "< 0.1 %" if 0 < entry.share < 0.0005 else f"{100 * entry.share:.1f} %"
    return printable(entry.label), entry.note, share


def printable(label: str) -> str:
    """A label as one line that a font can be asked to draw: no control characters, no half surrogate pairs."""
    return "".join(" " if unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} else char for char in label)


def shorten(label: str, font: Font, width: float) -> str:
    """A label that takes no more than ``width`` pixels, with an ellipsis for what is cut off."""
    if len(label) <= LONGEST_SHAPED and font.getlength(label) <= width:
        return label
    label = label[:LONGEST_SHAPED]
    while label and font.getlength(label + "…") > width:
        label = label[:-1]
    return label.rstrip() + "…"


def _smallest_layout(picture: tuple[int, int], rows: int, cell: tuple[int, int], extra: tuple[int, int]) -> Layout:
    """The layout with the smallest canvas, the panel being to the right of the picture or below it.

    All sizes are (width, height): of the picture, of a cell of the panel, and of what the panel has beyond its cells.
    """
    width, height = picture
    layouts = []
    for columns in range(1, rows + 1):
        panel_width = columns * cell[0] + extra[0]
        panel_height = math.ceil(rows / columns) * cell[1] + extra[1]
        layouts.append(Layout(columns, (width, 0), (width + panel_width, max(height, panel_height))))
        layouts.append(Layout(columns, (0, height), (max(width, panel_width), height + panel_height)))
    return min(layouts, key=lambda layout: layout.canvas[0] * layout.canvas[1])


def _draw_swatch(pen: ImageDraw.ImageDraw, corner: tuple[int, int], side: int, colors: tuple[Color, ...]) -> None:
    """A square of the label's colours: a stripe for each of its first few segments."""
    x, y = corner
    stripes = colors[:STRIPES]
    for i, color in enumerate(stripes):
        left, right = x + side * i // len(stripes), x + side * (i + 1) // len(stripes)
        pen.rectangle((left, y, right - 1, y + side - 1), fill=color)
