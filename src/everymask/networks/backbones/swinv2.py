"""Swin Transformer V2 (Liu et al. 2022) as a backbone: windows stay full-sized, any input size is padded as needed.

It is Swin with attention by cosines, position biases made from coordinates, and norms at the end of the branches.
"""

import math
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

# The published bound of what cosines are multiplied by (section 3.2: a temperature of 0.01 or more).
LARGEST_LOGIT_SCALE = 100.0
# The hidden units of the perceptron that makes biases from coordinates.
BIAS_HIDDEN = 512


@dataclass(frozen=True, slots=True)
class SwinV2Config:
    """``depths[i]`` blocks with ``heads[i]`` heads in stage i, whose width is ``embed_dim`` times 2^i.

    ``windows[i]``: the side of a window in stage i, and ``shifts[i]`` how far every other block moves its windows.
    ``bias_ranges[i]``: the offset between two tokens, in tokens, that is the largest of the coordinates which biases
    are made from; a network made for larger windows than it was pretrained with keeps the former range.
    """

    embed_dim: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    windows: tuple[int, ...]
    shifts: tuple[int, ...]
    bias_ranges: tuple[int, ...]
    patch: int = 4
    channels: int = 3
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    norm_eps: float = 1e-5

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each stage's feature map."""
        return tuple(self.embed_dim * 2**stage for stage in range(len(self.depths)))


class SwinV2(nn.Module):
    """The backbone: one feature map a stage, at strides 4, 8, 16 and 32, with no norm beyond those of the blocks."""

    def __init__(self, config: SwinV2Config) -> None:
        super().__init__()
        self.widths = config.widths
        self.patch = config.patch
        self.channels = config.channels
        self.patch_embedding = PatchConvolution(config.channels, config.embed_dim, config.patch)
        self.patch_norm = LayerNorm(config.embed_dim)
        self.stages = nn.ModuleList(
            nn.ModuleList(SwinV2Block(config, stage, shifted=index % 2 == 1) for index in range(depth))
            for stage, depth in enumerate(config.depths)
        )
        self.mergings = nn.ModuleList(PatchMerging(width) for width in config.widths[:-1])

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """(B, channels, H, W) -> a tuple of (B, widths[i], H / 2^(i + 2), W / 2^(i + 2)), sizes rounded up.

        The maps have their channels last in memory.
        """
        check_pixel_values(pixel_values, self.channels)
        height, width = pixel_values.shape[-2:]
        pixel_values = F.pad(pixel_values, (0, -width % self.patch, 0, -height % self.patch))
        features = self.patch_norm(self.patch_embedding(pixel_values).permute(0, 2, 3, 1))  # (B, h, w, dim)
        maps = []
        for index, stage in enumerate(self.stages):
            if index > 0:
                features = self.mergings[index - 1](features)
            assert isinstance(stage, nn.ModuleList)
            for block in stage:
                features = block(features)
            maps.append(features.permute(0, 3, 1, 2))
        return tuple(maps)


class SwinV2Block(nn.Module):
    """Attention inside (shifted) windows and a feed-forward block, each then normed and added (section 3.2)."""

    def __init__(self, config: SwinV2Config, stage: int, *, shifted: bool) -> None:
        super().__init__()
        dim = config.widths[stage]
        self.shift = config.shifts[stage] if shifted else 0
        self.attention = CosineWindowAttention(
            dim, config.heads[stage], config.windows[stage], config.bias_ranges[stage], qkv_bias=config.qkv_bias
        )
        self.attention_norm = LayerNorm(dim, eps=config.norm_eps)
        self.hidden = int(dim * config.mlp_ratio)
        self.feed_forward = FeedForward(dim, self.hidden, nn.GELU)
        self.feed_forward_norm = LayerNorm(dim, eps=config.norm_eps)

    def forward(self, features: Tensor) -> Tensor:
        """(B, h, w, dim), contiguous -> the same shape; ``features`` themselves where they may be overwritten."""
        if may_overwrite(features):
            add_attention_in_windows(features, self.attention, self.shift, after=self.attention_norm)
            add_in_chunks(features, self._feed_forward, self.hidden)
            return features
        features = features + self.attention_norm(attend_in_windows(features, self.attention, self.shift))
        out: Tensor = features + self._feed_forward(features)
        return out

    def _feed_forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.feed_forward_norm(self.feed_forward(features))
        return out


class CosineWindowAttention(WindowAttention):
    """Multi-head attention inside windows by scaled cosines (section 3.2, equation 2) with biases from coordinates."""

    offsets: Tensor

    def __init__(self, dim: int, heads: int, window: int, bias_range: int, *, qkv_bias: bool) -> None:
        super().__init__(window)
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.query_value_bias = nn.Parameter(torch.zeros(2 * dim)) if qkv_bias else None
        self.output = nn.Linear(dim, dim)
        self.logit_scale = nn.Parameter(torch.full((heads, 1, 1), math.log(10)))  # a logarithm
        self.register_buffer("offsets", log_spaced_offsets(window, bias_range), persistent=False)
        self.bias = nn.Sequential(nn.Linear(2, BIAS_HIDDEN), nn.ReLU(), nn.Linear(BIAS_HIDDEN, heads, bias=False))

    def position_bias(self) -> Tensor:
        """The biases of all pairs of tokens, 0 to 16: (heads, n, n) (section 3.3: continuous position bias)."""
        table = 16 * torch.sigmoid(self.bias(self.offsets))  # ((2 window - 1)^2, heads)
        return table[self.relative_position_index].permute(2, 0, 1)

    def forward(self, windows: Tensor, bias: Tensor, regions: Tensor | None) -> Tensor:
        qkv = self.qkv(windows)
        if self.query_value_bias is not None:
            query_bias, value_bias = self.query_value_bias.chunk(2)
            qkv = qkv + torch.cat((query_bias, torch.zeros_like(query_bias), value_bias))  # keys have none
        qkv = qkv.unflatten(-1, (3, self.heads, -1)).permute(3, 0, 1, 4, 2, 5)
        query, key, value = qkv.unbind()  # each (B, N, heads, n, dim / heads)
        # Keys of padded tokens are zeros, and half precision rounds the usual bound of a norm down to zero.
        eps = max(1e-12, torch.finfo(query.dtype).tiny)
        scale = self.logit_scale.clamp(max=math.log(LARGEST_LOGIT_SCALE)).exp()  # (heads, 1, 1)
        query = F.normalize(query, dim=-1, eps=eps) * scale
        key = F.normalize(key, dim=-1, eps=eps)
        # Other regions are fended off twice as hard as in Swin: the published code adds its mask a second time.
        out: Tensor = self.output(attention_of_windows(query, key, value, bias, regions, scale=1.0, apart=-200.0))
        return out


class PatchMerging(nn.Module):
    """Halves the resolution: four neighbours side by side, projected to twice the width, then normed."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = LayerNorm(2 * dim)

    def forward(self, features: Tensor) -> Tensor:
        """(B, h, w, dim) -> (B, ceil(h / 2), ceil(w / 2), 2 dim)."""
        out: Tensor = self.norm(self.reduction(neighbours_as_channels(features)))
        return out


def log_spaced_offsets(window: int, bias_range: int) -> Tensor:
    """The offsets between two tokens of a window on a logarithmic scale (section 3.3, equation 4).

    ((2 window - 1)^2, 2) float32, row and column; an offset of ``bias_range`` tokens is log2(9) / 3.
    """
    steps = torch.arange(1 - window, window, dtype=torch.float32)
    spaced = torch.sign(steps) * torch.log2(1 + 8 * steps.abs() / bias_range) / 3
    return torch.stack(torch.meshgrid(spaced, spaced, indexing="ij"), -1).flatten(0, 1)
