"""The query decoder of DETR (Carion et al. 2020), which MaskFormer uses unchanged."""

import torch
from torch import Tensor, nn

from everymask.networks.layers.attention import Attention
from everymask.networks.layers.feed_forward import FeedForward


class DetrDecoder(nn.Module):
    """Queries, zeros at first, that read an image through ``layers`` layers (section 3.2, appendix A.4)."""

    def __init__(self, dim: int, heads: int, feed_forward: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DetrDecoderLayer(dim, heads, feed_forward) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(
        self, positions: Tensor, memory: Tensor, keys: Tensor, allowed: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """``positions`` (Q, dim), ``memory`` and ``keys`` (B, K, dim) -> the queries, normed: one (B, Q, dim) a layer.

        ``positions`` are the learned queries, ``keys`` is the memory with its positions added; ``allowed``, if given,
        (B, 1, 1, K) bool, is False for padding. The result holds every layer's queries in training mode (for the losses
        of the earlier layers), otherwise those of the last layer alone.
        """
        queries = torch.zeros_like(positions).expand(len(memory), -1, -1)  # (B, Q, dim)
        normed = []
        for index, layer in enumerate(self.layers):
            queries = layer(queries, positions, memory, keys, allowed)
            if self.training or index == len(self.layers) - 1:
                normed.append(self.norm(queries))
        return tuple(normed)


class DetrDecoderLayer(nn.Module):
    """Self-attention, cross-attention and a feed-forward block, each added and normed (figure 10)."""

    def __init__(self, dim: int, heads: int, feed_forward: int) -> None:
        super().__init__()
        self.self_attention = Attention(dim, heads)
        self.self_attention_norm = nn.LayerNorm(dim)
        self.cross_attention = Attention(dim, heads)
        self.cross_attention_norm = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim, feed_forward)
        self.feed_forward_norm = nn.LayerNorm(dim)

    def forward(
        self, queries: Tensor, positions: Tensor, memory: Tensor, keys: Tensor, allowed: Tensor | None
    ) -> Tensor:
        """``queries`` (B, Q, dim) -> the same shape; the other arguments are those of the decoder."""
        placed = queries + positions
        queries = self.self_attention_norm(queries + self.self_attention(placed, placed, queries))
        attended = self.cross_attention(queries + positions, keys, memory, allowed)
        queries = self.cross_attention_norm(queries + attended)
        out: Tensor = self.feed_forward_norm(queries + self.feed_forward(queries))
        return out
