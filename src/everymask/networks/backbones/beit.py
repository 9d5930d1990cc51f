"""BEiT (Bao et al. 2022): a plain vision transformer whose attention knows how far apart two patches are."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from everymask.networks.layers.feed_forward import FeedForward
from everymask.networks.layers.inputs import check_pixel_values
from everymask.networks.layers.norms import LayerNorm
from everymask.networks.layers.patches import PatchConvolution


@dataclass(frozen=True, slots=True)
class BeitConfig:
    """The sizes of a BEiT of ``depth`` blocks on patches of ``patch`` x ``patch`` pixels.

    ``feed_forward``: the hidden units of the feed-forward blocks. ``window``: rows and columns of patches for which the
    positions were trained. ``relative_positions``: a table in every block, one that all blocks share, or none.
    ``absolute_positions``: whether learned positions are added to the tokens. ``layer_scale``: what the scales of the
    residual branches start from in training.
    """

    dim: int
    depth: int
    heads: int
    feed_forward: int
    patch: int
    window: tuple[int, int]
    relative_positions: Literal["block", "shared"] | None = "block"
    absolute_positions: bool = False
    norm_eps: float = 1e-12
    layer_scale: float = 0.1
    channels: int = 3


class Beit(nn.Module):
    """The backbone: tokens of one scale, the class token before those of the patches. It has no norm at its end.

    What does more than to ``taps`` it runs the ``blocks`` itself, with the ``size`` that ``embed`` gives and the
    ``shared_bias`` that belongs to it. ``prefix`` counts the tokens before the patches: the class token.
    """

    def __init__(self, config: BeitConfig) -> None:
        super().__init__()
        self.config = config
        self.dim, self.patch, self.prefix = config.dim, config.patch, 1
        self.patch_embedding = PatchConvolution(config.channels, config.dim, config.patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, config.dim))
        if config.absolute_positions:
            self.positions = nn.Parameter(torch.zeros(1 + math.prod(config.window), config.dim))
            nn.init.trunc_normal_(self.positions, std=0.02)
        if config.relative_positions == "shared":
            self.relative_positions = RelativePositions(config.window, config.heads)
        self.blocks = nn.ModuleList(BeitBlock(config) for _ in range(config.depth))

    def taps(self, pixel_values: Tensor, after: Collection[int]) -> tuple[tuple[Tensor, ...], tuple[int, int]]:
        """(B, channels, H, W) -> the tokens after each number of blocks in ``after``, and (h, w) = (H, W) / patch.

        Each is (B, 1 + h * w, dim) with the class token first; 0 stands for what ``embed`` gives. They come with rising
        numbers, whatever the order of ``after``; what lies behind the last of them is not computed. h and w are rounded
        up: see ``embed``.
        """
        tokens, size = self.embed(pixel_values)
        bias = self.shared_bias(size)
        found = [tokens] if 0 in after else []
        for number, block in enumerate(self.blocks[: max(after)], 1):
            tokens = block(tokens, size, bias)
            if number in after:
                found.append(tokens)
        return tuple(found), size

    def embed(self, pixel_values: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """(B, channels, H, W) -> tokens (B, 1 + h * w, dim) and (h, w) = (H, W) / patch, rounded up.

        An image that is no multiple of the patch is padded with zeros at the bottom and right.
        """
        check_pixel_values(pixel_values, self.config.channels)
        height, width = pixel_values.shape[-2:]
        patches = self.patch_embedding(F.pad(pixel_values, (0, -width % self.patch, 0, -height % self.patch)))
        size = (int(patches.shape[-2]), int(patches.shape[-1]))
        tokens = torch.cat((self.class_token.expand(len(patches), -1, -1), patches.flatten(2).transpose(1, 2)), 1)
        return tokens + self._learned_positions(size) if self.config.absolute_positions else tokens, size

    def shared_bias(self, size: tuple[int, int]) -> Tensor | None:
        """The bias of h x w patches that goes to every block; None where blocks have their own, or none at all."""
        return self.relative_positions(size) if self.config.relative_positions == "shared" else None

    def _learned_positions(self, size: tuple[int, int]) -> Tensor:
        """The positions of the class token and h x w patches, (1 + h * w, dim).

        As learned, or those of the patches resized bicubically.
        """
        if size == self.config.window:
            return self.positions
        learned = self.positions[1:].float().T.unflatten(1, self.config.window)[None]  # (1, dim, rows, columns)
        resized = F.interpolate(learned, size=size, mode="bicubic", align_corners=False)
        return torch.cat((self.positions[:1], resized[0].flatten(1).T.to(self.positions.dtype)))


class BeitBlock(nn.Module):
    """Self-attention and a feed-forward block, each on normed input, scaled by channel and added."""

    def __init__(self, config: BeitConfig) -> None:
        super().__init__()
        self.attention_norm = LayerNorm(config.dim, eps=config.norm_eps)
        self.attention = BeitAttention(config.dim, config.heads)
        self.attention_scale = nn.Parameter(torch.full((config.dim,), config.layer_scale))
        self.own_positions = config.relative_positions == "block"
        if self.own_positions:
            self.relative_positions = RelativePositions(config.window, config.heads)
        self.feed_forward_norm = LayerNorm(config.dim, eps=config.norm_eps)
        self.feed_forward = FeedForward(config.dim, config.feed_forward, nn.GELU)
        self.feed_forward_scale = nn.Parameter(torch.full((config.dim,), config.layer_scale))

    def forward(self, tokens: Tensor, size: tuple[int, int], shared_bias: Tensor | None = None) -> Tensor:
        """``tokens`` (B, 1 + h * w, dim) of ``size`` (h, w), the class token first -> the same shape.

        ``shared_bias`` is ``Beit.shared_bias(size)``.
        """
        bias = self.relative_positions(size) if self.own_positions else shared_bias
        attended = self.attention(self.attention_norm(tokens), bias)
        del bias  # 630 MB for 56 x 56 patches and 16 heads
        tokens, normed = self.feed_forward_norm.sum_and_norm(tokens, attended, self.attention_scale)
        out: Tensor = tokens + self.feed_forward_scale * self.feed_forward(normed)
        return out


class BeitAttention(nn.Module):
    """Multi-head self-attention with a bias for every pair of tokens; keys are projected without one of their own."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.query_bias = nn.Parameter(torch.zeros(dim))
        self.value_bias = nn.Parameter(torch.zeros(dim))
        self.output = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor, bias: Tensor | None) -> Tensor:
        """``tokens`` (B, N, dim), ``bias`` (1, heads, N, N) from ``RelativePositions`` -> (B, N, dim)."""
        qkv = self.qkv(tokens).unflatten(-1, (3, self.heads, -1))  # (B, N, 3, heads, d)
        query = (qkv[:, :, 0] + self.query_bias.unflatten(0, (self.heads, -1))).transpose(1, 2)  # (B, heads, N, d)
        # The bias has the keys from last to first; what attention gives does not depend on their order.
        key, value = qkv[:, :, 1:].flip(1).permute(2, 0, 3, 1, 4)  # (B, heads, N, d) each
        value = value + self.value_bias.view(self.heads, 1, -1)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        out: Tensor = self.output(attended.transpose(1, 2).flatten(2))
        return out


class RelativePositions(nn.Module):
    """A bias for every offset between two patches, and for pairs with the class token.

    ``table`` ((2 H - 1) * (2 W - 1) + 3, heads) for a ``window`` of H x W patches: offsets from -H + 1, -W + 1 on, row
    by row, then class token to patch, patch to class token, class token to itself.
    """

    def __init__(self, window: tuple[int, int], heads: int) -> None:
        super().__init__()
        self.window = window
        height, width = window
        self.table = nn.Parameter(torch.empty((2 * height - 1) * (2 * width - 1) + 3, heads))
        nn.init.trunc_normal_(self.table, std=0.02)

    def forward(self, size: tuple[int, int]) -> Tensor:
        """The bias among h x w patches and the class token: (1, heads, N queries, N keys), N = 1 + h * w.

        Queries are in the order of the tokens, keys in the reverse order: then row r and reversed key row r' are the
        offset r + r', so that all windows of the table, one for every query, are the bias; nothing is looked up.
        For another size than the trained one the table is resized bilinearly, the class token's part as it is.
        """
        (rows, columns), (height, width) = self.window, size
        to_patch, to_class, to_itself = self.table[-3:]  # (heads,) each
        offsets = self.table[:-3].T.unflatten(1, (2 * rows - 1, 2 * columns - 1))
        if size != self.window:
            resized = (2 * height - 1, 2 * width - 1)
            offsets = F.interpolate(offsets[None], size=resized, mode="bilinear", align_corners=False)[0]
        windows = offsets.contiguous().unfold(1, height, 1).unfold(2, width, 1)  # (heads, h, w, h, w), a view
        tokens = 1 + height * width
        bias = self.table.new_empty(len(offsets), tokens, tokens)
        bias[:, 1:, :-1].unflatten(1, size).unflatten(3, size).copy_(windows)
        bias[:, 0] = to_patch[:, None]
        bias[:, :, -1] = to_class[:, None]
        bias[:, 0, -1] = to_itself
        return bias[None]
