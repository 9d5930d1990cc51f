"""Swin Transformer (Liu et al. 2021) as a backbone: windows stay full-sized, any input size is padded as needed."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from everymask.networks.backbones.windows import (
    WindowAttention,
    add_attention_in_windows,
    attend_in_windows,
    attention_of_windows,
    neighbours_as_channels,
)
from everymask.networks.layers.chunks import add_in_chunks, may_overwrite
from everymask.networks.layers.feed_forward import FeedForward
from everymask.networks.layers.inputs import check_pixel_values
from everymask.networks.layers.norms import LayerNorm
from everymask.networks.layers.patches import PatchConvolution


@dataclass(frozen=True, slots=True)
class SwinConfig:
    """``depths[i]`` blocks with ``heads[i]`` heads in stage i, whose width is ``embed_dim`` times 2^i."""

    embed_dim: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    window: int
    patch: int = 4
    channels: int = 3
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    norm_eps: float = 1e-5

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each stage's feature map."""
        return tuple(self.embed_dim * 2**stage for stage in range(len(self.depths)))


class Swin(nn.Module):
    """The backbone: one normed feature map a stage, at strides 4, 8, 16 and 32."""

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.widths = config.widths
        self.patch = config.patch
        self.channels = config.channels
        self.patch_embedding = PatchConvolution(config.channels, config.embed_dim, config.patch)
        self.patch_norm = LayerNorm(config.embed_dim)
        self.stages = nn.ModuleList(
            nn.ModuleList(
                SwinBlock(width, heads, config, shift=0 if index % 2 == 0 else config.window // 2)
                for index in range(depth)
            )
            for width, heads, depth in zip(config.widths, config.heads, config.depths, strict=True)
        )
        self.mergings = nn.ModuleList(PatchMerging(width) for width in config.widths[:-1])
        self.norms = nn.ModuleList(LayerNorm(width) for width in config.widths)

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """(B, channels, H, W) -> a tuple of (B, widths[i], H / 2^(i + 2), W / 2^(i + 2)), sizes rounded up.

        The maps have their channels last in memory.
        """
        check_pixel_values(pixel_values, self.channels)
        height, width = pixel_values.shape[-2:]
        pixel_values = F.pad(pixel_values, (0, -width % self.patch, 0, -height % self.patch))
        features = self.patch_norm(self.patch_embedding(pixel_values).permute(0, 2, 3, 1))  # (B, h, w, dim)
        maps = []
        for index, (stage, norm) in enumerate(zip(self.stages, self.norms, strict=True)):
            if index > 0:
                features = self.mergings[index - 1](features)
            assert isinstance(stage, nn.ModuleList)
            for block in stage:
                features = block(features)
            maps.append(norm(features).permute(0, 3, 1, 2))
        return tuple(maps)


class SwinBlock(nn.Module):
    """Attention inside (shifted) windows and a feed-forward block, each on normed input and added (equation 3)."""

    def __init__(self, dim: int, heads: int, config: SwinConfig, shift: int) -> None:
        super().__init__()
        self.shift = shift
        self.attention_norm = LayerNorm(dim, eps=config.norm_eps)
        self.attention = SwinAttention(dim, heads, config)
        self.feed_forward_norm = LayerNorm(dim, eps=config.norm_eps)
        self.hidden = int(dim * config.mlp_ratio)
        self.feed_forward = FeedForward(dim, self.hidden, nn.GELU)

    def forward(self, features: Tensor) -> Tensor:
        """(B, h, w, dim), contiguous -> the same shape; ``features`` themselves where they may be overwritten."""
        if may_overwrite(features):
            add_attention_in_windows(features, self.attention, self.shift, before=self.attention_norm)
            add_in_chunks(features, self._feed_forward, self.hidden)
            return features
        features = features + attend_in_windows(self.attention_norm(features), self.attention, self.shift)
        out: Tensor = features + self._feed_forward(features)
        return out

    def _feed_forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.feed_forward(self.feed_forward_norm(features))
        return out


class SwinAttention(WindowAttention):
    """Multi-head attention inside windows with learned relative position biases (section 3.2, equation 4)."""

    def __init__(self, dim: int, heads: int, config: SwinConfig) -> None:
        super().__init__(config.window)
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim, bias=config.qkv_bias)
        self.output = nn.Linear(dim, dim)
        self.relative_position_bias = nn.Parameter(torch.empty((2 * config.window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias, std=0.02)

    def position_bias(self) -> Tensor:
        return self.relative_position_bias[self.relative_position_index].permute(2, 0, 1)

    def forward(self, windows: Tensor, bias: Tensor, regions: Tensor | None) -> Tensor:
        qkv = self.qkv(windows).unflatten(-1, (3, self.heads, -1)).permute(3, 0, 1, 4, 2, 5)
        query, key, value = qkv.unbind()  # each (B, N, heads, n, dim / heads)
        attended = attention_of_windows(query, key, value, bias, regions, scale=self.scale, apart=-100.0)
        out: Tensor = self.output(attended)
        return out


class PatchMerging(nn.Module):
    """Halves the resolution: four neighbours side by side, normed, then projected to twice the width (section 3.1)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """(B, h, w, dim) -> (B, ceil(h / 2), ceil(w / 2), 2 dim)."""
        out: Tensor = self.reduction(self.norm(neighbours_as_channels(features)))
        return out
