"""Which colour a segment has.

A label has the colour its data set publishes, else a generated one that depends on its index alone, so it is the same
in every image. The instances of a label are told apart by moving lightness and hue around that colour. Distances are
judged in OKLCh (Björn Ottosson, "A perceptual color space for image processing", 2020), where equal steps look equally
large: lightness 0..1, chroma 0 (grey) to about 0.3, hue in degrees.
"""

import math
from collections import Counter
from functools import cache

import numpy as np

from everymask.labels import Color, LabelSet
from everymask.segmentation import Segmentation

# Steps of 1/p and 1/p^2, p the plastic number, modulo 1: the first n pairs are spread about evenly over the unit square
# for every n (M. Roberts, "The unreasonable effectiveness of quasirandom sequences", 2018).
FIRST_STEP = 0.7548777
SECOND_STEP = 0.5698403


def segment_colors(result: Segmentation) -> dict[int, Color]:
    """The colour of every segment, by segment id: its label's, varied by its rank among the segments of that label."""
    seen: Counter[int] = Counter()
    colors = {}
    for segment in result.segments:
        colors[segment.id] = instance_color(label_color(result.labels, segment.label_id), seen[segment.label_id])
        seen[segment.label_id] += 1
    return colors


def label_color(labels: LabelSet, label_id: int) -> Color:
    """The data set's colour of a label; a generated one where it has none or gives it to an earlier label too."""
    published = labels.colors[label_id]
    if published is not None and labels.colors.index(published) == label_id:
        return published
    generated = generated_colors()
    return generated[label_id % len(generated)]


@cache
def generated_colors() -> tuple[Color, ...]:
    """About 900 colours, each as far as can be from all before it, so that any first n are as distinct as they can be.

    They are vivid or muted, neither light nor dark: a fill over a photograph has to show its hue.
    """
    candidates = [
        from_oklch(lightness, chroma, hue)
        for lightness in (0.5, 0.58, 0.66, 0.74, 0.82)
        for chroma in (0.17, 0.1)
        for hue in range(0, 360, 4)
    ]
    points = np.array([_to_oklab(color) for color in candidates])  # (N, 3)
    to_chosen = np.full(len(candidates), np.inf)
    colors: dict[Color, None] = {}
    farthest = 0
    for _ in candidates:
        colors[candidates[farthest]] = None
        to_chosen = np.minimum(to_chosen, np.linalg.norm(points - points[farthest], axis=1))
        farthest = int(to_chosen.argmax())
    return tuple(colors)


def instance_color(base: Color, rank: int) -> Color:
    """The colour of the ``rank``-th instance (0 is the best) of a label of colour ``base``: the first has it as it is.

    The others are 8 to 30 degrees of hue away from it, on either side, and have a lightness of 0.47 to 0.85, where a
    fill over a photograph looks neither black nor white.
    """
    if rank == 0:
        return base
    lightness, chroma, hue = to_oklch(base)
    center = min(max(lightness, 0.64), 0.68)
    side = _fraction(0.4 + rank * FIRST_STEP) - 0.5  # -0.5 to 0.5
    return from_oklch(
        center + 0.34 * (_fraction(0.1 + rank * SECOND_STEP) - 0.5),
        max(chroma, 0.07),  # a grey has no hue to move: it needs a little colour first
        hue + math.copysign(8 + 44 * abs(side), side),
    )


def outline_color(fill: Color) -> Color:
    """A light tint of a fill, which stands out from the fill and from most photographs."""
    lightness, chroma, hue = to_oklch(fill)
    return from_oklch(0.55 * lightness + 0.45, chroma, hue)


def to_oklch(color: Color) -> tuple[float, float, float]:
    """OKLCh of an sRGB colour of 0..255."""
    lightness, a, b = _to_oklab(color)
    return lightness, math.hypot(a, b), math.degrees(math.atan2(b, a)) % 360


def from_oklch(lightness: float, chroma: float, hue: float) -> Color:
    """The sRGB colour of 0..255 nearest to an OKLCh colour; chroma gives way where a screen cannot show it."""
    rgb = _linear_rgb(lightness, chroma, hue)
    while chroma > 0.001 and not all(-0.0005 <= value <= 1.0005 for value in rgb):
        chroma *= 0.95
        rgb = _linear_rgb(lightness, chroma, hue)
    red, green, blue = (round(255 * _from_linear(min(max(value, 0.0), 1.0))) for value in rgb)
    return red, green, blue


def _to_oklab(color: Color) -> tuple[float, float, float]:
    red, green, blue = (_to_linear(value / 255) for value in color)
    long = math.cbrt(0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue)
    medium = math.cbrt(0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue)
    short = math.cbrt(0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue)
    return (
        0.2104542553 * long + 0.7936177850 * medium - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * medium + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * medium - 0.8086757660 * short,
    )


def _linear_rgb(lightness: float, chroma: float, hue: float) -> tuple[float, float, float]:
    a, b = chroma * math.cos(math.radians(hue)), chroma * math.sin(math.radians(hue))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )


def _to_linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def _from_linear(value: float) -> float:
    return 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055


def _fraction(value: float) -> float:
    return value - math.floor(value)
