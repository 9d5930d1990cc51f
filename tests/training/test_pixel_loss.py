"""Per-pixel losses equal what their definitions give, pixel by pixel."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from everymask.networks.outputs import PixelLogits
from everymask.training.pixel_loss import HardPixels, PixelLossConfig, pixel_loss

NUM_CLASSES = 4
PLAIN = PixelLossConfig()


def random_case(seed: int, images: int, size: tuple[int, int], stride: int) -> tuple[PixelLogits, Tensor]:
    torch.manual_seed(seed)
    small = (images, NUM_CLASSES, -(-size[0] // stride), -(-size[1] // stride))
    logits, auxiliary = (2 * torch.randn(small, requires_grad=True) for _ in range(2))
    return PixelLogits(logits, (PixelLogits(auxiliary),)), torch.randint(-1, NUM_CLASSES, (images, *size))


def by_pixel(logits: Tensor, class_maps: Tensor) -> list[tuple[Tensor, int]]:
    """The log-probabilities of the classes at every pixel that counts, with its class."""
    resized = F.interpolate(logits, size=class_maps.shape[-2:], mode="bilinear", align_corners=False)
    scores = resized.log_softmax(1).movedim(1, -1).flatten(0, 2)
    return [(score, int(each)) for score, each in zip(scores, class_maps.flatten(), strict=True) if each >= 0]


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 1000),
    images=st.integers(1, 3),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    stride=st.integers(1, 3),
)
def test_every_part_is_what_its_definition_says(seed: int, images: int, size: tuple[int, int], stride: int) -> None:
    prediction, class_maps = random_case(seed, images, size, stride)
    class_maps[0, 0, 0] = 1  # at least one pixel counts
    weights = (0.5, 1.0, 2.0, 3.0)
    losses = pixel_loss(prediction, class_maps, PixelLossConfig(dice=1.0, class_weights=weights))

    def weighted(logits: Tensor) -> Tensor:
        pixels = by_pixel(logits, class_maps)
        return sum(-score[c] * weights[c] for score, c in pixels) / sum(weights[c] for _, c in pixels)

    torch.testing.assert_close(losses.cross_entropy, weighted(prediction.logits))
    torch.testing.assert_close(losses.auxiliary, weighted(prediction.auxiliary[0].logits))
    pixels = by_pixel(prediction.logits, class_maps)
    dices = []
    for index in {c for _, c in pixels}:
        masks = [(score[index].exp(), float(c == index)) for score, c in pixels]
        overlap, total = sum(m * t for m, t in masks), sum(m + t for m, t in masks)
        dices.append(1 - (2 * overlap + 1) / (total + 1))
    torch.testing.assert_close(losses.dice, torch.stack(dices).mean())


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), threshold=st.floats(0.05, 1.0), min_kept=st.integers(0, 60))
def test_hard_pixels_are_the_improbable_ones_and_at_least_so_many(seed: int, threshold: float, min_kept: int) -> None:
    prediction, class_maps = random_case(seed, 2, (8, 7), 2)
    config = PixelLossConfig(hard_pixels=HardPixels(threshold, min_kept))
    losses = sorted((-score[c].item() for score, c in by_pixel(prediction.logits, class_maps)), reverse=True)
    hard = [each for index, each in enumerate(losses) if each >= -math.log(threshold) or index < 2 * min_kept]
    expected = sum(hard) / len(hard) if hard else 0.0
    assert pixel_loss(prediction, class_maps, config).cross_entropy.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("hard_pixels", [None, HardPixels()])
def test_where_everything_is_ignored_nothing_is_lost(hard_pixels: HardPixels | None) -> None:
    prediction, class_maps = random_case(0, 2, (6, 6), 2)
    config = PixelLossConfig(hard_pixels=hard_pixels, dice=1.0)
    total = pixel_loss(prediction, torch.full_like(class_maps, -1), config).total(config)
    assert total.item() == 0.0
    [gradient] = torch.autograd.grad(total, prediction.logits)
    assert not gradient.any()


def test_the_total_weighs_the_parts() -> None:
    prediction, class_maps = random_case(0, 2, (6, 6), 2)
    losses = pixel_loss(prediction, class_maps, PixelLossConfig(dice=2.0))
    expected = losses.cross_entropy + 2 * losses.dice + 0.4 * losses.auxiliary
    torch.testing.assert_close(losses.total(PixelLossConfig(dice=2.0)), expected)
    assert pixel_loss(prediction, class_maps, PLAIN).dice == 0.0
