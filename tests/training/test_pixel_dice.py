"""Dice an image at a time: the loss and the gradient of its definition, in less memory."""

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from torch import Tensor

from everymask.training.pixel_dice import resized_dice
from pixel_cases import PIXEL_CASES, PixelCase, pixel_case
from tensors import LargestTensor


def by_definition(case: PixelCase) -> Tensor:
    resized = F.interpolate(case.logits, size=case.class_maps.shape[-2:], mode="bilinear", align_corners=False)
    counted = case.class_maps >= 0
    probabilities = resized.softmax(1).movedim(1, -1)[counted]  # (P, C)
    true = F.one_hot(case.class_maps[counted], case.logits.shape[1])  # (P, C)
    dice = 1 - (2 * (probabilities * true).sum(0) + 1) / ((probabilities + true).sum(0) + 1)
    present = true.sum(0) > 0
    return dice[present].mean() if present.any() else 0 * dice.sum()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(case=PIXEL_CASES)
def test_loss_and_gradient_are_those_of_the_definition(case: PixelCase) -> None:
    loss, expected = resized_dice(case.laid_out, case.class_maps), by_definition(case)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    [gradient], [wanted] = torch.autograd.grad(3 * loss, case.logits), torch.autograd.grad(3 * expected, case.logits)
    torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-6)


def test_no_more_than_one_image_is_held_at_full_size() -> None:
    case = pixel_case(0, 6, 5, (8, 8), (32, 32))
    with LargestTensor() as ours:
        resized_dice(case.laid_out, case.class_maps).backward()
    with LargestTensor() as theirs:
        by_definition(case).backward()
    assert theirs.numbers >= 6 * 5 * 32 * 32
    assert ours.numbers <= 6 * 32 * 32  # the class maps of all images, or the five classes of one
