"""The decoder of queries of Mask2Former (Cheng et al. 2022, section 3.2.2), which OneFormer shares."""

import torch
from torch import Tensor, nn

from everymask.networks.layers.attention import Attention
from everymask.networks.layers.feed_forward import MLP, FeedForward
from everymask.networks.layers.mask_features import MaskFeatures
from everymask.networks.layers.pixel_decoder import LEVELS
from everymask.networks.layers.positions import sine_positions
from everymask.networks.outputs import MaskQueries


class MaskedDecoder(nn.Module):
    """Queries that read one level a layer, each only where its own mask is so far."""

    def __init__(
        self, feature_dim: int, dim: int, mask_dim: int, num_labels: int, *, heads: int, layers: int, feed_forward: int
    ) -> None:
        """``feature_dim`` and ``mask_dim``: channels of the pixel decoder's maps; ``dim``: width of the queries.

        ``feed_forward`` is the hidden width of the ``layers`` layers.
        """
        super().__init__()
        self.level_embed = nn.Parameter(torch.randn(LEVELS, dim))
        self.input_projections = nn.ModuleList(
            nn.Identity() if feature_dim == dim else nn.Conv2d(feature_dim, dim, 1) for _ in range(LEVELS)
        )
        self.layers = nn.ModuleList(MaskedDecoderLayer(dim, heads, feed_forward) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.mask_embedder = MLP(dim, dim, mask_dim)
        self.class_predictor = nn.Linear(dim, num_labels + 1)

    def decode(
        self, queries: Tensor, positions: Tensor, levels: list[Tensor], mask_features: MaskFeatures
    ) -> MaskQueries:
        """Sends ``queries`` (B, Q, dim) with their ``positions`` (Q, dim) through the layers.

        ``levels``: refined maps (B, feature_dim, h, w) of strides 32, 16 and 8; ``mask_features`` at stride 4, at which
        the masks are predicted. In training mode the result carries the predictions before each layer, too.
        """
        memories, keys, resized = [], [], []
        for level, project, embed in zip(levels, self.input_projections, self.level_embed, strict=True):
            size = (int(level.shape[-2]), int(level.shape[-1]))
            memory = project(level).flatten(2).transpose(1, 2) + embed  # (B, h w, dim)
            memories.append(memory)
            keys.append(memory + sine_positions(*size, memory.shape[-1], device=memory.device, dtype=memory.dtype))
            resized.append(mask_features.resized(size))

        earlier = []
        for index, layer in enumerate(self.layers):
            normed = self.norm(queries)
            if self.training:
                earlier.append(self._predict(normed, mask_features))
            level_index = index % LEVELS
            allowed = self._attention_mask(normed, resized[level_index])
            queries = layer(queries, positions, memories[level_index], keys[level_index], allowed)
        last = self._predict(self.norm(queries), mask_features)
        return MaskQueries(last.class_logits, last.mask_logits, tuple(earlier))

    def _predict(self, normed: Tensor, mask_features: MaskFeatures) -> MaskQueries:
        return MaskQueries(self.class_predictor(normed), mask_features.masks(self.mask_embedder(normed)))

    @torch.no_grad()
    def _attention_mask(self, normed: Tensor, resized: MaskFeatures) -> Tensor:
        """Where each query may look: inside its mask, or everywhere if that is empty. (B, 1, Q, h w) bool."""
        masks = resized.masks(self.mask_embedder(normed)).flatten(2)  # (B, Q, h w)
        least = torch.where(masks.amax(-1, keepdim=True) >= 0, 0.0, -torch.inf).to(masks.dtype)  # (B, Q, 1)
        return (masks >= least)[:, None]


class MaskedDecoderLayer(nn.Module):
    """Masked cross-attention, self-attention and a feed-forward block, each added and normed (figure 2)."""

    def __init__(self, dim: int, heads: int, feed_forward: int) -> None:
        super().__init__()
        self.cross_attention = Attention(dim, heads)
        self.cross_attention_norm = nn.LayerNorm(dim)
        self.self_attention = Attention(dim, heads)
        self.self_attention_norm = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim, feed_forward)
        self.feed_forward_norm = nn.LayerNorm(dim)

    def forward(self, queries: Tensor, positions: Tensor, memory: Tensor, keys: Tensor, allowed: Tensor) -> Tensor:
        """``queries`` (B, Q, dim), ``positions`` (Q, dim), ``memory`` and ``keys`` (B, K, dim) -> (B, Q, dim).

        ``keys`` is the memory with positions added; ``allowed`` (B, 1, Q, K) bool is the attention mask.
        """
        attended = self.cross_attention(queries + positions, keys, memory, allowed)
        queries = self.cross_attention_norm(queries + attended)
        placed = queries + positions
        queries = self.self_attention_norm(queries + self.self_attention(placed, placed, queries))
        out: Tensor = self.feed_forward_norm(queries + self.feed_forward(queries))
        return out
