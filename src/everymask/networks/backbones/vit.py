"""The plain vision transformers: the first (Dosovitskiy et al. 2021), DINOv2 and DINOv3.

The first and DINOv2 (Oquab et al. 2023; registers: Darcet et al. 2024) add learned positions to the patches, DINOv3
(Simeoni et al. 2025) rotates queries and keys instead; DINOv2 and DINOv3 scale what a block adds, channel by channel.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from everymask.networks.layers.attention import Attention
from everymask.networks.layers.feed_forward import FeedForward, GatedFeedForward
from everymask.networks.layers.inputs import check_pixel_values
from everymask.networks.layers.norms import LayerNorm
from everymask.networks.layers.patches import PatchConvolution
from everymask.networks.layers.positions import Rotary, rotary_positions


@dataclass(frozen=True, slots=True)
class ViTConfig:
    """The sizes of a vision transformer of ``depth`` blocks on patches of ``patch`` x ``patch`` pixels.

    ``feed_forward``: the hidden units of the feed-forward blocks, which are gated where ``gated``. ``registers``:
    tokens beside the class token; None: the network knows of none, and no file holds any. ``grid``: rows and columns of
    learned positions; None means rotary positions with the base ``rotary_base``, stretched in training by a random
    factor of up to ``rotary_rescale`` (None: not at all). ``resize``: how learned positions are brought to other grids.
    ``class_position``: the class token has a learned position, too, the first one. ``final_norm``: what the last block
    gives, and every tap, is normed.
    """

    dim: int
    depth: int
    heads: int
    feed_forward: int
    patch: int
    registers: int | None
    grid: tuple[int, int] | None
    activation: type[nn.Module] = nn.GELU
    gated: bool = False
    key_bias: bool = True
    norm_eps: float = 1e-6
    channels: int = 3
    rotary_base: float = 100.0
    rotary_rescale: float | None = None
    resize: Literal["bicubic", "bilinear"] = "bicubic"
    class_position: bool = False
    layer_scale: bool = True
    final_norm: bool = True


class ViT(nn.Module):
    """The backbone: tokens of one scale. What runs the ``blocks`` may add tokens of its own before those of ``embed``.

    ``prefix`` counts the tokens before the patches: the class token and the registers.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        self.dim, self.patch, self.prefix = config.dim, config.patch, 1 + (config.registers or 0)
        self.patch_embedding = PatchConvolution(config.channels, config.dim, config.patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, config.dim))
        self.register_tokens: nn.Parameter | None = None
        if config.registers is not None:
            self.register_tokens = nn.Parameter(torch.zeros(1, config.registers, config.dim))
        if config.grid is not None:
            self.positions = nn.Parameter(torch.zeros(config.class_position + math.prod(config.grid), config.dim))
            nn.init.trunc_normal_(self.positions, std=0.02)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = LayerNorm(config.dim, eps=config.norm_eps) if config.final_norm else nn.Identity()

    def taps(self, pixel_values: Tensor, after: Collection[int]) -> tuple[tuple[Tensor, ...], tuple[int, int]]:
        """(B, channels, H, W) -> the tokens after each number of blocks in ``after``, and (h, w) = (H, W) / patch.

        Each is (B, prefix + h * w, dim) with the prefix first; 0 stands for what ``embed`` gives. They come with rising
        numbers, whatever the order of ``after``; what lies behind the last of them is not computed. h and w are rounded
        up: see ``embed``.
        """
        tokens, size = self.embed(pixel_values)
        rotary = self.rotary(size)
        found = [self.norm(tokens)] if 0 in after else []
        for number, block in enumerate(self.blocks[: max(after)], 1):
            tokens = block(tokens, rotary)
            if number in after:
                found.append(self.norm(tokens))
        return tuple(found), size

    def embed(self, pixel_values: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """(B, channels, H, W) -> tokens (B, prefix + h * w, dim) and (h, w) = (H, W) / patch, rounded up.

        An image that is no multiple of the patch is padded with zeros at the bottom and right.
        """
        check_pixel_values(pixel_values, self.config.channels)
        height, width = pixel_values.shape[-2:]
        patches = self.patch_embedding(F.pad(pixel_values, (0, -width % self.patch, 0, -height % self.patch)))
        size = (int(patches.shape[-2]), int(patches.shape[-1]))
        tokens = patches.flatten(2).transpose(1, 2)  # (B, h w, dim)
        prefix: Tensor = self.class_token
        if self.config.grid is not None:
            tokens = tokens + self._learned_positions(self.config.grid, size)
        if self.config.class_position:
            prefix = prefix + self.positions[0]
        if self.register_tokens is not None:
            prefix = torch.cat((prefix, self.register_tokens), 1)
        return torch.cat((prefix.expand(len(tokens), -1, -1), tokens), 1), size

    def rotary(self, size: tuple[int, int]) -> Rotary | None:
        """The rotary positions of the tokens that ``embed`` gives for h x w patches; None where they are learned.

        Random in training mode where ``rotary_rescale`` says so (Simeoni et al. 2025, section 3.2: RoPE-box jittering).
        """
        config, weight = self.config, self.patch_embedding.weight
        if config.grid is not None:
            return None
        scale = None
        if self.training and config.rotary_rescale is not None:
            scale = config.rotary_rescale ** (2 * torch.rand(1, device=weight.device) - 1)
        positions = rotary_positions(
            *size,
            config.dim // config.heads,
            base=config.rotary_base,
            scale=scale,
            device=weight.device,
            dtype=weight.dtype,
        )
        return positions.after(self.prefix)

    def _learned_positions(self, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """The positions of h x w patches, (h * w, dim): as learned, or resized from the learned grid."""
        positions = self.positions[int(self.config.class_position) :]
        if size == grid:
            return positions
        learned = positions.float().T.unflatten(1, grid)[None]  # (1, dim, rows, columns)
        resized = F.interpolate(learned, size=size, mode=self.config.resize, align_corners=False)
        return resized[0].flatten(1).T.to(positions.dtype)


class Block(nn.Module):
    """Self-attention and a feed-forward block, each on normed input, scaled by channel if so configured, and added."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        feed_forward = GatedFeedForward if config.gated else FeedForward
        self.attention_norm = LayerNorm(config.dim, eps=config.norm_eps)
        self.attention = Attention(config.dim, config.heads, key_bias=config.key_bias)
        self.attention_scale = _scale(config)
        self.feed_forward_norm = LayerNorm(config.dim, eps=config.norm_eps)
        self.feed_forward = feed_forward(config.dim, config.feed_forward, config.activation)
        self.feed_forward_scale = _scale(config)

    def forward(self, tokens: Tensor, rotary: Rotary | None = None, mask: Tensor | None = None) -> Tensor:
        """``tokens`` (B, N, dim), ``mask`` (B, 1, N, N) bool, True where attention is allowed -> (B, N, dim)."""
        normed = self.attention_norm(tokens)
        attended = self.attention(normed, normed, normed, mask, rotary)
        tokens, normed = self.feed_forward_norm.sum_and_norm(tokens, attended, self.attention_scale)
        fed: Tensor = self.feed_forward(normed)
        return tokens + (fed if self.feed_forward_scale is None else self.feed_forward_scale * fed)


def _scale(config: ViTConfig) -> nn.Parameter | None:
    return nn.Parameter(torch.ones(config.dim)) if config.layer_scale else None
