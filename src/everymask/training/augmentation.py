"""Random views of a training image: scale, crop, flip, colour, blur and noise."""

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from everymask.errors import OptionError
from everymask.geometry import Size

Number = TypeVar("Number", bound=np.generic)

OCCASIONALLY = 0.3  # how often a sample is blurred, and how often noise is added
LUMA = np.array([0.299, 0.587, 0.114])  # of red, green and blue in what a grey picture shows (ITU-R BT.601)


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How training samples differ from the images they are cut from. Strengths of 0 switch a change off.

    ``scale``: (least, largest) factor, drawn uniformly, that an image is resized by, its ratio kept; large-scale jitter
    (Ghiasi et al. 2021, section 3) is (0.1, 2.0) with ``fit="inside"``. ``fit`` says which size factor 1 stands for:
    the largest at which the image lies "inside" the crop, or the smallest that can "cover" it. What is larger than the
    crop is cut at random, what is smaller leaves the rest of it empty. ``stretch``: by how much height and width may
    grow apart beyond that; 0.1 allows ratios between 1 / 1.1 and 1.1.

    ``focus``: the chance, 0..1, that a crop is laid over a pixel of a segment drawn at random; small things would be
    rare otherwise. ``flip``: the chance of a mirror image, left for right. ``paste``: the chance that segments of
    another image, in a view of its own, are laid over this one (``pasting.pasted``).

    ``brightness``, ``contrast``, ``saturation``: factors are drawn from 1 - strength to 1 + strength, strengths in
    0..1. ``hue``: the largest turn of the colours, in 0..0.5 of a full one, either way. ``gamma``: the exponent of
    light is e to a number between -gamma and gamma. ``blur``: the largest radius of a Gaussian, in pixels of the
    sample; ``noise``: the largest standard deviation of Gaussian noise, as a share of the range of values. Of all
    samples 30 % are blurred, and 30 % get noise.

    Raises OptionError for numbers out of these ranges.
    """

    scale: tuple[float, float] = (1.0, 1.0)
    fit: Literal["inside", "cover"] = "cover"
    stretch: float = 0.0
    focus: float = 0.0
    flip: float = 0.5
    paste: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    gamma: float = 0.0
    blur: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1]:
            raise OptionError(f"scale is {list(self.scale)}; give two factors above 0, the smaller one first")
        if self.fit not in ("inside", "cover"):
            raise OptionError(f'fit is "{self.fit}"; it is "inside" or "cover"')
        highest = {
            "focus": 1,
            "flip": 1,
            "paste": 1,
            "brightness": 1,
            "contrast": 1,
            "saturation": 1,
            "hue": 0.5,
            "noise": 1,
        }
        for name in ("stretch", "gamma", "blur", *highest):
            value, limit = getattr(self, name), highest.get(name, math.inf)
            if not 0 <= value <= limit:
                raise OptionError(f"{name} is {value}; it is from 0 to {limit}")


@dataclass(frozen=True, slots=True)
class View:
    """A part of an image, and the size it is shown at.

    ``box``: (left, top, right, bottom) in pixels of the image, edges not centres, so 0 and the width are its borders;
    whole numbers are not needed. ``size``: what the part is resized to, at once. ``flipped``: left for right, at last.
    """

    box: tuple[float, float, float, float]
    size: Size
    flipped: bool


def draw_view(
    augmentation: Augmentation,
    size: Size,
    crop: Size,
    rng: np.random.Generator,
    pixel: tuple[int, int] | None = None,
) -> View:
    """A random part of an image of ``size``, no larger than ``crop`` in either direction once it is resized.

    Where the resized image is smaller than the crop, the part is the whole of it. ``pixel``: a (row, column) of the
    image that the part shall hold.
    """
    height, width = size
    ratios = crop.height / height, crop.width / width
    scale = (min(ratios) if augmentation.fit == "inside" else max(ratios)) * rng.uniform(*augmentation.scale)
    apart = math.log1p(augmentation.stretch)
    half = math.exp(rng.uniform(-apart, apart) / 2)
    rows, top, bottom = _span(height, crop.height, scale * half, None if pixel is None else pixel[0], rng)
    columns, left, right = _span(width, crop.width, scale / half, None if pixel is None else pixel[1], rng)
    return View((left, top, right, bottom), Size(rows, columns), bool(rng.random() < augmentation.flip))


def _span(
    length: int, crop: int, scale: float, place: int | None, rng: np.random.Generator
) -> tuple[int, float, float]:
    """Of one side of an image: how many pixels the part is resized to, and its two ends in the image."""
    pixels = max(1, min(crop, round(length * scale)))
    extent = min(float(length), crop / scale)
    start = rng.uniform(0, length - extent)
    if place is not None:
        start = min(max(place + 0.5 - rng.random() * extent, 0.0), length - extent)
    return pixels, start, min(start + extent, float(length))


def random_pixel(id_map: NDArray[np.int32], segments: int, rng: np.random.Generator) -> tuple[int, int] | None:
    """A (row, column) of a segment drawn at random from the ids 0..segments - 1; None where there is no segment."""
    if segments == 0:
        return None
    places = np.flatnonzero(id_map == rng.integers(segments))
    if len(places) == 0:  # its pixels all lie under other segments
        return None
    row, column = divmod(int(places[rng.integers(len(places))]), id_map.shape[1])
    return row, column


def view_of_image(image: NDArray[np.uint8], view: View) -> NDArray[np.uint8]:
    """The part of an image (H, W, 3) that a view shows, (h, w, 3) with (h, w) == ``view.size``.

    Resized once, by Pillow's bilinear filter, whose support grows as the image shrinks (no aliasing).
    """
    return _seen(image, view, Image.Resampling.BILINEAR)


def view_of_map(values: NDArray[Number], view: View) -> NDArray[Number]:
    """The part of a map of ids or depths, (H, W) int32 or float32, that a view shows, (h, w): the nearest pixels."""
    return _seen(values, view, Image.Resampling.NEAREST)


def _seen(array: NDArray[Any], view: View, filter: Image.Resampling) -> NDArray[Any]:
    size = (view.size.width, view.size.height)
    seen = np.asarray(Image.fromarray(np.ascontiguousarray(array)).resize(size, filter, box=view.box))
    return seen[:, ::-1] if view.flipped else seen


def recolored(image: NDArray[np.uint8], augmentation: Augmentation, rng: np.random.Generator) -> NDArray[np.float32]:
    """The image (h, w, 3) in other light and colours, as taken by another camera: (h, w, 3) float32 in 0..255."""
    if augmentation.blur and rng.random() < OCCASIONALLY:
        radius = rng.uniform(0, augmentation.blur)
        image = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))
    exponent = math.exp(rng.uniform(-augmentation.gamma, augmentation.gamma))
    curve = (255 * (np.arange(256) / 255) ** exponent).astype(np.float32)
    pixels: NDArray[np.float32] = curve[image]
    brightness, contrast, saturation = (
        rng.uniform(1 - strength, 1 + strength)
        for strength in (augmentation.brightness, augmentation.contrast, augmentation.saturation)
    )
    angle = 2 * math.pi * rng.uniform(-augmentation.hue, augmentation.hue)
    # All four are linear, and those after the contrast leave grey as it is, so that they are one product and one sum.
    colors = brightness * contrast * (_turn(angle) @ _towards_grey(saturation))
    middle = float(pixels.mean((0, 1)) @ LUMA)
    pixels = pixels @ colors.T.astype(np.float32) + np.float32((1 - contrast) * brightness * middle)
    if augmentation.noise and rng.random() < OCCASIONALLY:
        deviation = np.float32(255 * rng.uniform(0, augmentation.noise))
        pixels += deviation * rng.standard_normal(pixels.shape, np.float32)
    return np.clip(pixels, 0, 255, out=pixels)


def _towards_grey(saturation: float) -> NDArray[np.float64]:
    """(3, 3): colours mixed with (0) or pushed away from (above 1) the grey of the same light."""
    return saturation * np.eye(3) + (1 - saturation) * np.tile(LUMA, (3, 1))


def _turn(angle: float) -> NDArray[np.float64]:
    """(3, 3): a rotation of colours about the axis of greys, by an angle in radians (Rodrigues' formula)."""
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    return math.cos(angle) * np.eye(3) + (1 - math.cos(angle)) / 3 + math.sin(angle) * cross
