"""ConvNeXt (Liu et al. 2022), a ConvNet for the 2020s, as a backbone."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from everymask.networks.layers.feed_forward import FeedForward
from everymask.networks.layers.inputs import check_pixel_values
from everymask.networks.layers.norms import LayerNorm
from everymask.networks.layers.patches import PatchConvolution

NORM_EPS = 1e-6


@dataclass(frozen=True, slots=True)
class ConvNeXtConfig:
    """``depths[i]`` blocks of ``widths[i]`` channels in stage i.

    ``layer_scale``: whether blocks weigh the channels of what they add.
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    channels: int = 3
    layer_scale: bool = True


class ConvNeXt(nn.Module):
    """The backbone: one normed feature map a stage, at strides 4, 8, 16 and 32.

    Channels lie last in memory from the first convolution on, so that convolutions, norms and linear layers follow each
    other without a copy; the maps that come out are laid out so, too.
    """

    def __init__(self, config: ConvNeXtConfig) -> None:
        super().__init__()
        self.channels = config.channels
        self.patch_embedding = PatchConvolution(config.channels, config.widths[0], 4)
        self.patch_norm = LayerNorm(config.widths[0], eps=NORM_EPS)
        self.stages = nn.ModuleList(
            nn.Sequential(*(ConvNeXtBlock(width, config.layer_scale) for _ in range(depth)))
            for width, depth in zip(config.widths, config.depths, strict=True)
        )
        self.downsamplers = nn.ModuleList(
            Downsampler(width, wider) for width, wider in zip(config.widths, config.widths[1:], strict=False)
        )
        self.norms = nn.ModuleList(LayerNorm(width, eps=NORM_EPS) for width in config.widths)

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """(B, channels, H, W) -> a tuple of (B, widths[i], H / 2^(i + 2), W / 2^(i + 2)), sizes rounded down."""
        check_pixel_values(pixel_values, self.channels)
        features = self.patch_norm(self.patch_embedding(pixel_values).permute(0, 2, 3, 1))  # (B, h, w, dim)
        maps = []
        for index, (stage, norm) in enumerate(zip(self.stages, self.norms, strict=True)):
            if index > 0:
                features = self.downsamplers[index - 1](features)
            features = stage(features)
            maps.append(norm(features).permute(0, 3, 1, 2))
        return tuple(maps)


class ConvNeXtBlock(nn.Module):
    """A 7x7 convolution of each channel by itself, a norm and a feed-forward block, added (figure 4)."""

    def __init__(self, dim: int, layer_scale: bool) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm = LayerNorm(dim, eps=NORM_EPS)
        self.feed_forward = FeedForward(dim, 4 * dim, nn.GELU)
        self.layer_scale = nn.Parameter(torch.full((dim,), 1e-6)) if layer_scale else None

    def forward(self, features: Tensor) -> Tensor:
        """(B, h, w, dim) -> the same shape."""
        mixed = self.convolution(features.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        fed: Tensor = self.feed_forward(self.norm(mixed))
        return features + fed if self.layer_scale is None else torch.addcmul(features, self.layer_scale, fed)


class Downsampler(nn.Module):
    """A norm, then a convolution of 2x2 places that do not overlap (section 2.6, separate downsampling layers)."""

    def __init__(self, dim: int, wider: int) -> None:
        super().__init__()
        self.norm = LayerNorm(dim, eps=NORM_EPS)
        self.reduction = PatchConvolution(dim, wider, 2)

    def forward(self, features: Tensor) -> Tensor:
        """(B, h, w, dim) -> (B, floor(h / 2), floor(w / 2), wider)."""
        out: Tensor = self.reduction(self.norm(features).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return out
