"""What a checkpoint's preprocessor_config.json says, for every kind of image processor."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from PIL import Image

from everymask.errors import CheckpointError, ImageError
from everymask.geometry import Geometry, Size
from everymask.preprocessing import fields
from everymask.preprocessing.fields import Config, Triple
from everymask.preprocessing.resizing import (
    FitOneSide,
    FixedSize,
    ResizeRule,
    ShortestEdge,
    WithinEdges,
    nearest_multiple,
    next_multiple,
)
from everymask.tiling import Tiling

BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How an image becomes the input of a network; what the file's do_* flags switch off is folded into the values.

    ``resize``: the rule for the size; None leaves images as they are. ``resample``: the filter, Pillow's number; None:
    OpenCV's bilinear one. ``size_divisor``: an image that is resized is stretched until both sides are multiples of it,
    by Pillow at once and by OpenCV in a second resize after the rule's, as mmcv does; 0 switches this off.
    Then, on the 0 to 255 of the image, ``pixel_values = (image * rescale_factor - mean) / std``, channel by channel in
    the order red, green, blue. ``pad_to``: the size that zeros at the bottom and right fill up to; None: no padding.
    ``black_padding``: black pixels, normalised like all others, take the place of the zeros. ``pad_divisor``: zeros on
    all four sides fill up to multiples of it, the odd one at the bottom and right; 0 switches this off. ``pad_end``:
    all of them are at the bottom and right. ``tiling``: an image that is larger than its window is covered by several;
    without ``pad_to`` a window is no larger than the image.
    """

    resize: ResizeRule | None
    resample: Image.Resampling | None
    size_divisor: int
    rescale_factor: float
    mean: Triple
    std: Triple
    pad_to: Size | None
    black_padding: bool = False
    pad_divisor: int = 0
    pad_end: bool = False
    tiling: Tiling | None = None

    @classmethod
    def from_config(cls, config: Config) -> "Preprocessing":
        """Reads the content of a preprocessor_config.json, written by any release of transformers since 2021.

        A field that is missing or null takes the processor's own default. Fields that concern annotations only
        (``ignore_index``, ``reduce_labels``, ``num_labels``) have no meaning here.

        Raises CheckpointError for a processor that is not supported and for a field that makes no sense.
        """
        return _reader(config)(config)

    def geometry(self, original: Size) -> Geometry:
        """The sizes that an image of size ``original`` (both sides at least 1) goes through.

        Raises ImageError where the resized image is larger than the size to pad to and no windows may cover it.
        """
        resized = original
        if self.resize is not None:
            resized = next_multiple(self.resize.target(original), self.size_divisor)
        if self.tiling is not None:
            window = self.pad_to or Size(*(min(pair) for pair in zip(self.tiling.window, resized, strict=True)))
            return Geometry(original, resized, window, self.tiling.corners(resized), smooth=self.tiling.smooth)
        padded = self.pad_to or next_multiple(resized, self.pad_divisor)
        if resized.height > padded.height or resized.width > padded.width:
            raise ImageError(
                f"an image of {original.width} x {original.height} pixels becomes {resized.width} x {resized.height}, "
                f"more than the {padded.width} x {padded.height} this checkpoint pads to; resize or crop it, or "
                "correct pad_size in preprocessor_config.json"
            )
        if not self.pad_divisor or self.pad_end:
            return Geometry(original, resized, padded)
        offset = (padded.height - resized.height) // 2, (padded.width - resized.width) // 2
        return Geometry(original, resized, padded, offset=offset)


@dataclass(frozen=True, slots=True)
class _Defaults:
    """What a processor does where the file is silent; transformers 4.57 and 5.23 agree but for BEiT."""

    mean: Triple
    std: Triple
    resample: Image.Resampling


_IMAGENET = _Defaults((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), BILINEAR)
_HALVES = _Defaults((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), BICUBIC)


def _colors(config: Config, defaults: _Defaults) -> Preprocessing:
    """What all processors have: filter, rescaling and normalisation. Sizes are left as they are."""
    normalise = fields.flag(config, "do_normalize")
    std = fields.triple(config, "image_std", defaults.std) if normalise else (1.0, 1.0, 1.0)
    if 0.0 in std:
        raise fields.wrong(config, "image_std", "three numbers other than 0")
    return Preprocessing(
        resize=None,
        resample=fields.resampling(config, defaults.resample),
        size_divisor=0,
        rescale_factor=fields.number(config, "rescale_factor", 1 / 255) if fields.flag(config, "do_rescale") else 1.0,
        mean=fields.triple(config, "image_mean", defaults.mean) if normalise else (0.0, 0.0, 0.0),
        std=std,
        pad_to=None,
    )


def _detr(config: Config) -> Preprocessing:
    """DETR and OneFormer know no size divisor.

    They pad to the largest image of a batch and mark the padding for the network to ignore, which for an image alone
    comes to no padding; so does ``pad_size``.
    """
    return replace(_colors(config, _IMAGENET), resize=_edges_or_size(config) if _resizes(config) else None)


def _maskformer(config: Config) -> Preprocessing:
    """MaskFormer and Mask2Former: as DETR, then stretched to multiples of the size divisor."""
    divisor_field = "size_divisor" if config.get("size_divisor") is not None else "size_divisibility"
    return replace(
        _detr(config),
        size_divisor=fields.integer(config, divisor_field, 32, minimum=0),
        pad_to=_pad_size(config),
    )


def _eomt(config: Config) -> Preprocessing:
    """EoMT pads with black up to a square of the shortest edge, or cuts images into such squares.

    The longer side is rounded, as EoMT's authors and transformers 4.x do; transformers 5.23 rounds it downwards.
    """
    edges = _shortest_edge(config)
    square = Size(edges.shortest, edges.shortest)
    splits = fields.flag(config, "do_split_image", default=False)
    pads = fields.flag(config, "do_pad", default=False)
    if pads and not splits and edges.longest != edges.shortest:
        raise fields.wrong(config, "size", "a longest_edge equal to shortest_edge, since images are padded to a square")
    return replace(
        _colors(config, _IMAGENET),
        resize=edges if _resizes(config) else None,
        pad_to=square if pads or splits else None,
        black_padding=True,
        tiling=Tiling(square) if splits else None,
    )


def _segformer(config: Config) -> Preprocessing:
    """SegFormer and UPerNet stretch every image to one size."""
    return replace(_colors(config, _IMAGENET), resize=FixedSize(_size(config, 512)) if _resizes(config) else None)


def _beit(config: Config) -> Preprocessing:
    """BEiT as SegFormer, with other numbers; where the file is silent, as transformers 5.23 (4.57 would crop).

    Raises CheckpointError where the file crops, since nothing would be said about the rest of the image.
    """
    if fields.flag(config, "do_center_crop", default=False):
        raise fields.wrong(config, "do_center_crop", "false, since a mask of the whole image needs the whole image")
    return replace(_colors(config, _HALVES), resize=FixedSize(_size(config, 224)) if _resizes(config) else None)


def _dpt(config: Config) -> Preprocessing:
    """DPT and Depth Anything: one size or one side fitted, in multiples; then zeros on all sides up to multiples."""
    size, multiple = _size(config, 384), fields.integer(config, "ensure_multiple_of", 1)
    rule: ResizeRule = FixedSize(Size(*(nearest_multiple(side, multiple) for side in size)))
    if fields.flag(config, "keep_aspect_ratio", default=False):
        rule = FitOneSide(size, multiple)
    pads = fields.flag(config, "do_pad", default=False) and config.get("size_divisor") is not None
    return replace(
        _colors(config, _HALVES),
        resize=rule if _resizes(config) else None,
        size_divisor=multiple,
        pad_divisor=fields.integer(config, "size_divisor") if pads else 0,
    )


def _mmcv(config: Config) -> Preprocessing:
    """How mmcv resizes in tests: ``size`` {shortest_edge, longest_edge} by OpenCV."""
    size = config.get("size")
    if not isinstance(size, Mapping) or fields.present(size) != {"shortest_edge", "longest_edge"}:
        raise fields.wrong(config, "size", "{shortest_edge, longest_edge}")
    edges = WithinEdges(fields.integer(size, "shortest_edge"), fields.integer(size, "longest_edge"))
    return replace(_colors(config, _IMAGENET), resize=edges if _resizes(config) else None, resample=None)


def _mmdet(config: Config) -> Preprocessing:
    """mmdet's test recipe, in fields of our own, for transformers has no such processor; ``pad_divisor`` adds zeros."""
    return replace(_mmcv(config), pad_divisor=fields.integer(config, "pad_divisor", 32), pad_end=True)


def _vit_adapter(config: Config) -> Preprocessing:
    """ViT-Adapter's test recipe in mmseg, in fields of our own, too.

    ``size_divisor`` for a second resize, ``window`` and ``stride`` [height, width].
    """
    return replace(
        _mmcv(config),
        size_divisor=fields.integer(config, "size_divisor", 32),
        tiling=Tiling(fields.sides(config, "window"), fields.sides(config, "stride")),
    )


_READERS: dict[str, Callable[[Config], Preprocessing]] = {
    "Mask2Former": _maskformer,
    "MaskFormer": _maskformer,
    "Detr": _detr,
    "OneFormer": _detr,
    "Eomt": _eomt,
    "Segformer": _segformer,
    "Beit": _beit,
    "DPT": _dpt,
    "MMDet": _mmdet,
    "ViTAdapter": _vit_adapter,
}
# Fast and Pil are other engines of the same rule; FeatureExtractor is the name of before 2022.
_PROCESSOR = re.compile(rf"({'|'.join(_READERS)})(ImageProcessor(Fast|Pil)?|FeatureExtractor)")


def _reader(config: Config) -> Callable[[Config], Preprocessing]:
    """Raises CheckpointError unless the file is of a processor that is read here."""
    name = config.get("image_processor_type") or config.get("feature_extractor_type")
    found = _PROCESSOR.fullmatch(str(name))
    if found is None:
        what = "names no image_processor_type" if name is None else f"is for {name}"
        known = ", ".join(f"{family}ImageProcessor" for family in _READERS)
        raise CheckpointError(
            f"preprocessor_config.json {what}; supported are {known}. Use a checkpoint that comes with one of these"
        )
    return _READERS[found[1]]


def _resizes(config: Config) -> bool:
    return fields.flag(config, "do_resize")


def _size(config: Config, default: int) -> Size:
    """``size`` is {height, width}, or the old int, a square."""
    size = config.get("size")
    if isinstance(size, Mapping):
        if fields.present(size) != {"height", "width"}:
            raise fields.wrong(config, "size", "an integer or {height, width}")
        return Size(fields.integer(size, "height"), fields.integer(size, "width"))
    side = fields.integer(config, "size", default)
    return Size(side, side)


def _edges_or_size(config: Config) -> FixedSize | ShortestEdge:
    """``size`` is {height, width}, {shortest_edge, longest_edge}, or the old int beside max_size."""
    max_size_field = "max_size" if config.get("max_size") is not None else "_max_size"
    max_size = fields.integer(config, max_size_field, 1333)
    size = config.get("size")
    if size is None:
        return ShortestEdge(800, max_size)
    if isinstance(size, Mapping):
        if fields.present(size) == {"height", "width"}:
            return FixedSize(_size(config, 0))
        if fields.present(size) == {"shortest_edge", "longest_edge"}:
            return ShortestEdge(fields.integer(size, "shortest_edge"), fields.integer(size, "longest_edge"))
    elif isinstance(size, int):
        return ShortestEdge(fields.integer(config, "size"), max_size)
    raise fields.wrong(config, "size", "an integer, {height, width} or {shortest_edge, longest_edge}")


def _shortest_edge(config: Config) -> ShortestEdge:
    """``size`` is {shortest_edge} with or without longest_edge, or an int, the shortest edge."""
    size = config.get("size")
    if size is None:
        return ShortestEdge(640, 640, round_longer=True)
    if isinstance(size, int):
        return ShortestEdge(fields.integer(config, "size"), None, round_longer=True)
    if isinstance(size, Mapping) and "shortest_edge" in fields.present(size):
        longest = fields.integer(size, "longest_edge") if size.get("longest_edge") is not None else None
        return ShortestEdge(fields.integer(size, "shortest_edge"), longest, round_longer=True)
    raise fields.wrong(config, "size", "{shortest_edge, longest_edge}, the latter null for none")


def _pad_size(config: Config) -> Size | None:
    size = config.get("pad_size")
    if size is None:
        return None
    if not isinstance(size, Mapping):
        side = fields.integer(config, "pad_size")
        return Size(side, side)
    return Size(fields.integer(size, "height"), fields.integer(size, "width"))
