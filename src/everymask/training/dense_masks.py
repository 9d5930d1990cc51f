"""Masks compared at every pixel, as MaskFormer (section 3.3) and DETR (section 4.2) do, without holding dense targets.

The losses are the focal loss (Lin et al. 2017, equation 5) and dice (Milletari et al. 2016, with plain sums below the
line and 1 added to both sides).
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from everymask.training.targets import Targets

ALPHA = 0.25  # of the focal loss: what pixels inside count; those outside count 1 - ALPHA. Its exponent gamma is 2.
PIXELS_AT_ONCE = 2**22  # of all masks of a chunk, at the image's size: some 200 MB for the backward pass


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

    The focal loss is averaged over pixels, and both are summed over masks. Masks are resized a chunk at a time, and
    again in the backward pass, so that memory beyond the arguments' does not grow with M.
    """
    pixels = targets.id_map.numel()
    at_once = max(1, PIXELS_AT_ONCE // pixels)
    focal = dice = torch.zeros((), device=mask_logits.device)
    for logits, wanted in zip(mask_logits.split(at_once), segments.split(at_once), strict=True):
        parts = checkpoint(_chunk_losses, logits, targets.id_map, wanted, use_reentrant=False, preserve_rng_state=False)
        focal, dice = focal + parts[0], dice + parts[1]
    return focal / pixels, dice


def _chunk_losses(mask_logits: Tensor, id_map: Tensor, segments: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of the focal loss and the dice loss of masks (K, h, w) with ``segments`` (K,): two scalars."""
    resized = F.interpolate(mask_logits[:, None].float(), size=id_map.shape, mode="bilinear", align_corners=False)
    logits = resized.flatten(1)  # (K, H W)
    truth = (id_map.flatten() == segments[:, None]).float()
    masks = logits.sigmoid()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    focal = (1 - ALPHA + (2 * ALPHA - 1) * truth) * (truth - masks) ** 2 * cross_entropy
    dice = 1 - (2 * (masks * truth).sum(1) + 1) / (masks.sum(1) + truth.sum(1) + 1)
    return focal.sum(), dice.sum()
