"""Depth losses: what they do not see, what they equal, and where the truth is unknown."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from everymask.training.depth_loss import (
    MetricDepthLoss,
    RelativeDepthLoss,
    metric_depth_loss,
    relative_depth_loss,
)

KINDS = [RelativeDepthLoss("trimmed"), RelativeDepthLoss("squared")]
random_maps = given(
    seed=st.integers(0, 1000), images=st.integers(1, 3), height=st.integers(2, 17), width=st.integers(2, 17)
)
few = settings(max_examples=20, deadline=None, derandomize=True)


def random_case(seed: int, images: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Depth and a truth that a fifth of the pixels lack, in one of three ways; each image has three known pixels."""
    torch.manual_seed(seed)
    prediction, truth = torch.rand(images, height, width) + 0.1, torch.rand(images, height, width) + 0.1
    for unknown in (0.0, -1.0, float("nan")):
        truth[torch.rand_like(truth) < 0.07] = unknown
    truth[:, 0, :2], truth[:, 1, 0] = torch.tensor([0.3, 0.5]), 0.9
    return prediction.requires_grad_(), truth


def gradients(residuals: NDArray[np.float64], known: NDArray[np.bool_], scales: int) -> float:
    total = 0.0
    for scale in range(scales):
        step = 2**scale
        r, k = residuals[::step, ::step], known[::step, ::step]
        pairs = 0.0
        for i in range(r.shape[0]):
            for j in range(r.shape[1]):
                if i + 1 < r.shape[0] and k[i, j] and k[i + 1, j]:
                    pairs += abs(r[i + 1, j] - r[i, j])
                if j + 1 < r.shape[1] and k[i, j] and k[i, j + 1]:
                    pairs += abs(r[i, j + 1] - r[i, j])
        total += pairs / max(k.sum(), 1)
    return total


def expected_loss(prediction: NDArray[np.float64], truth: NDArray[np.float64], config: RelativeDepthLoss) -> float:
    """One image's, as the paper writes it down."""
    known = np.isfinite(truth) & (truth > 0)
    d, wanted = prediction[known], truth[known]
    residuals = np.zeros_like(prediction)
    if config.residuals == "squared":
        (scale, shift), *_ = np.linalg.lstsq(np.stack([d, np.ones_like(d)], 1), wanted, rcond=None)
        residuals[known] = scale * d + shift - wanted
        data = (residuals**2).sum() / 2
    else:

        def standard(values: NDArray[np.float64]) -> NDArray[np.float64]:
            median = np.sort(values)[(len(values) - 1) // 2]  # the lower one of two, as torch has it
            return (values - median) / np.abs(values - median).mean()

        residuals[known] = standard(d) - standard(wanted)
        data = np.sort(np.abs(residuals[known]))[: int(0.8 * len(d))].sum() / 2
    return data / len(d) + config.gradient * gradients(residuals, known, config.scales)


@few
@random_maps
@pytest.mark.parametrize("config", KINDS, ids=lambda each: each.residuals)
def test_relative_depth_equals_the_definition(
    config: RelativeDepthLoss, seed: int, images: int, height: int, width: int
) -> None:
    prediction, truth = random_case(seed, images, height, width)
    pairs = zip(prediction.detach().double().numpy(), truth.double().numpy(), strict=True)
    expected = np.mean([expected_loss(*pair, config) for pair in pairs])
    assert relative_depth_loss(prediction, truth, config).item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


@few
@random_maps
@pytest.mark.parametrize("config", KINDS, ids=lambda each: each.residuals)
def test_scale_and_shift_of_a_prediction_cost_nothing(
    config: RelativeDepthLoss, seed: int, images: int, height: int, width: int
) -> None:
    prediction, truth = random_case(seed, images, height, width)
    loss = relative_depth_loss(prediction, truth, config)
    torch.testing.assert_close(relative_depth_loss(7 * prediction + 3, truth, config), loss, rtol=1e-3, atol=1e-5)
    right = torch.where(truth.isfinite(), truth, 5.0) * 0.2 - 4
    assert relative_depth_loss(right, truth, config).item() < 1e-4
    if config.residuals == "trimmed":  # the truth's, too
        moved = torch.where(truth > 0, 3 * truth + 1, truth)
        torch.testing.assert_close(relative_depth_loss(prediction, moved, config), loss, rtol=1e-3, atol=1e-5)


@few
@random_maps
def test_metric_depth_equals_the_definition(seed: int, images: int, height: int, width: int) -> None:
    prediction, truth = random_case(seed, images, height, width)
    expected = []
    for d, t in zip(prediction.detach().numpy(), truth.numpy(), strict=True):
        known = np.isfinite(t) & (t > 0)
        difference = np.log(d[known]) - np.log(t[known])
        n = len(difference)
        expected.append(np.sqrt((difference**2).sum() / n - 0.5 * difference.sum() ** 2 / n**2))
    assert metric_depth_loss(prediction, truth, MetricDepthLoss()).item() == pytest.approx(np.mean(expected), rel=1e-4)


def test_a_common_factor_costs_as_much_of_metric_depth_as_lambda_leaves() -> None:
    _, truth = random_case(0, 1, 9, 9)
    assert metric_depth_loss(2 * truth, truth, MetricDepthLoss(1.0)).item() < 1e-3
    assert metric_depth_loss(2 * truth, truth, MetricDepthLoss(0.0)).item() == pytest.approx(np.log(2), rel=1e-4)
    assert metric_depth_loss(truth, truth, MetricDepthLoss()).item() < 1e-5


@pytest.mark.parametrize("kind", ["trimmed", "squared", "metric"])
def test_gradients_are_finite_and_stay_where_the_truth_is_known(kind: str) -> None:
    prediction, truth = random_case(3, 2, 16, 12)

    def loss(prediction: Tensor, truth: Tensor) -> Tensor:
        if kind == "metric":
            return metric_depth_loss(prediction, truth, MetricDepthLoss())
        return relative_depth_loss(prediction, truth, RelativeDepthLoss("trimmed" if kind == "trimmed" else "squared"))

    [gradient] = torch.autograd.grad(loss(prediction, truth), prediction)
    known = truth.isfinite() & (truth > 0)
    assert gradient.isfinite().all()
    assert gradient[known].any()
    assert not gradient[~known].any()

    # A constant prediction, a perfect one, zeros, and no truth at all are no reason for a number that is none.
    for poor in (torch.ones_like(truth), torch.where(known, truth, 1.0), torch.zeros_like(truth)):
        poor.requires_grad_()
        [gradient] = torch.autograd.grad(loss(poor, truth), poor)
        assert gradient.isfinite().all()
    nothing = loss(prediction, torch.zeros_like(truth))
    assert nothing.item() == 0.0
    [gradient] = torch.autograd.grad(nothing, prediction)
    assert not gradient.any()


def test_a_smaller_prediction_is_resized() -> None:
    prediction, truth = torch.rand(2, 5, 4), torch.rand(2, 20, 16) + 0.1
    resized = F.interpolate(prediction[:, None], size=(20, 16), mode="bilinear")[:, 0]
    for config in KINDS:
        assert relative_depth_loss(prediction, truth, config) == relative_depth_loss(resized, truth, config)
