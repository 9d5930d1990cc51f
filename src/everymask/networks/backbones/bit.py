"""BiT (Kolesnikov et al. 2020) as a backbone: the ResNet of the first hybrid transformers.

A ResNet v1.5 with group norm and weight standardisation (Qiao et al. 2019), padded as TensorFlow does. Its norms come
after the convolutions, as the hybrid vision transformers have them (Dosovitskiy et al. 2021, section 3.1).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from everymask.networks.layers.inputs import check_pixel_values
from everymask.networks.layers.norms import GroupNorm


@dataclass(frozen=True, slots=True)
class BiTConfig:
    """``widths[i]`` channels come out of stage i after ``depths[i]`` blocks; the stem has ``stem_width`` channels.

    ``groups``: the groups of every group norm.
    """

    stem_width: int
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    groups: int = 32
    channels: int = 3


class BiT(nn.Module):
    """The backbone: one feature map a stage, at strides 4, 8, 16 ..."""

    def __init__(self, config: BiTConfig) -> None:
        super().__init__()
        self.widths = config.widths
        self.channels = config.channels
        self.stem = ConvNorm(config.channels, config.stem_width, 7, 2, groups=config.groups)
        self.stages = nn.ModuleList()
        inputs = config.stem_width
        for index, (width, depth) in enumerate(zip(config.widths, config.depths, strict=True)):
            blocks = [Block(inputs, width, 1 if index == 0 else 2, first=True, groups=config.groups)]
            blocks += [Block(width, width, 1, first=False, groups=config.groups) for _ in range(depth - 1)]
            self.stages.append(nn.Sequential(*blocks))
            inputs = width
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """(B, channels, H, W) -> a tuple of (B, widths[i], H / 2^(i + 2), W / 2^(i + 2)), sizes rounded up."""
        check_pixel_values(pixel_values, self.channels)
        # What is pooled is not negative, so that padding with zeros changes no maximum.
        features = F.max_pool2d(pad_evenly(self.stem(pixel_values), 3, 2), 3, 2)
        maps = []
        for stage in self.stages:
            features = stage(features)
            maps.append(features)
        return tuple(maps)


class Block(nn.Module):
    """A bottleneck: ``layers`` beside a shortcut, added, then ReLU. The 3x3 convolution carries the stride.

    The ``first`` block of a stage projects its shortcut, also where nothing else asks for it.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, *, first: bool, groups: int) -> None:
        super().__init__()
        reduced = reduced_width(outputs)
        self.layers = nn.Sequential(
            ConvNorm(inputs, reduced, 1, groups=groups),
            ConvNorm(reduced, reduced, 3, stride, groups=groups),
            ConvNorm(reduced, outputs, 1, groups=groups, activate=False),
        )
        self.shortcut = ConvNorm(inputs, outputs, 1, stride, groups=groups, activate=False) if first else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """(B, inputs, h, w) -> (B, outputs, h / stride, w / stride), rounded up."""
        out: Tensor = F.relu(self.layers(features) + self.shortcut(features))
        return out


class ConvNorm(nn.Sequential):
    """A standardised convolution and its group norm, then ReLU unless ``activate`` is False."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, *, groups: int, activate: bool = True
    ) -> None:
        super().__init__(
            StandardisedConv2d(inputs, outputs, kernel, stride, bias=False),
            GroupNorm(groups, outputs, activate=activate),
        )


class StandardisedConv2d(nn.Conv2d):
    """A convolution whose filters have mean 0 and variance 1 when they are used (Qiao et al. 2019, equation 5)."""

    def forward(self, features: Tensor) -> Tensor:
        """(B, inputs, h, w) -> (B, outputs, h / stride, w / stride), rounded up."""
        filters = self.weight.float()  # (outputs, inputs, k, k)
        variance, mean = torch.var_mean(filters, (1, 2, 3), correction=0, keepdim=True)
        weight = ((filters - mean) * torch.rsqrt(variance + 1e-8)).to(self.weight.dtype)
        return F.conv2d(pad_evenly(features, self.kernel_size[0], self.stride[0]), weight, stride=self.stride)


def pad_evenly(features: Tensor, kernel: int, stride: int) -> Tensor:
    """Pads (..., h, w) with zeros so that a convolution gives (h, w) / stride, rounded up; an odd one goes at the end.

    What TensorFlow calls SAME: a stride of 2 sees other pixels than with padding by half of the kernel on all sides.
    """
    padding: list[int] = []
    for length in (features.shape[-1], features.shape[-2]):
        total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
        padding += [total // 2, total - total // 2]
    return F.pad(features, padding) if any(padding) else features


def reduced_width(outputs: int) -> int:
    """The channels inside a bottleneck: a quarter, as the nearest multiple of 8 that is no more than a tenth less."""
    quarter = outputs / 4
    nearest = max(8, int(quarter + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * quarter else nearest + 8
