"""Convolving maps of several sizes at their own resolutions gives what convolving the enlarged maps gives."""

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from everymask.networks.layers.level_convolution import LevelConvolution
from parity import relative_error


@given(
    height=st.integers(1, 40), width=st.integers(1, 40), parts=st.lists(st.floats(0.01, 1.2), max_size=3),
)  # fmt: skip
@settings(derandomize=True, deadline=None, max_examples=40)
def test_as_if_resized_and_laid_side_by_side(height: int, width: int, parts: list[float]) -> None:
    torch.manual_seed(0)
    sizes = [(height, width), *((max(1, int(part * height)), max(1, int(part * width))) for part in parts)]
    levels = [torch.randn(2, 4, *size) for size in sizes]
    convolution = LevelConvolution(4, len(levels), 6)
    resized = [F.interpolate(each, size=sizes[0], mode="bilinear", align_corners=False) for each in levels]
    expected = F.conv2d(torch.cat(resized, 1), convolution.weight, padding=1)
    with torch.inference_mode():
        assert relative_error(convolution(levels), expected) < 1e-5
    assert relative_error(convolution(levels), expected) < 1e-6


def test_gradients_reach_weight_and_maps() -> None:
    levels = [torch.randn(1, 4, side, side, requires_grad=True) for side in (8, 4)]
    convolution = LevelConvolution(4, 2, 6)
    convolution(levels).square().sum().backward()
    assert convolution.weight.grad is not None
    assert all(each.grad is not None and each.grad.abs().max() > 0 for each in levels)
