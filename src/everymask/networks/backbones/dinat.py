"""DiNAT (Hassani and Shi 2022), the dilated neighbourhood attention transformer, as a backbone."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from everymask.networks.layers.feed_forward import FeedForward
from everymask.networks.layers.inputs import check_pixel_values
from everymask.networks.layers.neighborhood_attention import NeighborhoodAttention
from everymask.networks.layers.norms import LayerNorm


@dataclass(frozen=True, slots=True)
class DinatConfig:
    """One dilation a block in ``dilations[i]`` for stage i, with ``heads[i]`` heads and width ``embed_dim`` times 2^i.

    ``layer_scale``: whether blocks weigh the channels of what they add.
    """

    embed_dim: int
    heads: tuple[int, ...]
    dilations: tuple[tuple[int, ...], ...]
    kernel: int
    channels: int = 3
    mlp_ratio: float = 3.0
    qkv_bias: bool = True
    norm_eps: float = 1e-5
    layer_scale: bool = False

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each stage's feature map."""
        return tuple(self.embed_dim * 2**stage for stage in range(len(self.dilations)))


class Dinat(nn.Module):
    """The backbone: one normed feature map a stage, at strides 4, 8, 16 and 32."""

    def __init__(self, config: DinatConfig) -> None:
        super().__init__()
        self.widths = config.widths
        self.channels = config.channels
        self.patch_embedding = nn.Sequential(
            nn.Conv2d(config.channels, config.embed_dim // 2, 3, stride=2, padding=1),
            nn.Conv2d(config.embed_dim // 2, config.embed_dim, 3, stride=2, padding=1),
        )
        self.patch_norm = LayerNorm(config.embed_dim)
        self.stages = nn.ModuleList(
            nn.Sequential(*(DinatBlock(width, heads, dilation, config) for dilation in dilations))
            for width, heads, dilations in zip(config.widths, config.heads, config.dilations, strict=True)
        )
        self.downsamplers = nn.ModuleList(Downsampler(width) for width in config.widths[:-1])
        self.norms = nn.ModuleList(LayerNorm(width) for width in config.widths)

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """(B, channels, H, W) -> a tuple of (B, widths[i], H / 2^(i + 2), W / 2^(i + 2)), sizes rounded up."""
        check_pixel_values(pixel_values, self.channels)
        features = self.patch_norm(self.patch_embedding(pixel_values).permute(0, 2, 3, 1))  # (B, h, w, dim)
        maps = []
        for index, (stage, norm) in enumerate(zip(self.stages, self.norms, strict=True)):
            if index > 0:
                features = self.downsamplers[index - 1](features)
            features = stage(features)
            maps.append(norm(features).permute(0, 3, 1, 2).contiguous())
        return tuple(maps)


class DinatBlock(nn.Module):
    """Neighbourhood attention and a feed-forward block, each on normed input and added (section 3.2)."""

    def __init__(self, dim: int, heads: int, dilation: int, config: DinatConfig) -> None:
        super().__init__()
        self.attention_norm = LayerNorm(dim, eps=config.norm_eps)
        self.attention = NeighborhoodAttention(dim, heads, config.kernel, dilation, qkv_bias=config.qkv_bias)
        self.feed_forward_norm = LayerNorm(dim, eps=config.norm_eps)
        self.feed_forward = FeedForward(dim, int(dim * config.mlp_ratio), nn.GELU)
        self.layer_scale = nn.Parameter(torch.ones(2, dim)) if config.layer_scale else None

    def forward(self, features: Tensor) -> Tensor:
        """(B, h, w, dim) -> the same shape."""
        attended = self.attention(self.attention_norm(features))
        scale = None if self.layer_scale is None else self.layer_scale[0]
        features, normed = self.feed_forward_norm.sum_and_norm(features, attended, scale)
        fed = self.feed_forward(normed)
        out: Tensor = features + (fed if self.layer_scale is None else self.layer_scale[1] * fed)
        return out


class Downsampler(nn.Module):
    """Halves the resolution and doubles the width: a convolution with stride 2, then a norm (NAT, section 3.4)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reduction = nn.Conv2d(dim, 2 * dim, 3, stride=2, padding=1, bias=False)
        self.norm = LayerNorm(2 * dim)

    def forward(self, features: Tensor) -> Tensor:
        """(B, h, w, dim) -> (B, ceil(h / 2), ceil(w / 2), 2 dim)."""
        reduced = self.reduction(features.permute(0, 3, 1, 2))
        out: Tensor = self.norm(reduced.permute(0, 2, 3, 1))
        return out
