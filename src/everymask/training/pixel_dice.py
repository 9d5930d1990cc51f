"""Dice loss of logits that are smaller than the class maps they are compared with, an image at a time.

As with the cross entropy beside it, no map of all classes of a whole batch is held. The classes' areas over the batch
come first, the gradient from a second pass over the images.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from everymask.training.cross_entropy import class_probabilities, resized_logits


def resized_dice(logits: Tensor, class_maps: Tensor) -> Tensor:
    """The mean dice loss of the classes that occur (Milletari et al. 2016, with plain sums below the line): a scalar.

    1 - (2 overlap + 1) / (predicted area + true area + 1), where areas of probabilities are their sums over all pixels
    of the batch together. ``logits`` (B, C, h, w) float32 are resized (bilinear) to the size of ``class_maps`` (B, H,
    W) int64, whose pixels below 0 do not count.
    """
    compare: Callable[..., Tensor] = _ResizedDice.apply
    return compare(logits, class_maps)


class _ResizedDice(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, class_maps: Tensor) -> Tensor:
        overlap, area, predicted = torch.zeros(3, logits.shape[1], device=logits.device)
        for image, class_map in zip(logits, class_maps, strict=True):
            probabilities = class_probabilities(resized_logits(image, class_map))  # (C, H, W)
            true, counted = class_map.clamp(min=0), class_map >= 0  # (H, W)
            right = probabilities.gather(0, true[None])[0] * counted
            overlap.index_add_(0, true.flatten(), right.flatten())
            area.index_add_(0, true.flatten(), counted.flatten().float())
            predicted += probabilities.flatten(1) @ counted.flatten().float()
        below = predicted + area + 1
        share = (area > 0) / (area > 0).sum().clamp(min=1)  # of each class in the mean
        ctx.save_for_backward(logits, class_maps, -2 * share / below, share * (2 * overlap + 1) / below**2)
        loss: Tensor = (share * (1 - (2 * overlap + 1) / below)).sum()
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        logits, class_maps, of_true, of_any = ctx.saved_tensors  # the last two: (C,), slopes of the classes' areas
        gradient = torch.empty_like(logits)
        for place, (image, class_map) in enumerate(zip(logits, class_maps, strict=True)):
            with torch.enable_grad():
                small = image.detach().contiguous().requires_grad_()
                resized = resized_logits(small, class_map)
            probabilities = class_probabilities(resized.detach())
            true, counted = class_map.clamp(min=0), class_map >= 0
            right = probabilities.gather(0, true[None])[0] * of_true[true]  # (H, W)
            mean = (of_any @ probabilities.flatten(1)).view_as(right) + right
            # The softmax's own slope: p (g - sum of p g), where g is of_any, and of_true more for the true class.
            change = probabilities.mul_(of_any[:, None, None] - mean)
            change.scatter_add_(0, true[None], right[None]).mul_(counted)
            [gradient[place]] = torch.autograd.grad(resized, small, change)
        return slope * gradient, None
