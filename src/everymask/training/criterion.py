"""The set-prediction loss of mask classification (Mask2Former, sections 3.3 and 4.1)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from everymask.networks.outputs import MaskQueries
from everymask.training.matcher import LossWeights, Match, match, sample_logits
from everymask.training.targets import Targets, sample_masks


@dataclass(frozen=True, slots=True)
class PointSampling:
    """How the points are chosen at which masks are compared (PointRend, Kirillov et al. 2020, section 3.1).

    Of ``oversample`` times ``num_points`` random points the most uncertain are kept, up to the share ``importance`` of
    ``num_points``; the rest is uniform.
    """

    num_points: int = 12544
    oversample: float = 3.0
    importance: float = 0.75


@dataclass(frozen=True, slots=True)
class Losses:
    """The three parts of the loss, unweighted: scalars, summed over the predictions of all layers."""

    classification: Tensor
    mask: Tensor
    dice: Tensor

    def total(self, weights: LossWeights) -> Tensor:
        """The weighted sum that is minimised."""
        return weights.classification * self.classification + weights.mask * self.mask + weights.dice * self.dice


def set_prediction_loss(
    prediction: MaskQueries,
    targets: Sequence[Targets],
    weights: LossWeights,
    sampling: PointSampling,
) -> Losses:
    """Matches every prediction, the earlier layers' too (deep supervision), with the targets and sums the losses.

    ``prediction`` is the network's output in training mode for B images, ``targets`` their B targets.
    """
    num_masks = max(sum(len(each.labels) for each in targets), 1)
    parts = [
        _layer_losses(layer, targets, match(layer, targets, weights, sampling.num_points), weights, sampling, num_masks)
        for layer in (prediction, *prediction.auxiliary)
    ]
    classification, mask, dice = (torch.stack(column).sum() for column in zip(*parts, strict=True))
    return Losses(classification, mask, dice)


def _layer_losses(
    prediction: MaskQueries,
    targets: Sequence[Targets],
    matches: Sequence[Match],
    weights: LossWeights,
    sampling: PointSampling,
    num_masks: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Classification, mask cross entropy and dice of one layer's prediction."""
    classification = _classification_loss(prediction.class_logits, targets, matches, weights.no_object)
    logits = torch.cat([masks[each.queries] for masks, each in zip(prediction.mask_logits, matches, strict=True)])[
        :, None
    ]  # (M, 1, h, w), the matched masks of all images
    with torch.no_grad():
        points = uncertain_points(logits, sampling)  # (M, P, 2)
        counts = [len(each.queries) for each in matches]
        truth = torch.cat(
            [
                sample_masks(target, each.targets, part)
                for target, each, part in zip(targets, matches, points.split(counts), strict=True)
            ]
        )  # (M, P)
    sampled = sample_logits(logits, points)
    cross_entropy = F.binary_cross_entropy_with_logits(sampled, truth, reduction="none").mean(1).sum() / num_masks
    masks = sampled.sigmoid()
    dice = 1 - (2 * (masks * truth).sum(-1) + 1) / (masks.sum(-1) + truth.sum(-1) + 1)
    return classification, cross_entropy, dice.sum() / num_masks


def _classification_loss(
    class_logits: Tensor, targets: Sequence[Targets], matches: Sequence[Match], no_object: float
) -> Tensor:
    """Weighted cross entropy of every query's class; unmatched queries should say "no object"."""
    num_classes = class_logits.shape[-1]
    wanted = torch.full(class_logits.shape[:2], num_classes - 1, device=class_logits.device)
    for row, target, each in zip(wanted, targets, matches, strict=True):
        row[each.queries] = target.labels[each.targets]
    class_weights = torch.ones(num_classes, device=class_logits.device)
    class_weights[-1] = no_object
    return F.cross_entropy(class_logits.float().flatten(0, 1), wanted.flatten(), class_weights)


def uncertain_points(logits: Tensor, sampling: PointSampling) -> Tensor:
    """Points (M, P, 2) in 0..1 for maps (M, 1, h, w): mostly where the logits are near zero, the rest anywhere."""
    count, device = len(logits), logits.device
    candidates = torch.rand(count, int(sampling.num_points * sampling.oversample), 2, device=device)
    certainty = sample_logits(logits, candidates).abs()
    uncertain = int(sampling.importance * sampling.num_points)
    chosen = certainty.topk(uncertain, dim=1, largest=False).indices
    points = candidates.gather(1, chosen[..., None].expand(-1, -1, 2))
    return torch.cat((points, torch.rand(count, sampling.num_points - uncertain, 2, device=device)), 1)
