"""Depth in colour: near is bright, far is dark."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from everymask.drawing.colors import from_oklch, outline_color, to_oklch
from everymask.labels import Color
from everymask.segmentation import DepthKind

# Every 17th of the 256 colours of "inferno", whose lightness rises evenly (Nathaniel Smith and Stéfan van der Walt,
# https://bids.github.io/colormap, 2015, CC0 1.0). Between them lines keep within 7/255 of the rest.
INFERNO: tuple[Color, ...] = (
    (0, 0, 4),
    (12, 8, 38),
    (36, 12, 79),
    (66, 10, 104),
    (93, 18, 110),
    (120, 28, 109),
    (147, 38, 103),
    (174, 48, 92),
    (199, 62, 76),
    (221, 81, 58),
    (237, 105, 37),
    (248, 133, 15),
    (252, 165, 10),
    (250, 198, 45),
    (242, 230, 97),
    (252, 255, 164),
)
CUT = 2.0  # percent of the depths that the scale leaves out at either end: a few outliers would darken all the rest
LARGEST_RATIO = 100.0  # of the farthest metric depth to the nearest
SMALLEST_METRIC = 1e-3  # metres; a farthest depth of 0 has no logarithm
PIXELS_TO_SCALE = 2**20  # so many are enough to find the percentiles
FARTHEST_LIGHTNESS, NEAREST_LIGHTNESS = 0.3, 0.92  # of a shaded segment, in OKLCh
STEPS = 9  # at which shades are exact; between them lines are as good


@dataclass(frozen=True, slots=True)
class DepthScale:
    """The depths that are drawn as the nearest and as the farthest; what lies beyond looks like them.

    Relative depth is drawn evenly between them, metric depth by its logarithm, as equal ratios look equally far apart
    in a picture: from a car to the horizon is more than an even scale in metres can show. A metric ``near`` is more
    than 0.
    """

    near: float
    far: float
    kind: DepthKind

    def nearness(self, depth: float) -> float:
        """Where a depth between the two is drawn: 1 is ``near``, 0 is ``far``. They must differ."""
        if self.kind == "metric":
            return math.log(self.far / depth) / math.log(self.far / self.near)
        return (depth - self.far) / (self.near - self.far)


def depth_scale(depth: NDArray[np.float32], kind: DepthKind) -> DepthScale:
    """The scale to draw a depth (H, W) with: from its 2nd to its 98th percentile, metric at most as 1 to 100."""
    step = math.ceil(math.sqrt(max(1, depth.size / PIXELS_TO_SCALE)))
    low, high = np.percentile(depth[::step, ::step], (CUT, 100 - CUT)).tolist()
    if kind == "relative":
        return DepthScale(high, low, kind)
    far = max(high, SMALLEST_METRIC)
    return DepthScale(max(low, far / LARGEST_RATIO), far, kind)


def brightness(depth: NDArray[np.float32], scale: DepthScale) -> NDArray[np.uint8]:
    """How near every pixel is, (H, W) uint8: 0 is ``scale.far``, 255 ``scale.near``; 128 where these are the same."""
    if scale.near == scale.far:
        return np.full(depth.shape, 128, np.uint8)
    near, far, levels = scale.near, scale.far, depth
    if scale.kind == "metric":
        near, far = math.log(near), math.log(far)
        levels = np.log(depth.clip(min=np.float32(scale.near)))
    levels = levels - np.float32(far)  # (H, W) float32
    levels *= np.float32(255 / (near - far))
    levels += np.float32(0.5)
    return levels.clip(0, 255, out=levels).astype(np.uint8)


def depth_colors() -> NDArray[np.uint8]:
    """The colour of each brightness, (256, 3) uint8."""
    return _between(np.array(INFERNO, np.float64))


def greys() -> NDArray[np.uint8]:
    """The lightness that a segment has at each brightness, as greys, (256, 3) uint8."""
    return shades((128, 128, 128))


def shades(color: Color) -> NDArray[np.uint8]:
    """The colour of a segment at each brightness, (256, 3) uint8: its hue, and the lighter the nearer."""
    return _between(np.array(_steps(color), np.float64))


def outline_shades(color: Color) -> NDArray[np.uint8]:
    """The colour of a segment's outline at each brightness, (256, 3) uint8."""
    return _between(np.array([outline_color(step) for step in _steps(color)], np.float64))


def _steps(color: Color) -> list[Color]:
    _, chroma, hue = to_oklch(color)
    lightness = np.linspace(FARTHEST_LIGHTNESS, NEAREST_LIGHTNESS, STEPS).tolist()
    return [from_oklch(each, chroma, hue) for each in lightness]


def _between(colors: NDArray[np.float64]) -> NDArray[np.uint8]:
    """256 colours (256, 3) on the lines between some (n, 3), evenly spaced."""
    levels = np.linspace(0, 255, len(colors))
    channels = [np.interp(np.arange(256), levels, channel) for channel in colors.T]
    between: NDArray[np.uint8] = np.rint(np.stack(channels, axis=1)).astype(np.uint8)
    return between
