"""The assignment of targets to queries (DETR, section 3.1; costs as in Mask2Former, section 3.3)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from everymask.errors import MissingExtraError
from everymask.networks.outputs import MaskQueries
from everymask.training.targets import Targets, sample_masks

Solver = Callable[[NDArray[np.float32]], tuple[NDArray[np.int64], NDArray[np.int64]]]


@dataclass(frozen=True, slots=True)
class LossWeights:
    """What classification, mask cross entropy and dice count, in the matching as in the loss.

    ``no_object`` is the weight of unmatched queries in the classification loss.
    """

    classification: float = 2.0
    mask: float = 5.0
    dice: float = 5.0
    no_object: float = 0.1


@dataclass(frozen=True, slots=True)
class Match:
    """Which query took which target of one image: two (M,) int64 tensors, M = min(Q, N)."""

    queries: Tensor
    targets: Tensor


@torch.no_grad()
def match(prediction: MaskQueries, targets: Sequence[Targets], weights: LossWeights, num_points: int) -> list[Match]:
    """Finds, image by image, the cheapest one-to-one assignment of targets to queries.

    Masks are compared at ``num_points`` random points, the same ones for every pair of an image.
    """
    linear_sum_assignment = _assignment_solver()
    matches = []
    for class_logits, mask_logits, target in zip(prediction.class_logits, prediction.mask_logits, targets, strict=True):
        points = torch.rand(1, num_points, 2, device=mask_logits.device)
        logits = sample_logits(mask_logits[:, None], points.expand(len(mask_logits), -1, -1))  # (Q, P)
        every = torch.arange(len(target.labels), device=mask_logits.device)
        truth = sample_masks(target, every, points)  # (N, P)
        cost = (
            weights.classification * -class_logits.float().softmax(-1)[:, target.labels]
            + weights.mask * _pairwise_cross_entropy(logits, truth)
            + weights.dice * _pairwise_dice(logits, truth)
        )  # (Q, N)
        rows, columns = linear_sum_assignment(torch.nan_to_num(cost, nan=1e6, posinf=1e6, neginf=-1e6).cpu().numpy())
        device = target.labels.device
        matches.append(Match(torch.as_tensor(rows, device=device), torch.as_tensor(columns, device=device)))
    return matches


def sample_logits(logits: Tensor, points: Tensor) -> Tensor:
    """Reads (M, 1, h, w) maps bilinearly at points (M, P, 2), (x, y) in 0..1; returns (M, P) float32."""
    grid = points[:, :, None] * 2 - 1  # (M, P, 1, 2)
    return F.grid_sample(logits.float(), grid, align_corners=False)[:, 0, :, 0]


def _pairwise_cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    """Mean binary cross entropy of every query (Q, P) with every target (N, P): (Q, N)."""
    inside, outside = F.softplus(-logits), F.softplus(logits)  # -log m, -log (1 - m)
    return (inside @ truth.T + outside @ (1 - truth).T) / logits.shape[1]


def _pairwise_dice(logits: Tensor, truth: Tensor) -> Tensor:
    """Dice loss of every query (Q, P) with every target (N, P): (Q, N)."""
    masks = logits.sigmoid()
    overlap = 2 * masks @ truth.T
    return 1 - (overlap + 1) / (masks.sum(-1)[:, None] + truth.sum(-1)[None, :] + 1)


def _assignment_solver() -> Solver:
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise MissingExtraError("training needs SciPy: pip install 'everymask[train]'") from error
    solver: Solver = linear_sum_assignment
    return solver
