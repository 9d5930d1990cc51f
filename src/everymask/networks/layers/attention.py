"""Multi-head attention with separate projections."""

import torch.nn.functional as F
from torch import Tensor, nn

from everymask.networks.layers.positions import Rotary, rotate


class Attention(nn.Module):
    """Scaled dot-product attention over ``heads`` heads (Vaswani et al. 2017, section 3.2)."""

    def __init__(self, dim: int, heads: int, *, key_bias: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim, bias=key_bias)
        self.value = nn.Linear(dim, dim)
        self.output = nn.Linear(dim, dim)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, rotary: Rotary | None = None
    ) -> Tensor:
        """Attends from ``query`` (B, Q, dim) to ``key`` and ``value`` (B, K, dim); returns (B, Q, dim).

        ``mask`` (B, 1, Q, K) bool is True where attention is allowed; every query needs at least one such key.
        ``rotary`` holds the rotary positions of Q = K tokens.
        """
        queries, keys = self._split(self.query(query)), self._split(self.key(key))  # (B, heads, Q or K, dim / heads)
        if rotary is not None:
            queries, keys = rotate(queries, rotary), rotate(keys, rotary)
        attended = F.scaled_dot_product_attention(queries, keys, self._split(self.value(value)), attn_mask=mask)
        merged: Tensor = self.output(attended.transpose(1, 2).flatten(2))  # (B, Q, dim)
        return merged

    def _split(self, tokens: Tensor) -> Tensor:
        split: Tensor = tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return split
