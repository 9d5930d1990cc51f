"""Masks compared at every pixel, as MaskFormer (section 3.3) and DETR (section 4.2) do, without holding dense targets.

The losses are the focal loss (Lin et al. 2017, equation 5) and dice (Milletari et al. 2016, with plain sums below the
line and 1 added to both sides).
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from everymask.training.targets import Targets

ALPHA = 0.25  # of the focal loss: what pixels inside count; those outside count 1 - ALPHA. Its exponent gamma is 2.
PIXELS_AT_ONCE = 2**20  # of all masks of a chunk, at the image's size: some 50 MB


def dense_mask_costs(mask_logits: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """Focal loss and dice loss of every query's mask (Q, h, w) with every segment: (Q, N) each.

    They are compared at the masks' size, to which the id map is brought by taking the nearest pixel. No pixel has two
    segments, so that sums over segments are sums over pixels in the order of the id map: N masks are never made.
    """
    size = (int(mask_logits.shape[-2]), int(mask_logits.shape[-1]))
    # Interpolation wants floats, which hold the numbers of 16 million segments exactly.
    ids = F.interpolate(targets.id_map[None, None].float(), size=size, mode="nearest").flatten().long()  # (h w,)
    logits = mask_logits.float().flatten(1)  # (Q, h w)
    masks = logits.sigmoid()
    inside = ALPHA * (1 - masks) ** 2 * F.softplus(-logits)
    outside = (1 - ALPHA) * masks**2 * F.softplus(logits)
    count = len(targets.labels)

    def summed(values: Tensor) -> Tensor:
        """(Q, h w) -> the sum over the pixels of each segment, (Q, N)."""
        sums = values.new_zeros(count + 1, len(values))  # in the first place those of "no segment"
        return sums.index_add_(0, ids + 1, values.T)[1:].T

    areas = torch.bincount(ids + 1, minlength=count + 1)[1:]  # (N,)
    focal = (summed(inside - outside) + outside.sum(1, keepdim=True)) / logits.shape[1]
    dice = 1 - (2 * summed(masks) + 1) / (masks.sum(1, keepdim=True) + areas + 1)
    return focal, dice


def dense_mask_losses(mask_logits: Tensor, targets: Targets, segments: Tensor) -> tuple[Tensor, Tensor]:
    """Focal loss and dice loss of masks (M, h, w) with ``segments`` (M,), compared at the id map's size: two scalars.

    The focal loss is averaged over pixels, and both are summed over masks. Masks are resized (bilinear) a chunk at a
    time, so that memory beyond some copies of the arguments does not grow with M.
    """
    compare: Callable[..., tuple[Tensor, Tensor]] = _DenseLosses.apply
    focal, dice = compare(mask_logits.float(), targets.id_map, segments)
    return focal / targets.id_map.numel(), dice


class _DenseLosses(torch.autograd.Function):
    """Sums of the focal and of the dice loss, whose gradients are made together with them.

    Left to autograd, either every resized mask would be remembered or all be made a second time.
    """

    @staticmethod
    def forward(ctx: Any, mask_logits: Tensor, id_map: Tensor, segments: Tensor) -> tuple[Tensor, Tensor]:
        gradients = torch.empty_like(mask_logits), torch.empty_like(mask_logits)
        sums = [mask_logits.new_zeros(()), mask_logits.new_zeros(())]
        at_once = max(1, PIXELS_AT_ONCE // id_map.numel())
        for start in range(0, len(mask_logits), at_once):
            chunk = slice(start, start + at_once)
            truth = (id_map == segments[chunk, None, None]).float()  # (K, H, W)
            with torch.enable_grad():
                small = mask_logits[chunk, None].detach().requires_grad_()  # (K, 1, h, w)
                resized = F.interpolate(small, size=id_map.shape, mode="bilinear", align_corners=False)
            logits = resized.detach()[:, 0]
            for index, compare in enumerate((_focal_loss, _dice_loss)):
                loss, slope = compare(logits, truth)
                sums[index] += loss
                [gradient] = torch.autograd.grad(resized, small, slope[:, None], retain_graph=True)
                gradients[index][chunk] = gradient[:, 0]
        ctx.save_for_backward(*gradients)
        return sums[0], sums[1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, focal: Tensor, dice: Tensor) -> tuple[Tensor, None, None]:
        focal_gradient, dice_gradient = ctx.saved_tensors
        return focal * focal_gradient + dice * dice_gradient, None, None


def _focal_loss(logits: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """The sum over masks (K, H, W) and pixels, and its derivative by each logit."""
    masks = logits.sigmoid()
    missed = truth - masks
    cross_entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    weighted = (1 - ALPHA + (2 * ALPHA - 1) * truth) * missed
    loss = (weighted * missed * cross_entropy).sum()
    return loss, -weighted * (2 * masks * (1 - masks) * cross_entropy + missed**2)


def _dice_loss(logits: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """The sum over masks (K, H, W), and its derivative by each logit."""
    masks = logits.sigmoid()
    above = 2 * (masks * truth).sum((1, 2), keepdim=True) + 1
    below = (masks.sum((1, 2)) + truth.sum((1, 2)))[:, None, None] + 1
    return (1 - above / below).sum(), masks * (1 - masks) * (above / below - 2 * truth) / below
