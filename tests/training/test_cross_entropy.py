"""Cross entropy an image at a time: the loss and the gradient of torch's, in less memory."""

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from torch import Tensor

from everymask.training.cross_entropy import pixel_cross_entropies, resized_cross_entropy
from pixel_cases import PIXEL_CASES, PixelCase, pixel_case
from tensors import LargestTensor


def counts_for(class_maps: Tensor) -> Tensor:
    """What pixels count, at random; nothing where there is no class."""
    return torch.rand(class_maps.shape) * (class_maps >= 0)


def by_torch(case: PixelCase) -> Tensor:
    resized = F.interpolate(case.logits, size=case.class_maps.shape[-2:], mode="bilinear", align_corners=False)
    return F.cross_entropy(resized, case.class_maps, ignore_index=-1, reduction="none")


@settings(max_examples=40, deadline=None, derandomize=True)
@given(case=PIXEL_CASES)
def test_loss_and_gradient_are_torchs(case: PixelCase) -> None:
    counts = counts_for(case.class_maps)
    loss = resized_cross_entropy(case.laid_out, case.class_maps, counts)
    expected = (by_torch(case) * counts).sum()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    [gradient], [wanted] = torch.autograd.grad(3 * loss, case.logits), torch.autograd.grad(3 * expected, case.logits)
    torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-5)
    pixels = case.class_maps >= 0
    each = pixel_cross_entropies(case.logits, case.class_maps)
    torch.testing.assert_close(each[pixels], by_torch(case)[pixels], rtol=1e-5, atol=1e-5)


def test_logits_far_apart_stay_finite() -> None:
    logits = torch.tensor([1e4, -1e4, 0.0]).view(1, 3, 1, 1).requires_grad_()
    loss = resized_cross_entropy(logits, torch.full((1, 2, 2), 1), torch.ones(1, 2, 2))
    assert loss.item() == 4 * 2e4
    [gradient] = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(gradient.flatten(), torch.tensor([4.0, -4.0, 0.0]))


def test_no_more_than_one_image_is_held_at_full_size() -> None:
    case = pixel_case(0, 6, 5, (8, 8), (32, 32))
    counts = counts_for(case.class_maps)
    with LargestTensor() as ours:
        resized_cross_entropy(case.logits, case.class_maps, counts).backward()
    with LargestTensor() as theirs:
        (by_torch(case) * counts).sum().backward()
    assert theirs.numbers == 6 * 5 * 32 * 32
    assert ours.numbers <= 6 * 32 * 32  # the counts of all images, or the five classes of one
