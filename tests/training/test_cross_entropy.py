"""Cross entropy an image at a time: the loss and the gradient of torch's, in less memory."""

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from everymask.training.cross_entropy import pixel_cross_entropies, resized_cross_entropy
from tensors import LargestTensor


def case(seed: int, images: int, classes: int, small: tuple[int, int], size: tuple[int, int]) -> tuple[Tensor, ...]:
    """Logits, class maps with some pixels to ignore, and what pixels count."""
    torch.manual_seed(seed)
    logits = 3 * torch.randn(images, classes, *small)
    class_maps = torch.randint(-1, classes, (images, *size))
    return logits.requires_grad_(), class_maps, torch.rand(images, *size) * (class_maps >= 0)


def by_torch(logits: Tensor, class_maps: Tensor) -> Tensor:
    resized = F.interpolate(logits, size=class_maps.shape[-2:], mode="bilinear", align_corners=False)
    return F.cross_entropy(resized, class_maps, ignore_index=-1, reduction="none")


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 99),
    images=st.integers(1, 3),
    classes=st.integers(1, 7),
    small=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    channels_last=st.booleans(),
)
def test_loss_and_gradient_are_torchs(
    seed: int, images: int, classes: int, small: tuple[int, int], size: tuple[int, int], channels_last: bool
) -> None:
    logits, class_maps, counts = case(seed, images, classes, small, size)
    laid_out = logits.contiguous(memory_format=torch.channels_last) if channels_last else logits
    loss = resized_cross_entropy(laid_out, class_maps, counts)
    expected = (by_torch(logits, class_maps) * counts).sum()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    [gradient], [wanted] = torch.autograd.grad(3 * loss, logits), torch.autograd.grad(3 * expected, logits)
    torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-5)
    pixels = class_maps >= 0
    each = pixel_cross_entropies(logits, class_maps)
    torch.testing.assert_close(each[pixels], by_torch(logits, class_maps)[pixels], rtol=1e-5, atol=1e-5)


def test_logits_far_apart_stay_finite() -> None:
    logits = torch.tensor([1e4, -1e4, 0.0]).view(1, 3, 1, 1).requires_grad_()
    loss = resized_cross_entropy(logits, torch.full((1, 2, 2), 1), torch.ones(1, 2, 2))
    assert loss.item() == 4 * 2e4
    [gradient] = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(gradient.flatten(), torch.tensor([4.0, -4.0, 0.0]))


def test_no_more_than_one_image_is_held_at_full_size() -> None:
    logits, class_maps, counts = case(0, 6, 5, (8, 8), (32, 32))
    with LargestTensor() as ours:
        resized_cross_entropy(logits, class_maps, counts).backward()
    with LargestTensor() as theirs:
        (by_torch(logits, class_maps) * counts).sum().backward()
    assert theirs.numbers == 6 * 5 * 32 * 32
    assert ours.numbers <= 6 * 32 * 32  # the counts of all images, or the five classes of one
