"""Swin Transformer (Liu et al. 2021) as a backbone: windows stay full-sized, any input size is padded as needed."""

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from everymask.networks.layers.feed_forward import FeedForward
from everymask.networks.layers.inputs import check_pixel_values


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
        self.patch_embedding = nn.Conv2d(config.channels, config.embed_dim, config.patch, stride=config.patch)
        self.patch_norm = nn.LayerNorm(config.embed_dim)
        self.stages = nn.ModuleList(
            nn.ModuleList(
                SwinBlock(width, heads, config, shift=0 if index % 2 == 0 else config.window // 2)
                for index in range(depth)
            )
            for width, heads, depth in zip(config.widths, config.heads, config.depths, strict=True)
        )
        self.mergings = nn.ModuleList(PatchMerging(width) for width in config.widths[:-1])
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in config.widths)

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """(B, channels, H, W) -> a tuple of (B, widths[i], H / 2^(i + 2), W / 2^(i + 2)), sizes rounded up."""
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
            maps.append(norm(features).permute(0, 3, 1, 2).contiguous())
        return tuple(maps)


class SwinBlock(nn.Module):
    """Attention inside (shifted) windows and a feed-forward block, each on normed input and added (equation 3)."""

    def __init__(self, dim: int, heads: int, config: SwinConfig, shift: int) -> None:
        super().__init__()
        self.window, self.shift = config.window, shift
        self.attention_norm = nn.LayerNorm(dim, eps=config.norm_eps)
        self.attention = WindowAttention(dim, heads, config)
        self.feed_forward_norm = nn.LayerNorm(dim, eps=config.norm_eps)
        self.feed_forward = FeedForward(dim, int(dim * config.mlp_ratio), nn.GELU)

    def forward(self, features: Tensor) -> Tensor:
        """(B, h, w, dim) -> the same shape."""
        normed = self.attention_norm(features)
        features = features + attend_in_windows(normed, self.attention, self.window, self.shift)
        out: Tensor = features + self.feed_forward(self.feed_forward_norm(features))
        return out


class WindowAttention(nn.Module):
    """Multi-head attention inside windows with a relative position bias (section 3.2, equation 4)."""

    def __init__(self, dim: int, heads: int, config: SwinConfig) -> None:
        super().__init__()
        self.heads, self.window = heads, config.window
        self.qkv = nn.Linear(dim, 3 * dim, bias=config.qkv_bias)
        self.output = nn.Linear(dim, dim)
        self.relative_position_bias = nn.Parameter(torch.empty((2 * config.window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias, std=0.02)

    def forward(self, windows: Tensor, regions: Tensor | None) -> Tensor:
        """``windows`` (B, N, n, dim): N windows of n tokens; returns the same shape.

        ``regions`` (N, n) int numbers the parts of shifted windows that may not look at each other.
        """
        batch, count, tokens, _ = windows.shape
        index = relative_position_index(self.window).to(windows.device)
        bias = self.relative_position_bias[index].permute(2, 0, 1)  # (heads, n, n)
        # Windows and heads share a dimension, so that one mask serves every image of the batch.
        qkv = self.qkv(windows).view(batch, count, tokens, 3, self.heads, -1)
        query, key, value = qkv.permute(3, 0, 1, 4, 2, 5).flatten(2, 3)  # each (B, N * heads, n, dim / heads)
        mask = window_mask(bias, count, regions, apart=-100.0).to(query.dtype)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        merged = attended.view(batch, count, self.heads, tokens, -1).transpose(2, 3).flatten(3)
        out: Tensor = self.output(merged)
        return out


class PatchMerging(nn.Module):
    """Halves the resolution: four neighbours side by side, normed, then projected to twice the width (section 3.1)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """(B, h, w, dim) -> (B, ceil(h / 2), ceil(w / 2), 2 dim)."""
        out: Tensor = self.reduction(self.norm(neighbours_as_channels(features)))
        return out


def neighbours_as_channels(features: Tensor) -> Tensor:
    """(B, h, w, dim) -> (B, ceil(h / 2), ceil(w / 2), 4 dim): four neighbours side by side, zeros beyond the border."""
    height, width = features.shape[1:3]
    padded = F.pad(features, (0, 0, 0, width % 2, 0, height % 2))
    return torch.cat([padded[:, row::2, column::2] for column in (0, 1) for row in (0, 1)], -1)


def attend_in_windows(features: Tensor, attention: nn.Module, window: int, shift: int) -> Tensor:
    """Pads ``features`` (B, h, w, dim) to whole windows, shifts, attends, undoes both; returns the same shape.

    ``attention`` takes windows (B, N, n, dim) and the regions that may not look at each other, (N, n) int or None.
    Padded tokens are zeros and take part, as published.
    """
    batch, height, width, dim = features.shape
    padded = F.pad(features, (0, 0, 0, -width % window, 0, -height % window))
    rows, columns = padded.shape[1] // window, padded.shape[2] // window
    if shift:
        padded = padded.roll((-shift, -shift), (1, 2))
    windows = padded.view(batch, rows, window, columns, window, dim).transpose(2, 3)
    windows = windows.reshape(batch, rows * columns, window * window, dim)
    regions = _shift_regions(rows, columns, window, shift, features.device) if shift else None
    windows = attention(windows, regions)
    merged = windows.view(batch, rows, columns, window, window, dim).transpose(2, 3).reshape(padded.shape)
    if shift:
        merged = merged.roll((shift, shift), (1, 2))
    cropped: Tensor = merged[:, :height, :width]
    return cropped


def window_mask(bias: Tensor, count: int, regions: Tensor | None, *, apart: float) -> Tensor:
    """What is added to the scores of ``count`` windows: ``bias`` (heads, n, n) -> (count * heads, n, n).

    ``apart`` comes on top where two tokens are of different ``regions`` (count, n).
    """
    if regions is None:
        return bias.expand(count, -1, -1, -1).flatten(0, 1)
    differ = regions[:, None, :, None] != regions[:, None, None, :]  # (N, 1, n, n)
    return torch.where(differ, bias + apart, bias).flatten(0, 1)


@lru_cache(maxsize=8)
def relative_position_index(window: int) -> Tensor:
    """Which row of the bias table belongs to each pair of tokens of a window: (window^2, window^2) int64."""
    with torch.inference_mode(False):  # kept for later calls, which may want gradients
        steps = torch.arange(window, device="cpu")  # or are on another device than this one
        rows, columns = (axis.flatten() for axis in torch.meshgrid(steps, steps, indexing="ij"))
        row_offset = rows[:, None] - rows[None, :] + window - 1
        column_offset = columns[:, None] - columns[None, :] + window - 1
        return row_offset * (2 * window - 1) + column_offset


def _shift_regions(rows: int, columns: int, window: int, shift: int, device: torch.device) -> Tensor:
    """Numbers the tokens of shifted windows by the part of the image they come from: (rows * columns, window^2) int64.

    After a cyclic shift the last windows hold tokens of opposite borders, which may not attend to each other.
    """

    def parts(count: int) -> Tensor:
        place = torch.arange(count * window, device=device)
        return (place >= (count - 1) * window).long() + (place >= count * window - shift).long()

    regions = parts(rows)[:, None] * 3 + parts(columns)[None, :]
    return regions.view(rows, window, columns, window).transpose(1, 2).reshape(rows * columns, -1)
