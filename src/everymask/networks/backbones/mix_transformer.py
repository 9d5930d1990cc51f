"""The Mix Transformer of SegFormer (Xie et al. 2021, section 3.1): four scales, and no learned positions."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from everymask.networks.layers.inputs import check_pixel_values
from everymask.networks.layers.norms import LayerNorm
from everymask.networks.layers.patches import PatchConvolution

KERNELS = (7, 3, 3, 3)
STRIDES = (4, 2, 2, 2)


@dataclass(frozen=True, slots=True)
class MixTransformerConfig:
    """``depths[i]`` blocks of width ``widths[i]`` with ``heads[i]`` heads in stage i (table 6).

    ``reductions[i]``: by how much keys and values are coarser than queries, in both directions. ``mlp_ratios[i]``: the
    hidden units of the feed-forward blocks, as a multiple of the width.
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    reductions: tuple[int, ...] = (8, 4, 2, 1)
    mlp_ratios: tuple[float, ...] = (4, 4, 4, 4)
    channels: int = 3


class MixTransformer(nn.Module):
    """The backbone: one normed feature map a stage, at strides 4, 8, 16 and 32.

    Tokens lie as (B, h, w, dim), which convolutions know as channels-last: nothing is copied on the way from a linear
    layer to a convolution and back.
    """

    def __init__(self, config: MixTransformerConfig) -> None:
        super().__init__()
        self.widths = config.widths
        self.channels = config.channels
        self.stages = nn.ModuleList(Stage(config, index) for index in range(len(config.widths)))

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """(B, channels, H, W) -> a tuple of (B, widths[i], H / 2^(i + 2), W / 2^(i + 2)), sizes rounded up."""
        check_pixel_values(pixel_values, self.channels)
        maps = []
        features = pixel_values.contiguous(memory_format=torch.channels_last)
        for stage in self.stages:
            features = stage(features)
            maps.append(features)
        return tuple(maps)


class Stage(nn.Module):
    """Overlapped patches (section 3.1), blocks, and a norm."""

    def __init__(self, config: MixTransformerConfig, index: int) -> None:
        super().__init__()
        channels, width = (config.channels, *config.widths)[index : index + 2]
        kernel = KERNELS[index]
        self.patch_embedding = nn.Conv2d(channels, width, kernel, stride=STRIDES[index], padding=kernel // 2)
        self.patch_norm = LayerNorm(width)
        self.blocks = nn.ModuleList(
            MixTransformerBlock(
                width, config.heads[index], config.reductions[index], int(width * config.mlp_ratios[index])
            )
            for _ in range(config.depths[index])
        )
        self.norm = LayerNorm(width)

    def forward(self, features: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, width, h, w)."""
        features = self.patch_norm(self.patch_embedding(features).permute(0, 2, 3, 1))  # (B, h, w, width)
        for block in self.blocks:
            features = block(features)
        out: Tensor = self.norm(features).permute(0, 3, 1, 2)
        return out


class MixTransformerBlock(nn.Module):
    """Efficient self-attention and a Mix-FFN, each on normed input and added (figure 2)."""

    def __init__(self, dim: int, heads: int, reduction: int, hidden: int) -> None:
        super().__init__()
        self.attention_norm = LayerNorm(dim)
        self.attention = ReducedAttention(dim, heads, reduction)
        self.feed_forward_norm = LayerNorm(dim)
        self.feed_forward = MixFeedForward(dim, hidden)

    def forward(self, features: Tensor) -> Tensor:
        """(B, h, w, dim) -> the same shape."""
        attended = self.attention(self.attention_norm(features))
        features, normed = self.feed_forward_norm.sum_and_norm(features, attended)
        out: Tensor = features + self.feed_forward(normed)
        return out


class ReducedAttention(nn.Module):
    """Multi-head attention to a map that is ``reduction`` times coarser in both directions (equation 2).

    Rows and columns that do not fill a whole cell of the coarse map are not looked at, as published.
    """

    def __init__(self, dim: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads, self.reduction = heads, reduction
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.output = nn.Linear(dim, dim)
        if reduction > 1:
            self.reduce = PatchConvolution(dim, dim, reduction)
            self.reduce_norm = LayerNorm(dim)

    def forward(self, features: Tensor) -> Tensor:
        """(B, h, w, dim) -> the same shape."""
        coarse = features
        if self.reduction > 1:
            coarse = self.reduce_norm(self.reduce(features.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        query = self._split(self.query(features))  # (B, heads, h w, dim / heads)
        key, value = (self._split(each) for each in self.key_value(coarse).chunk(2, -1))
        attended = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.output(attended.transpose(1, 2).reshape(features.shape))
        return out

    def _split(self, features: Tensor) -> Tensor:
        """(B, h, w, dim) -> (B, heads, h w, dim / heads)."""
        split: Tensor = features.flatten(1, 2).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return split


class MixFeedForward(nn.Module):
    """A feed-forward block with a 3 x 3 convolution of each channel by itself inside (equation 3).

    Its zero padding is what tells the network about positions.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.expand = nn.Linear(dim, hidden)
        self.mix = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.activation = nn.GELU()
        self.contract = nn.Linear(hidden, dim)

    def forward(self, features: Tensor) -> Tensor:
        """(B, h, w, dim) -> the same shape."""
        mixed = self.mix(self.expand(features).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # (B, h, w, hidden)
        out: Tensor = self.contract(self.activation(mixed))
        return out
