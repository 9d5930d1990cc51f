"""The set-prediction loss of mask classification (DETR, section 3.1; Mask2Former, sections 3.3 and 4.1)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from everymask.networks.detr import BoxedQueries
from everymask.networks.outputs import MaskQueries
from everymask.training.boxes import box_losses, boxes_of
from everymask.training.dense_masks import dense_mask_losses
from everymask.training.matcher import LossWeights, Match, match, sample_logits
from everymask.training.processes import mean_over_processes
from everymask.training.targets import Targets, sample_masks

MASKS_AT_ONCE = 32  # in the choice of points, whose memory is theirs: a mask takes some 1 MB


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
    """The parts of the loss, unweighted: scalars, summed over the predictions of all layers.

    ``l1`` and ``giou``, of boxes, are zero where boxes are not compared.
    """

    classification: Tensor
    mask: Tensor
    dice: Tensor
    l1: Tensor
    giou: Tensor

    def total(self, weights: LossWeights) -> Tensor:
        """The weighted sum that is minimised."""
        return (
            weights.classification * self.classification
            + weights.mask * self.mask
            + weights.dice * self.dice
            + weights.l1 * self.l1
            + weights.giou * self.giou
        )


def set_prediction_loss(
    prediction: MaskQueries,
    targets: Sequence[Targets],
    weights: LossWeights,
    sampling: PointSampling | None,
) -> Losses:
    """Matches every prediction, the earlier layers' too (deep supervision), with the targets and sums the losses.

    ``prediction`` is the network's output in training mode for B images, ``targets`` their B targets. Masks are
    compared at points with cross entropy, as in Mask2Former and its successors; without ``sampling`` at every pixel of
    the targets with the focal loss, as in MaskFormer and DETR. Where the weights speak of boxes, the prediction must be
    ``BoxedQueries``, and so must its earlier layers'.

    Of several processes each gets its share of their common batch's loss: the mean over processes is the loss itself.
    """
    segments = prediction.class_logits.new_tensor(sum(len(each.labels) for each in targets), dtype=torch.float32)
    num_masks = mean_over_processes(segments).clamp(min=1)
    layers = (prediction, *prediction.auxiliary)
    parts = [_layer_losses(layer, targets, weights, sampling, num_masks) for layer in layers]
    return Losses(*(torch.stack(column).sum() for column in zip(*parts, strict=True)))


def _layer_losses(
    prediction: MaskQueries,
    targets: Sequence[Targets],
    weights: LossWeights,
    sampling: PointSampling | None,
    num_masks: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Classification, mask, dice, L1 and GIoU loss of one layer's prediction."""
    matches = match(prediction, targets, weights, None if sampling is None else sampling.num_points)
    classification = _classification_loss(prediction.class_logits, targets, matches, weights.no_object)
    mask, dice = (
        _dense_losses(prediction.mask_logits, targets, matches)
        if sampling is None
        else _point_losses(prediction.mask_logits, targets, matches, sampling)
    )
    l1 = giou = mask.new_zeros(())
    if weights.boxes:
        assert isinstance(prediction, BoxedQueries)
        chosen = [boxes[each.queries] for boxes, each in zip(prediction.boxes, matches, strict=True)]
        wanted = [boxes_of(target)[each.targets] for target, each in zip(targets, matches, strict=True)]
        l1, giou = box_losses(torch.cat(chosen).float(), torch.cat(wanted))
    return classification, mask / num_masks, dice / num_masks, l1 / num_masks, giou / num_masks


def _dense_losses(mask_logits: Tensor, targets: Sequence[Targets], matches: Sequence[Match]) -> tuple[Tensor, Tensor]:
    """Focal and dice loss of the matched masks at every pixel, summed over masks."""
    parts = [
        dense_mask_losses(masks[each.queries], target, each.targets)
        for masks, target, each in zip(mask_logits, targets, matches, strict=True)
    ]
    focal, dice = (torch.stack(column).sum() for column in zip(*parts, strict=True))
    return focal, dice


def _point_losses(
    mask_logits: Tensor, targets: Sequence[Targets], matches: Sequence[Match], sampling: PointSampling
) -> tuple[Tensor, Tensor]:
    """Cross entropy and dice loss of the matched masks at points, summed over masks."""
    matched = [masks[each.queries] for masks, each in zip(mask_logits, matches, strict=True)]
    logits = torch.cat(matched)[:, None]  # (M, 1, h, w), the matched masks of all images
    with torch.no_grad():
        points = uncertain_points(logits, sampling)  # (M, P, 2)
        of_images = points.split([len(each.queries) for each in matches])
        truth = torch.cat(
            [
                sample_masks(target, wanted, some)
                for target, each, part in zip(targets, matches, of_images, strict=True)
                for wanted, some in zip(each.targets.split(MASKS_AT_ONCE), part.split(MASKS_AT_ONCE), strict=True)
            ]
        )  # (M, P)
    sampled = sample_logits(logits, points)
    cross_entropy = F.binary_cross_entropy_with_logits(sampled, truth, reduction="none").mean(1).sum()
    masks = sampled.sigmoid()
    dice = 1 - (2 * (masks * truth).sum(-1) + 1) / (masks.sum(-1) + truth.sum(-1) + 1)
    return cross_entropy, dice.sum()


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
    logits, wanted = class_logits.float().flatten(0, 1), wanted.flatten()
    return F.cross_entropy(logits, wanted, class_weights, reduction="sum") / mean_over_processes(
        class_weights[wanted].sum()
    )


def uncertain_points(logits: Tensor, sampling: PointSampling) -> Tensor:
    """Points (M, P, 2) in 0..1 for maps (M, 1, h, w): mostly where the logits are near zero, the rest anywhere."""
    chosen = torch.cat([_most_uncertain(some, sampling) for some in logits.split(MASKS_AT_ONCE)])
    rest = torch.rand(len(logits), sampling.num_points - chosen.shape[1], 2, device=logits.device)
    return torch.cat((chosen, rest), 1)


def _most_uncertain(logits: Tensor, sampling: PointSampling) -> Tensor:
    """Of random points those where maps (K, 1, h, w) are nearest to zero: (K, share of P, 2)."""
    candidates = torch.rand(len(logits), int(sampling.num_points * sampling.oversample), 2, device=logits.device)
    certainty = sample_logits(logits, candidates).abs()
    chosen = certainty.topk(int(sampling.importance * sampling.num_points), dim=1, largest=False).indices
    return candidates.gather(1, chosen[..., None].expand(-1, -1, 2))
