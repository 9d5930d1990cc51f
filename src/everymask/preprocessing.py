"""What a checkpoint's preprocessor_config.json says: resize, rescale, normalise, pad."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from everymask.errors import CheckpointError, ImageError
from everymask.geometry import Geometry, Size
from everymask.tiling import Tiling

# The processors read here; the names ending in Fast and Pil are other engines of the same rule.
PROCESSORS = (
    "Mask2FormerImageProcessor",
    "Mask2FormerImageProcessorFast",
    "Mask2FormerImageProcessorPil",
    "MaskFormerImageProcessor",
    "MaskFormerImageProcessorFast",
    "MaskFormerImageProcessorPil",
    "MaskFormerFeatureExtractor",
)
# These know no size divisor. They pad to the largest image of a batch and mark the padding for the network to ignore,
# which for an image alone comes to no padding; so does ``pad_size``.
UNPADDED_PROCESSORS = (
    "DetrImageProcessor",
    "DetrImageProcessorFast",
    "DetrImageProcessorPil",
    "DetrFeatureExtractor",
    "OneFormerImageProcessor",
    "OneFormerImageProcessorFast",
    "OneFormerImageProcessorPil",
)
# These pad with black pixels up to a square, or cut images into square windows.
EOMT_PROCESSORS = ("EomtImageProcessor", "EomtImageProcessorFast", "EomtImageProcessorPil")

# What these processors do where the file is silent (transformers 4.57 and 5.23 agree).
DEFAULT_SHORTEST_EDGE = 800
DEFAULT_LONGEST_EDGE = 1333
DEFAULT_SIZE_DIVISOR = 32
DEFAULT_EOMT_EDGE = 640
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class FixedSize:
    """Every image is stretched to one size."""

    size: Size

    def target(self, original: Size) -> Size:
        """The size an image of size ``original`` is resized to, before the size divisor."""
        return self.size


@dataclass(frozen=True, slots=True)
class ShortestEdge:
    """The shorter side becomes ``shortest`` pixels, or fewer where the longer one would exceed ``longest``, if any.

    ``round_longer``: the longer side is rounded to the next whole number, otherwise downwards.
    """

    shortest: int
    longest: int | None
    round_longer: bool = False

    def target(self, original: Size) -> Size:
        """The size an image of size ``original`` is resized to, before the size divisor. Each side is at least 1."""
        short, long = sorted(original)
        scaled: float = self.shortest  # the shorter side, before it is rounded
        if self.longest is not None and long / short * self.shortest > self.longest:
            scaled = self.longest * short / long
        new_short = round(scaled)
        # transformers scales the longer side by the unrounded shorter one, but leaves an image alone whose shorter side
        # is right already.
        whole = round if self.round_longer else int
        new_long = long if new_short == short else whole(scaled * long / short)
        new_short = max(new_short, 1)  # a panorama of 1 : 3000 would vanish
        return Size(new_short, new_long) if original.height <= original.width else Size(new_long, new_short)


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How an image becomes the input of a network; what the file's do_* flags switch off is folded into the values.

    ``resize``: the rule for the size; None leaves images as they are. ``resample``: the filter, Pillow's number.
    ``size_divisor``: an image that is resized is stretched until both sides are multiples of it; 0 switches this off.
    Then, on the 0 to 255 of the image, ``pixel_values = (image * rescale_factor - mean) / std``, channel by channel in
    the order red, green, blue. ``pad_to``: the size that zeros at the bottom and right fill up to; None: no padding.
    ``black_padding``: black pixels, normalised like all others, take the place of the zeros. ``tiling``: an image that
    is larger than its window is covered by several; without ``pad_to`` a window is no larger than the image.
    """

    resize: FixedSize | ShortestEdge | None
    resample: Image.Resampling
    size_divisor: int
    rescale_factor: float
    mean: Triple
    std: Triple
    pad_to: Size | None
    black_padding: bool = False
    tiling: Tiling | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Preprocessing":
        """Reads the content of a preprocessor_config.json, written by any release of transformers since 2022.

        A field that is missing or null takes the processor's own default. Fields that concern annotations only
        (``ignore_index``, ``reduce_labels``, ``num_labels``) have no meaning here.

        Raises CheckpointError for a processor that is not supported and for a field that makes no sense.
        """
        processor = _processor(config)
        unpadded, eomt = processor in UNPADDED_PROCESSORS, processor in EOMT_PROCESSORS
        windowed = eomt and _flag(config, "do_split_image", default=False)
        square = _read_square(config) if eomt else None
        divisor_field = "size_divisor" if config.get("size_divisor") is not None else "size_divisibility"
        rescale = _flag(config, "do_rescale")
        normalise = _flag(config, "do_normalize")
        std = _triple(config, "image_std", IMAGENET_STD) if normalise else (1.0, 1.0, 1.0)
        if 0.0 in std:
            raise _wrong(config, "image_std", "three numbers other than 0")
        return cls(
            resize=(_read_edges(config) if eomt else _read_resize(config)) if _flag(config, "do_resize") else None,
            resample=_read_resample(config),
            size_divisor=0 if unpadded or eomt else _integer(config, divisor_field, DEFAULT_SIZE_DIVISOR, minimum=0),
            rescale_factor=_number(config, "rescale_factor", 1 / 255) if rescale else 1.0,
            mean=_triple(config, "image_mean", IMAGENET_MEAN) if normalise else (0.0, 0.0, 0.0),
            std=std,
            pad_to=None if unpadded else square if eomt else _read_pad_size(config),
            black_padding=eomt,
            tiling=Tiling(square) if windowed and square is not None else None,
        )

    def geometry(self, original: Size) -> Geometry:
        """The sizes that an image of size ``original`` (both sides at least 1) goes through.

        Raises ImageError where the resized image is larger than the size to pad to and no windows may cover it.
        """
        resized = original
        if self.resize is not None:
            resized = self.resize.target(original)
            if self.size_divisor > 0:
                resized = Size(*(math.ceil(side / self.size_divisor) * self.size_divisor for side in resized))
        padded = self.pad_to or resized
        if self.tiling is not None:
            window = self.pad_to or Size(*(min(pair) for pair in zip(self.tiling.window, resized, strict=True)))
            return Geometry(original, resized, window, self.tiling.corners(resized), smooth=self.tiling.smooth)
        if resized.height > padded.height or resized.width > padded.width:
            raise ImageError(
                f"an image of {original.width} x {original.height} pixels becomes {resized.width} x {resized.height}, "
                f"more than the {padded.width} x {padded.height} this checkpoint pads to; resize or crop it, or "
                "correct pad_size in preprocessor_config.json"
            )
        return Geometry(original, resized, padded)


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

    Equal to the Pillow image processors of transformers within float32 rounding: Pillow's resize on uint8, then rescale
    and normalise, then zeros at the bottom and right (EoMT's black).

    Raises ImageError for an array of another shape or type.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ImageError(
            f"expected (H, W, 3) uint8, got an array of shape {image.shape} and type {image.dtype}; "
            "pass it through everymask.images.read_image first"
        )
    geometry = preprocessing.geometry(Size(*image.shape[:2]))
    if geometry.resized != geometry.original:
        height, width = geometry.resized
        resized = Image.fromarray(image).resize((width, height), preprocessing.resample)
        image = np.asarray(resized)  # (h, w, 3)
    pixel_values = np.empty((1, 3, *geometry.canvas), np.float32)
    height, width = geometry.resized
    for channel, (mean, std) in enumerate(zip(preprocessing.mean, preprocessing.std, strict=True)):
        # One multiply-add: (x * rescale - mean) / std
        scale, shift = np.float32(preprocessing.rescale_factor / std), np.float32(mean / std)
        inside = pixel_values[0, channel, :height, :width]
        if geometry.resized != geometry.canvas:
            pixel_values[0, channel] = -shift if preprocessing.black_padding else 0
        np.multiply(image[:, :, channel], scale, out=inside, dtype=np.float32)
        inside -= shift
    return Prepared(torch.from_numpy(pixel_values), geometry)


def _processor(config: Mapping[str, Any]) -> str:
    """The processor that the file names. Raises CheckpointError unless it is read here."""
    name = config.get("image_processor_type") or config.get("feature_extractor_type")
    known = PROCESSORS + UNPADDED_PROCESSORS + EOMT_PROCESSORS
    if name not in known:
        found = "names no image_processor_type" if name is None else f"is for {name}"
        raise CheckpointError(
            f"preprocessor_config.json {found}; supported are {', '.join(known)}. "
            "Use a Mask2Former, MaskFormer, OneFormer, DETR or EoMT checkpoint"
        )
    return str(name)


def _read_resize(config: Mapping[str, Any]) -> FixedSize | ShortestEdge:
    """The resize rule: ``size`` is {height, width}, {shortest_edge, longest_edge}, or the old int beside max_size."""
    max_size_field = "max_size" if config.get("max_size") is not None else "_max_size"
    max_size = _integer(config, max_size_field, DEFAULT_LONGEST_EDGE)
    size = config.get("size")
    if size is None:
        return ShortestEdge(DEFAULT_SHORTEST_EDGE, max_size)
    if isinstance(size, Mapping):
        present = {key for key, value in size.items() if value is not None}
        if present == {"height", "width"}:
            return FixedSize(Size(_integer(size, "height"), _integer(size, "width")))
        if present == {"shortest_edge", "longest_edge"}:
            return ShortestEdge(_integer(size, "shortest_edge"), _integer(size, "longest_edge"))
    elif isinstance(size, int):
        return ShortestEdge(_integer(config, "size"), max_size)
    raise _wrong(config, "size", "an integer, {height, width} or {shortest_edge, longest_edge}")


def _read_edges(config: Mapping[str, Any]) -> ShortestEdge:
    """EoMT's resize rule: ``size`` is {shortest_edge} with or without longest_edge, or an int, the shortest edge.

    The longer side is rounded, as EoMT's authors and transformers 4.x do; transformers 5.23 rounds it downwards.
    """
    size = config.get("size")
    if size is None:
        return ShortestEdge(DEFAULT_EOMT_EDGE, DEFAULT_EOMT_EDGE, round_longer=True)
    if isinstance(size, int):
        return ShortestEdge(_integer(config, "size"), None, round_longer=True)
    if isinstance(size, Mapping) and "shortest_edge" in {key for key, value in size.items() if value is not None}:
        longest = _integer(size, "longest_edge") if size.get("longest_edge") is not None else None
        return ShortestEdge(_integer(size, "shortest_edge"), longest, round_longer=True)
    raise _wrong(config, "size", "{shortest_edge, longest_edge}, the latter null for none")


def _read_square(config: Mapping[str, Any]) -> Size | None:
    """What EoMT pads to, or cuts into windows of: a square of the shortest edge; None where it does neither."""
    edges = _read_edges(config)
    if not _flag(config, "do_split_image", default=False):
        if not _flag(config, "do_pad", default=False):
            return None
        if edges.longest != edges.shortest:
            raise _wrong(config, "size", "a longest_edge equal to shortest_edge, since images are padded to a square")
    return Size(edges.shortest, edges.shortest)


def _read_pad_size(config: Mapping[str, Any]) -> Size | None:
    size = config.get("pad_size")
    if size is None:
        return None
    if not isinstance(size, Mapping):
        side = _integer(config, "pad_size")
        return Size(side, side)
    return Size(_integer(size, "height"), _integer(size, "width"))


def _read_resample(config: Mapping[str, Any]) -> Image.Resampling:
    number = _integer(config, "resample", Image.Resampling.BILINEAR, minimum=0)
    if number not in set(Image.Resampling):
        raise _wrong(config, "resample", "the number of a Pillow filter, such as 2 for bilinear")
    return Image.Resampling(number)


def _flag(config: Mapping[str, Any], name: str, *, default: bool = True) -> bool:
    """A do_* field; most of them are true where the file is silent."""
    value = config.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise _wrong(config, name, "true or false")
    return value


def _integer(config: Mapping[str, Any], name: str, default: int | None = None, minimum: int = 1) -> int:
    value = config.get(name)
    if value is None:
        value = default
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise _wrong(config, name, f"an integer of at least {minimum}")
    return value


def _number(config: Mapping[str, Any], name: str, default: float) -> float:
    value = config.get(name)
    if value is None:
        return default
    if not _is_number(value):
        raise _wrong(config, name, "a finite number")
    return float(value)


def _triple(config: Mapping[str, Any], name: str, default: Triple) -> Triple:
    """One number per channel; a single number stands for all three."""
    value = config.get(name)
    if value is None:
        return default
    values = value if isinstance(value, list | tuple) else [value] * 3
    if len(values) != 3 or not all(_is_number(v) for v in values):
        raise _wrong(config, name, "a number or a list of three")
    red, green, blue = (float(v) for v in values)
    return red, green, blue


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _wrong(config: Mapping[str, Any], name: str, expected: str) -> CheckpointError:
    return CheckpointError(
        f"preprocessor_config.json: {name} is {config.get(name)!r}, expected {expected}; "
        "correct the file or fetch it anew"
    )
