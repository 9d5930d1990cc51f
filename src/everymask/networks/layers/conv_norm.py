"""Convolutions with batch norm."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FrozenBatchNorm(nn.Module):
    """Batch norm that always uses the statistics and the affine map it was loaded with; it has no parameters."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.eps = 1e-5
        self.register_buffer("weight", torch.ones(width))
        self.register_buffer("bias", torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, features: Tensor) -> Tensor:
        """(B, width, h, w) -> the same shape."""
        return F.batch_norm(features, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class ConvNorm(nn.Sequential):
    """A convolution without bias and its batch norm, then ReLU unless ``activate`` is False.

    ``frozen``: the norm never learns, in training neither.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        *,
        frozen: bool = False,
        dilation: int = 1,
        activate: bool = True,
    ) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2 * dilation, dilation, bias=False),
            FrozenBatchNorm(outputs) if frozen else nn.BatchNorm2d(outputs),
            *([nn.ReLU(inplace=True)] if activate else []),
        )
