"""ResNet (He et al. 2016), v1.5: in bottleneck blocks the 3x3 convolution carries the stride."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from everymask.networks.layers.conv_norm import ConvNorm
from everymask.networks.layers.inputs import check_pixel_values


@dataclass(frozen=True, slots=True)
class ResNetConfig:
    """``widths[i]`` channels come out of stage i after ``depths[i]`` blocks; the stem has ``stem_width`` channels.

    ``stride_in_first_1x1`` moves the stride of a bottleneck to its first convolution (v1). ``downsample_first_stage``
    halves the resolution in stage 0 too. ``dilate_last_stage`` keeps the resolution in the last stage and spreads its
    3x3 convolutions instead (DETR's DC5). ``frozen_norm``: batch norm never learns, in training neither.
    """

    stem_width: int
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    block: Literal["basic", "bottleneck"]
    channels: int = 3
    stride_in_first_1x1: bool = False
    downsample_first_stage: bool = False
    dilate_last_stage: bool = False
    frozen_norm: bool = False


class Block(nn.Module):
    """A residual block: ``layers`` beside a shortcut, added, then ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int, dilation: int, config: ResNetConfig) -> None:
        super().__init__()
        frozen = config.frozen_norm
        if config.block == "basic":
            self.layers = nn.Sequential(
                ConvNorm(inputs, outputs, 3, stride, dilation=dilation, frozen=frozen),
                ConvNorm(outputs, outputs, 3, dilation=dilation, activate=False, frozen=frozen),
            )
        else:
            reduced = outputs // 4
            first, second = (stride, 1) if config.stride_in_first_1x1 else (1, stride)
            self.layers = nn.Sequential(
                ConvNorm(inputs, reduced, 1, first, frozen=frozen),
                ConvNorm(reduced, reduced, 3, second, dilation=dilation, frozen=frozen),
                ConvNorm(reduced, outputs, 1, activate=False, frozen=frozen),
            )
        unchanged = inputs == outputs and stride == 1
        self.shortcut = (
            nn.Identity() if unchanged else ConvNorm(inputs, outputs, 1, stride, activate=False, frozen=frozen)
        )
        self.activation = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.activation(self.layers(features) + self.shortcut(features))
        return out


class ResNet(nn.Module):
    """The backbone: one feature map a stage, at strides 4, 8, 16 and 32 (16 in a dilated last stage)."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.widths = config.widths
        self.channels = config.channels
        self.stem = ConvNorm(config.channels, config.stem_width, 7, stride=2, frozen=config.frozen_norm)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.stages = nn.ModuleList()
        inputs = config.stem_width
        for index, (width, depth) in enumerate(zip(config.widths, config.depths, strict=True)):
            stride = 2 if index > 0 or config.downsample_first_stage else 1
            dilation = 1
            if config.dilate_last_stage and index == len(config.depths) - 1:
                stride, dilation = 1, stride
            # Dilation begins where the stride that it replaces would have acted: after the first block.
            blocks = [Block(inputs, width, stride, 1, config)]
            blocks += [Block(width, width, 1, dilation, config) for _ in range(depth - 1)]
            self.stages.append(nn.Sequential(*blocks))
            inputs = width
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """(B, channels, H, W) -> a tuple of (B, widths[i], about H / 2^(i + 2), about W / 2^(i + 2)), rounded up."""
        check_pixel_values(pixel_values, self.channels)
        features = self.pool(self.stem(pixel_values))
        maps = []
        for stage in self.stages:
            features = stage(features)
            maps.append(features)
        return tuple(maps)
