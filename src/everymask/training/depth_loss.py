"""The losses of depth: up to scale and shift (MiDaS, Ranftl et al. 2022, section 5), and in metres (Eigen et al.)."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

TRIMMED = 0.2  # the share of the largest residuals that is left out
SMALLEST = 1e-6  # what keeps quotients and logarithms finite


@dataclass(frozen=True, slots=True)
class RelativeDepthLoss:
    """The loss of a network whose (inverse) depth has no unit.

    ``residuals``: "trimmed", absolute ones without the largest fifth, of maps aligned by median and mean deviation
    (equations 5 and 7); or "squared", of a prediction aligned by least squares (equations 2 to 4). ``gradient``: what
    the gradients of the residuals count (equation 11), at ``scales`` scales.
    """

    residuals: Literal["trimmed", "squared"] = "trimmed"
    gradient: float = 0.5
    scales: int = 4


@dataclass(frozen=True, slots=True)
class MetricDepthLoss:
    """The loss of a network that tells metres: the root of the scale-invariant log loss (Eigen et al. 2014, eq. 4).

    ``scale_invariance`` is their lambda: at 1 a factor common to all pixels costs nothing, at 0 all of it.
    """

    scale_invariance: float = 0.5


def relative_depth_loss(prediction: Tensor, truth: Tensor, config: RelativeDepthLoss) -> Tensor:
    """A scalar, the mean over images of depth (B, h, w), which is resized to the truth's (B, H, W).

    The truth is known where it is finite and above zero. Images without such a pixel count nothing.
    """
    losses = []
    for predicted, true, known in _images(prediction, truth):
        count = known.sum().clamp(min=1)
        aligned, wanted = (
            (_standardised(predicted, known), _standardised(true, known))
            if config.residuals == "trimmed"
            else (_aligned(predicted, true, known), true)
        )
        residuals = torch.where(known, aligned - wanted, 0)  # (H, W)
        if config.residuals == "trimmed":
            kept = int(known.sum() * (1 - TRIMMED))
            data = residuals[known].abs().sort().values[:kept].sum() / (2 * count)
        else:
            data = (residuals**2).sum() / (2 * count)
        losses.append(data + config.gradient * _gradient_loss(residuals, known, config.scales))
    return _mean(losses, prediction)


def metric_depth_loss(prediction: Tensor, truth: Tensor, config: MetricDepthLoss) -> Tensor:
    """A scalar, the mean over images of depth (B, h, w) in metres, which is resized to the truth's (B, H, W).

    The truth is known where it is finite and above zero. Images without such a pixel count nothing.
    """
    losses = []
    for predicted, true, known in _images(prediction, truth):
        difference = predicted[known].clamp(min=SMALLEST).log() - true[known].log()  # (P,)
        spread = (difference**2).mean() - config.scale_invariance * difference.mean() ** 2
        losses.append(spread.clamp(min=SMALLEST**2).sqrt())
    return _mean(losses, prediction)


def _images(prediction: Tensor, truth: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Prediction, truth and where that is known, (H, W) each, of the images that have such pixels."""
    resized = F.interpolate(prediction[:, None].float(), size=truth.shape[-2:], mode="bilinear", align_corners=False)
    images = []
    for predicted, true in zip(resized[:, 0], truth.float(), strict=True):
        known = true.isfinite() & (true > 0)
        if known.any():
            images.append((predicted, torch.where(known, true, 1), known))
    return images


def _mean(losses: list[Tensor], prediction: Tensor) -> Tensor:
    return torch.stack(losses).mean() if losses else prediction.float().sum() * 0


def _standardised(depth: Tensor, known: Tensor) -> Tensor:
    """Depth (H, W) less its median, by its mean absolute deviation from that (equation 5)."""
    values = depth[known]
    median = values.median()
    return (depth - median) / (values - median).abs().mean().clamp(min=SMALLEST)


def _aligned(prediction: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """A prediction (H, W) with the scale and shift that bring it nearest to the truth (equations 2 to 4)."""
    values, wanted = prediction[known], truth[known]
    centred = values - values.mean()
    scale = (centred * wanted).mean() / (centred**2).mean().clamp(min=SMALLEST**2)
    return (prediction - values.mean()) * scale + wanted.mean()


def _gradient_loss(residuals: Tensor, known: Tensor, scales: int) -> Tensor:
    """Absolute differences of neighbouring residuals (H, W) on grids of every 1st, 2nd, 4th ... pixel (equation 11).

    Those of each grid are summed, divided by its number of known pixels, and added up.
    """
    loss = residuals.new_zeros(())
    for scale in range(scales):
        some, there = residuals[:: 2**scale, :: 2**scale], known[:: 2**scale, :: 2**scale]
        across = ((some[:, 1:] - some[:, :-1]) * (there[:, 1:] & there[:, :-1])).abs().sum()
        down = ((some[1:] - some[:-1]) * (there[1:] & there[:-1])).abs().sum()
        loss = loss + (across + down) / there.sum().clamp(min=1)
    return loss
