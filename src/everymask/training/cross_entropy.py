"""Cross entropy of logits that are smaller than the class maps they are compared with, an image at a time.

Left to autograd, several maps of all classes at the images' size, of the whole batch, would be remembered: more than
the network itself keeps. Here the gradient is made together with the loss, and no more than one image's map is held.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def resized_cross_entropy(logits: Tensor, class_maps: Tensor, counts: Tensor) -> Tensor:
    """The sum over pixels of ``counts`` times -log of the softmax of the true class: a scalar.

    ``logits`` (B, C, h, w) float32 are resized (bilinear) to the size of ``class_maps`` (B, H, W) int64, whose values
    must be classes where ``counts`` (B, H, W) float32 is not 0.
    """
    compare: Callable[..., Tensor] = _ResizedCrossEntropy.apply
    return compare(logits, class_maps, counts)


@torch.no_grad()
def pixel_cross_entropies(logits: Tensor, class_maps: Tensor) -> Tensor:
    """-log of the softmax of the true class at every pixel, (B, H, W) float32 without gradients.

    The arguments are those of ``resized_cross_entropy``; where a map holds no class, what stands there has no meaning.
    """
    maps = zip(logits, class_maps, strict=True)
    return torch.stack([_losses_of_image(resized_logits(each, class_map), class_map)[0] for each, class_map in maps])


class _ResizedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, class_maps: Tensor, counts: Tensor) -> Tensor:
        gradient = torch.empty_like(logits)
        total = logits.new_zeros(())
        for image, (class_map, count) in enumerate(zip(class_maps, counts, strict=True)):
            with torch.enable_grad():
                # Classes apart from each other: operations on rows of a few classes would be slow.
                small = logits[image].detach().contiguous().requires_grad_()  # (C, h, w)
                resized = resized_logits(small, class_map)  # (C, H, W)
            losses, probabilities = _losses_of_image(resized.detach(), class_map)
            total += (losses * count).sum()
            true = _index(class_map)
            slope = probabilities.scatter_add_(0, true, -torch.ones_like(count)[None]).mul_(count)
            [gradient[image]] = torch.autograd.grad(resized, small, slope)
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        [gradient] = ctx.saved_tensors
        return slope * gradient, None, None


def resized_logits(logits: Tensor, class_map: Tensor) -> Tensor:
    """(C, h, w) -> (C, H, W), bilinear, for a class map (H, W)."""
    return F.interpolate(logits[None], size=class_map.shape, mode="bilinear", align_corners=False)[0]


def class_probabilities(logits: Tensor) -> Tensor:
    """The softmax over the first dimension, by hand: over the first of several torch's takes three times as long."""
    powers = (logits - logits.amax(0)).exp_()
    return powers.div_(powers.sum(0))


def _losses_of_image(logits: Tensor, class_map: Tensor) -> tuple[Tensor, Tensor]:
    """The losses (H, W) and the probabilities (C, H, W) of all classes, from logits of that size."""
    shifted = logits - logits.amax(0)
    true = shifted.gather(0, _index(class_map))[0]
    probabilities = shifted.exp_()
    total = probabilities.sum(0)
    return total.log() - true, probabilities.div_(total)


def _index(class_map: Tensor) -> Tensor:
    """Classes (H, W) to gather by, (1, H, W): any class where there is none."""
    return class_map.clamp(min=0)[None]
