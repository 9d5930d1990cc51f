"""The assignment of targets to queries (DETR, section 3.1; costs as in Mask2Former, section 3.3, and MaskFormer)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from everymask.errors import MissingExtraError
from everymask.networks.detr import BoxedQueries
from everymask.networks.outputs import MaskQueries
from everymask.training.boxes import box_costs, boxes_of
from everymask.training.dense_masks import dense_mask_costs
from everymask.training.targets import Targets, sample_masks

Solver = Callable[[NDArray[np.float32]], tuple[NDArray[np.int64], NDArray[np.int64]]]


@dataclass(frozen=True, slots=True)
class LossWeights:
    """What each part of the loss counts, in the matching as in the loss.

    ``mask`` is the cross entropy of masks or, where they are compared at every pixel, their focal loss. ``no_object``
    is the weight of unmatched queries in the classification loss. ``l1`` and ``giou`` are for networks that predict
    boxes: where one of them is not zero, boxes are matched, not masks, as in DETR.
    """

    classification: float = 2.0
    mask: float = 5.0
    dice: float = 5.0
    no_object: float = 0.1
    l1: float = 0.0
    giou: float = 0.0

    @property
    def boxes(self) -> bool:
        """Whether boxes are compared."""
        return self.l1 > 0 or self.giou > 0


@dataclass(frozen=True, slots=True)
class Match:
    """Which query took which target of one image: two (M,) int64 tensors, M = min(Q, N)."""

    queries: Tensor
    targets: Tensor


@torch.no_grad()
def match(
    prediction: MaskQueries, targets: Sequence[Targets], weights: LossWeights, num_points: int | None
) -> list[Match]:
    """Finds, image by image, the cheapest one-to-one assignment of targets to queries.

    Masks are compared at ``num_points`` random points, the same ones for every pair of an image, or, if that is None,
    at every pixel. Where the weights speak of boxes, which the prediction must have then, boxes are compared instead.
    """
    solve = _assignment_solver()
    matches = []
    for image, target in enumerate(targets):
        cost = weights.classification * -prediction.class_logits[image].float().softmax(-1)[:, target.labels]
        if weights.boxes:
            assert isinstance(prediction, BoxedQueries)
            distance, overlap = box_costs(prediction.boxes[image].float(), boxes_of(target))
            cost = cost + weights.l1 * distance + weights.giou * overlap
        else:
            mask_logits = prediction.mask_logits[image]
            mask, dice = (
                dense_mask_costs(mask_logits, target)
                if num_points is None
                else _point_costs(mask_logits, target, num_points)
            )
            cost = cost + weights.mask * mask + weights.dice * dice  # (Q, N)
        # A cost that is no number marks a broken prediction, which is taken last.
        rows, columns = solve(torch.nan_to_num(cost, nan=1e6, posinf=1e6, neginf=1e6).cpu().numpy())
        device = target.labels.device
        matches.append(Match(torch.as_tensor(rows, device=device), torch.as_tensor(columns, device=device)))
    return matches


def _point_costs(mask_logits: Tensor, target: Targets, num_points: int) -> tuple[Tensor, Tensor]:
    """Cross entropy and dice loss of every query's mask (Q, h, w) with every segment, at random points: (Q, N) each."""
    points = torch.rand(1, num_points, 2, device=mask_logits.device)
    logits = sample_logits(mask_logits[:, None], points.expand(len(mask_logits), -1, -1))  # (Q, P)
    every = torch.arange(len(target.labels), device=mask_logits.device)
    truth = sample_masks(target, every, points)  # (N, P)
    return _pairwise_cross_entropy(logits, truth), _pairwise_dice(logits, truth)


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
