"""Patches of an image that touch and do not overlap, each made one place of a smaller map."""

import torch.nn.functional as F
from torch import Tensor, nn


class PatchConvolution(nn.Conv2d):
    """A convolution that steps by its own kernel, computed as what it is: a linear layer over patches.

    Nothing is gained by the window of a convolution where no two windows share a pixel; and oneDNN, as torch 2.13 has
    it, gives wrong numbers for some of these convolutions in bfloat16 on processors with AMX.
    """

    def __init__(self, inputs: int, outputs: int, patch: int) -> None:
        """``patch``: the side of a patch in pixels."""
        super().__init__(inputs, outputs, patch, stride=patch)

    def forward(self, features: Tensor) -> Tensor:
        """(B, inputs, h, w) -> (B, outputs, h // patch, w // patch), laid out channels last."""
        return F.linear(patches_of(features, int(self.kernel_size[0])), self.flat_weight, self.bias).permute(0, 3, 1, 2)

    @property
    def flat_weight(self) -> Tensor:
        """(outputs, patch * patch * inputs), as the linear layer over patches has it."""
        return self.weight.permute(0, 2, 3, 1).flatten(1)


def patches_of(features: Tensor, patch: int) -> Tensor:
    """(B, C, h, w) -> (B, h // patch, w // patch, patch * patch * C), a patch's channels last; the rest is cut off."""
    batch, channels, height, width = features.shape
    rows, columns = height // patch, width // patch
    places = features[..., : rows * patch, : columns * patch].permute(0, 2, 3, 1)  # (B, h, w, C)
    places = places.reshape(batch, rows, patch, columns, patch, channels).transpose(2, 3)
    return places.reshape(batch, rows, columns, patch * patch * channels)
