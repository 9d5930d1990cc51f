"""The loss of per-pixel classification: cross entropy, of hard pixels alone if wanted, and dice beside it."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from everymask.networks.outputs import PixelLogits
from everymask.training.cross_entropy import pixel_cross_entropies, resized_cross_entropy
from everymask.training.pixel_dice import resized_dice
from everymask.training.processes import mean_over_processes

IGNORED = -1  # in class maps: a pixel that no loss looks at


@dataclass(frozen=True, slots=True)
class HardPixels:
    """Which pixels count: online hard example mining (Shrivastava et al. 2016) as in HRNet's segmentation.

    Those whose true class has a probability of ``threshold`` at most, but always the hardest ``min_kept`` an image, on
    average over the batch.
    """

    threshold: float = 0.7
    min_kept: int = 100_000


@dataclass(frozen=True, slots=True)
class PixelLossConfig:
    """What the loss is made of; the defaults are those of UPerNet, BEiT, DPT and SegFormer.

    ``auxiliary``: what the cross entropy of an auxiliary head counts. ``hard_pixels``: None for all. ``dice``: what the
    dice loss counts. ``class_weights``: one for each class in the cross entropy, None for 1.
    """

    auxiliary: float = 0.4
    hard_pixels: HardPixels | None = None
    dice: float = 0.0
    class_weights: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class PixelLosses:
    """The parts of the loss, unweighted: scalars; ``auxiliary`` is summed over the auxiliary heads."""

    cross_entropy: Tensor
    dice: Tensor
    auxiliary: Tensor

    def total(self, config: PixelLossConfig) -> Tensor:
        """The weighted sum that is minimised."""
        return self.cross_entropy + config.dice * self.dice + config.auxiliary * self.auxiliary


def pixel_loss(prediction: PixelLogits, class_maps: Tensor, config: PixelLossConfig) -> PixelLosses:
    """Compares a network's output in training mode with class maps (B, H, W) int64, -1 where a pixel is ignored.

    Logits are resized (bilinear) to the maps' size. A batch of ignored pixels alone has a loss of 0. Of several
    processes each gets its share of the common batch's cross entropy: the mean over processes is the loss itself.
    """
    logits = prediction.logits.float()
    cross_entropy = _cross_entropy(logits, class_maps, config)
    dice = auxiliary = cross_entropy.new_zeros(())
    if config.dice > 0:
        dice = resized_dice(logits, class_maps)
    for head in prediction.auxiliary:
        auxiliary = auxiliary + _cross_entropy(head.logits.float(), class_maps, config)
    return PixelLosses(cross_entropy, dice, auxiliary)


def _cross_entropy(logits: Tensor, class_maps: Tensor, config: PixelLossConfig) -> Tensor:
    """The mean over pixels that count, each with the weight of its class."""
    counts = (class_maps != IGNORED).float()
    if config.hard_pixels is not None:
        counts = counts * _hard(pixel_cross_entropies(logits, class_maps), counts > 0, config.hard_pixels)
    if config.class_weights is not None:
        counts = counts * logits.new_tensor(config.class_weights)[class_maps]  # -1 reads a class, but counts 0
    divisor = mean_over_processes(counts.sum())
    return resized_cross_entropy(logits, class_maps, counts) / divisor.clamp(min=torch.finfo(divisor.dtype).tiny)


def _hard(losses: Tensor, valid: Tensor, hard_pixels: HardPixels) -> Tensor:
    """Which of the pixels (B, H, W) are hard, judged by their unweighted cross entropy: bool."""
    sorted_losses = losses[valid].sort(descending=True).values
    kept = min(hard_pixels.min_kept * len(losses), len(sorted_losses))
    least = -math.log(hard_pixels.threshold)
    if kept > 0:
        least = min(least, float(sorted_losses[kept - 1]))
    return losses >= least
