"""What transformers' post-processing starts from: outputs of several forms, and what the families do with them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from everymask.errors import OptionError
from everymask.geometry import Size
from everymask.networks.outputs import MaskQueries, PixelLogits

TargetSizes = Iterable[Sequence[int]] | Tensor
"""The (height, width) of each image."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How the image processor of a family reads outputs, as far as the families differ.

    ``instances``: how it finds instances. "panoptic": as panoptic segments of which none are fused. "pairs": the best Q
    pairs of a query and a class, each with a mask of its own. "contest": such pairs compete for every pixel, with
    their logits. "queries": every query with its best class and a mask of its own. None: the family scores pixels.
    ``first_size``: what masks are resized to before anything else; None where they are not.
    ``antialias``: whether resizing to the target size smooths what becomes smaller.
    ``canvas``: whether masks lie on a padded canvas that the image is cut out of, before the sigmoid (EoMT).
    ``threshold``: the default.
    """

    instances: Literal["panoptic", "pairs", "contest", "queries"] | None
    first_size: Size | None = None
    antialias: bool = False
    canvas: bool = False
    threshold: float = 0.5


_PIXELS = Reading(None)
_EOMT = Reading("queries", canvas=True, threshold=0.8)

FAMILIES: dict[str, Reading] = {
    "beit": _PIXELS,
    "detr": Reading("panoptic"),
    "dpt": _PIXELS,
    "eomt": _EOMT,
    "eomt_dinov3": _EOMT,
    "mask2former": Reading("pairs", first_size=Size(384, 384)),
    "maskformer": Reading("pairs"),
    "oneformer": Reading("contest", antialias=True),
    "segformer": _PIXELS,
    "upernet": _PIXELS,
}

_FAMILY_OF_OUTPUT = {
    "DetrSegmentationOutput": "detr",
    "EomtDinov3ForUniversalSegmentationOutput": "eomt_dinov3",
    "EomtForUniversalSegmentationOutput": "eomt",
    "Mask2FormerForUniversalSegmentationOutput": "mask2former",
    "MaskFormerForInstanceSegmentationOutput": "maskformer",
    "OneFormerForUniversalSegmentationOutput": "oneformer",
}


def read_outputs(outputs: object, family: str | None) -> tuple[MaskQueries | PixelLogits, Reading]:
    """A network's outputs without their gradients, and how their family reads them.

    Raises OptionError for outputs without logits, and for a family that is unknown in transformers, has other outputs,
    or cannot be told from these.
    """
    found = _find_logits(outputs)
    pixels = isinstance(found, PixelLogits)
    if family is None and pixels:
        return found, _PIXELS
    family = family or _FAMILY_OF_OUTPUT.get(type(outputs).__name__)
    fitting = [name for name, reading in FAMILIES.items() if (reading is _PIXELS) == pixels]
    if family is None:
        raise OptionError(
            f"each family in transformers reads queries in its own way, and {type(outputs).__name__} does not tell "
            f"whose they are: give the family, {' or '.join(fitting)}"
        )
    if family not in fitting:
        kind = "score pixels" if pixels else "are queries"
        raise OptionError(
            f"no family {family!r} is known in transformers with outputs that {kind}: choose {' or '.join(fitting)}"
        )
    return found, FAMILIES[family]


def field(outputs: object, name: str) -> Any:
    """What outputs, a mapping or an object with attributes, hold under a name; None where they have no such name."""
    return outputs.get(name) if isinstance(outputs, Mapping) else getattr(outputs, name, None)


def sizes_of(target_sizes: TargetSizes | None, images: int) -> list[Size | None]:
    """The size wanted of each image, None for those that stay as they are.

    Raises OptionError when there are more or fewer target sizes than images, and for one that is no (height, width).
    """
    if target_sizes is None:
        return [None] * images
    sizes: list[Size | None] = []
    for each in target_sizes:
        sides = [int(side) for side in each]
        if len(sides) != 2 or min(sides) < 1:
            raise OptionError(f"the target size {tuple(sides)} is not a height and a width in pixels")
        sizes.append(Size(*sides))
    if len(sizes) != images:
        raise OptionError(f"there are {len(sizes)} target sizes for {images} images: give one for each image")
    return sizes


def _find_logits(outputs: object) -> MaskQueries | PixelLogits:
    if isinstance(outputs, MaskQueries):
        return MaskQueries(outputs.class_logits.detach(), outputs.mask_logits.detach())
    if isinstance(outputs, PixelLogits):
        return PixelLogits(outputs.logits.detach())
    for classes, masks in (("class_queries_logits", "masks_queries_logits"), ("logits", "pred_masks")):
        class_logits, mask_logits = field(outputs, classes), field(outputs, masks)
        if isinstance(class_logits, Tensor) and isinstance(mask_logits, Tensor):
            return MaskQueries(class_logits.detach(), mask_logits.detach())
    logits = field(outputs, "logits")
    if isinstance(logits, Tensor) and logits.ndim == 4:
        return PixelLogits(logits.detach())
    raise OptionError(
        f"{type(outputs).__name__} holds no logits that can be read as masks: give what a network for segmentation "
        "returns, with class_queries_logits and masks_queries_logits, logits and pred_masks, or logits (B, C, h, w)"
    )
