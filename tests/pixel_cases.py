"""Logits smaller than the class maps they are compared with, for losses that go over pixels."""

from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor


@dataclass(frozen=True, slots=True)
class PixelCase:
    """``logits`` (B, C, h, w) float32, a leaf; ``laid_out``: the same, perhaps channels last in memory.

    ``class_maps`` (B, H, W) int64: 0..C-1, or -1 where a pixel does not count.
    """

    logits: Tensor
    laid_out: Tensor
    class_maps: Tensor


def pixel_case(
    seed: int, images: int, classes: int, small: tuple[int, int], size: tuple[int, int], channels_last: bool = False
) -> PixelCase:
    torch.manual_seed(seed)
    logits = (3 * torch.randn(images, classes, *small)).requires_grad_()
    laid_out = logits.contiguous(memory_format=torch.channels_last) if channels_last else logits
    return PixelCase(logits, laid_out, torch.randint(-1, classes, (images, *size)))


PIXEL_CASES = st.builds(
    pixel_case,
    seed=st.integers(0, 99),
    images=st.integers(1, 3),
    classes=st.integers(1, 7),
    small=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    channels_last=st.booleans(),
)
