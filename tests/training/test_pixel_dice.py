"""Dice an image at a time: the loss and the gradient of its definition, in less memory."""

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from everymask.training.pixel_dice import resized_dice
from tensors import LargestTensor


def case(seed: int, images: int, classes: int, small: tuple[int, int], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Logits, and class maps in which some pixels do not count."""
    torch.manual_seed(seed)
    return 3 * torch.randn(images, classes, *small), torch.randint(-1, classes, (images, *size))


def by_definition(logits: Tensor, class_maps: Tensor) -> Tensor:
    resized = F.interpolate(logits, size=class_maps.shape[-2:], mode="bilinear", align_corners=False)
    counted = class_maps >= 0
    probabilities = resized.softmax(1).movedim(1, -1)[counted]  # (P, C)
    true = F.one_hot(class_maps[counted], logits.shape[1])  # (P, C)
    dice = 1 - (2 * (probabilities * true).sum(0) + 1) / ((probabilities + true).sum(0) + 1)
    present = true.sum(0) > 0
    return dice[present].mean() if present.any() else 0 * dice.sum()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 99),
    images=st.integers(1, 3),
    classes=st.integers(1, 7),
    small=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    channels_last=st.booleans(),
)
def test_loss_and_gradient_are_those_of_the_definition(
    seed: int, images: int, classes: int, small: tuple[int, int], size: tuple[int, int], channels_last: bool
) -> None:
    logits, class_maps = case(seed, images, classes, small, size)
    logits.requires_grad_()
    laid_out = logits.contiguous(memory_format=torch.channels_last) if channels_last else logits
    loss, expected = resized_dice(laid_out, class_maps), by_definition(logits, class_maps)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    [gradient], [wanted] = torch.autograd.grad(3 * loss, logits), torch.autograd.grad(3 * expected, logits)
    torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-6)


def test_no_more_than_one_image_is_held_at_full_size() -> None:
    logits, class_maps = case(0, 6, 5, (8, 8), (32, 32))
    logits.requires_grad_()
    with LargestTensor() as ours:
        resized_dice(logits, class_maps).backward()
    with LargestTensor() as theirs:
        by_definition(logits, class_maps).backward()
    assert theirs.numbers >= 6 * 5 * 32 * 32
    assert ours.numbers <= 6 * 32 * 32  # the class maps of all images, or the five classes of one
