"""What networks return."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class MaskQueries:
    """The output of mask classification: Q queries, each a class distribution and a mask.

    ``class_logits`` (B, Q, C + 1): scores before the softmax; the last entry is "no object".
    ``mask_logits`` (B, Q, h, w): masks before the sigmoid, over the whole padded input, at the network's own stride.
    ``auxiliary``: the predictions of the earlier decoder layers, first to last; filled in training mode only.
    """

    class_logits: Tensor
    mask_logits: Tensor
    auxiliary: tuple["MaskQueries", ...] = ()


@dataclass(frozen=True, slots=True)
class PixelLogits:
    """The output of per-pixel classification.

    ``logits`` (B, C, h, w): class scores before the softmax, over the whole padded input, at the network's own stride.
    ``auxiliary``: the predictions of auxiliary heads; filled in training mode only.
    """

    logits: Tensor
    auxiliary: tuple["PixelLogits", ...] = ()


@dataclass(frozen=True, slots=True)
class DepthMap:
    """The output of a depth network: ``depth`` (B, h, w) over the whole padded input, metres or without a unit."""

    depth: Tensor


@dataclass(frozen=True, slots=True)
class PixelsAndDepth:
    """The output of a network with two heads: ``pixels`` and ``depth`` of the same images."""

    pixels: PixelLogits
    depth: DepthMap


Output = MaskQueries | PixelLogits | DepthMap | PixelsAndDepth
"""What the forward of a network returns."""
