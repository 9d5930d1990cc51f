"""Mask2Former (Cheng et al. 2022): masked-attention mask transformer for universal segmentation."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from everymask.networks.layers.attention import Attention
from everymask.networks.layers.deformable_attention import DeformableAttention, Pyramid
from everymask.networks.layers.feed_forward import MLP, FeedForward
from everymask.networks.layers.positions import sine_positions
from everymask.networks.outputs import MaskQueries

LEVELS = 3  # strides 32, 16 and 8 take part in attention; stride 4 only carries the masks
POINTS = 4


@dataclass(frozen=True, slots=True)
class Mask2FormerConfig:
    """The sizes of everything after the backbone.

    ``decoder_layers`` counts the layers themselves (9 as published); with the prediction made before the first of them
    there is one prediction more.
    """

    num_labels: int
    num_queries: int
    hidden_dim: int
    feature_dim: int
    mask_dim: int
    heads: int
    encoder_layers: int
    encoder_feed_forward: int
    decoder_layers: int
    decoder_feed_forward: int


class Mask2Former(nn.Module):
    """A backbone, a pixel decoder and a decoder of queries."""

    def __init__(self, config: Mask2FormerConfig, backbone: nn.Module, backbone_widths: tuple[int, ...]) -> None:
        """``backbone`` gives four maps of ``backbone_widths`` channels at strides 4, 8, 16 and 32."""
        super().__init__()
        self.backbone = backbone
        self.pixel_decoder = PixelDecoder(config, backbone_widths)
        self.query_decoder = QueryDecoder(config)

    def forward(self, pixel_values: Tensor) -> MaskQueries:
        """(B, 3, H, W), normalised, any H and W >= 32 -> class logits (B, Q, C + 1), mask logits (B, Q, ~H/4, ~W/4).

        In training mode the result carries the earlier predictions, too (section 3.3, deep supervision).
        """
        levels, mask_features = self.pixel_decoder(self.backbone(pixel_values))
        queries: MaskQueries = self.query_decoder(levels, mask_features)
        return queries


class PixelDecoder(nn.Module):
    """Multi-scale deformable attention over strides 32, 16 and 8, then one FPN step to stride 4 (section 3.2.1)."""

    def __init__(self, config: Mask2FormerConfig, widths: tuple[int, ...]) -> None:
        super().__init__()
        dim = config.feature_dim
        self.input_projections = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, dim, 1), nn.GroupNorm(32, dim)) for width in widths[:-4:-1]
        )
        self.level_embed = nn.Parameter(torch.randn(LEVELS, dim))
        self.layers = nn.ModuleList(PixelDecoderLayer(config) for _ in range(config.encoder_layers))
        self.lateral = nn.Sequential(nn.Conv2d(widths[0], dim, 1, bias=False), nn.GroupNorm(32, dim))
        self.fuse = nn.Sequential(nn.Conv2d(dim, dim, 3, padding=1, bias=False), nn.GroupNorm(32, dim), nn.ReLU())
        self.mask_projection = nn.Conv2d(dim, config.mask_dim, 1)

    def forward(self, features: tuple[Tensor, ...]) -> tuple[list[Tensor], Tensor]:
        """Backbone maps, finest first -> refined maps of strides 32, 16 and 8, and mask features at stride 4.

        The refined maps are (B, dim, h, w), the mask features (B, mask_dim, h, w).
        """
        maps = [project(features[-1 - level]) for level, project in enumerate(self.input_projections)]
        sizes = [(int(each.shape[-2]), int(each.shape[-1])) for each in maps]
        tokens = torch.cat([each.flatten(2).transpose(1, 2) for each in maps], 1)  # (B, S, dim)
        positions = torch.cat(
            [
                sine_positions(*size, tokens.shape[-1], device=tokens.device, dtype=tokens.dtype) + embed
                for size, embed in zip(sizes, self.level_embed, strict=True)
            ]
        )  # (S, dim)
        pyramid = Pyramid.of(sizes, tokens.device)
        for layer in self.layers:
            tokens = layer(tokens, positions, pyramid)
        parts = tokens.split([height * width for height, width in sizes], dim=1)
        levels = [part.transpose(1, 2).unflatten(-1, size) for part, size in zip(parts, sizes, strict=True)]

        lateral = self.lateral(features[0])
        upsampled = F.interpolate(levels[-1], size=lateral.shape[-2:], mode="bilinear", align_corners=False)
        return levels, self.mask_projection(self.fuse(lateral + upsampled))


class PixelDecoderLayer(nn.Module):
    """Deformable self-attention and a feed-forward block, each added and normed."""

    def __init__(self, config: Mask2FormerConfig) -> None:
        super().__init__()
        dim = config.feature_dim
        self.attention = DeformableAttention(dim, config.heads, LEVELS, POINTS)
        self.attention_norm = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim, config.encoder_feed_forward)
        self.feed_forward_norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor, positions: Tensor, pyramid: Pyramid) -> Tensor:
        """(B, S, dim) -> (B, S, dim)."""
        tokens = self.attention_norm(tokens + self.attention(tokens, positions, pyramid))
        out: Tensor = self.feed_forward_norm(tokens + self.feed_forward(tokens))
        return out


class QueryDecoder(nn.Module):
    """Queries that read one level a layer, each only where its own mask is so far (sections 3.2.1 and 3.2.2)."""

    def __init__(self, config: Mask2FormerConfig) -> None:
        super().__init__()
        dim = config.hidden_dim
        self.query_features = nn.Parameter(torch.randn(config.num_queries, dim))
        self.query_positions = nn.Parameter(torch.randn(config.num_queries, dim))
        self.level_embed = nn.Parameter(torch.randn(LEVELS, dim))
        same = config.feature_dim == dim
        self.input_projections = nn.ModuleList(
            nn.Identity() if same else nn.Conv2d(config.feature_dim, dim, 1) for _ in range(LEVELS)
        )
        self.layers = nn.ModuleList(QueryDecoderLayer(config) for _ in range(config.decoder_layers))
        self.norm = nn.LayerNorm(dim)
        self.mask_embedder = MLP(dim, dim, config.mask_dim)
        self.class_predictor = nn.Linear(dim, config.num_labels + 1)

    def forward(self, levels: list[Tensor], mask_features: Tensor) -> MaskQueries:
        """Refined maps of strides 32, 16 and 8 and mask features at stride 4 -> predictions at stride 4."""
        memories, keys, resized = [], [], []
        for level, project, embed in zip(levels, self.input_projections, self.level_embed, strict=True):
            size = (int(level.shape[-2]), int(level.shape[-1]))
            memory = project(level).flatten(2).transpose(1, 2) + embed  # (B, h w, dim)
            memories.append(memory)
            keys.append(memory + sine_positions(*size, memory.shape[-1], device=memory.device, dtype=memory.dtype))
            # Bilinear resizing is linear: masks made from resized features are the resized masks. Resize once.
            resized.append(F.interpolate(mask_features, size=size, mode="bilinear", align_corners=False).flatten(2))

        queries = self.query_features.expand(len(mask_features), -1, -1)  # (B, Q, dim)
        earlier = []
        for index, layer in enumerate(self.layers):
            normed = self.norm(queries)
            if self.training:
                earlier.append(self._predict(normed, mask_features))
            level_index = index % LEVELS
            allowed = self._attention_mask(normed, resized[level_index])
            queries = layer(queries, self.query_positions, memories[level_index], keys[level_index], allowed)
        last = self._predict(self.norm(queries), mask_features)
        return MaskQueries(last.class_logits, last.mask_logits, tuple(earlier))

    def _predict(self, normed: Tensor, mask_features: Tensor) -> MaskQueries:
        masks = torch.bmm(self.mask_embedder(normed), mask_features.flatten(2))  # (B, Q, h w)
        return MaskQueries(self.class_predictor(normed), masks.unflatten(-1, mask_features.shape[-2:]))

    @torch.no_grad()
    def _attention_mask(self, normed: Tensor, resized: Tensor) -> Tensor:
        """Where each query may look: inside its mask, or everywhere if that is empty. (B, 1, Q, h w) bool."""
        inside = torch.bmm(self.mask_embedder(normed), resized) >= 0
        return (inside | ~inside.any(-1, keepdim=True))[:, None]


class QueryDecoderLayer(nn.Module):
    """Masked cross-attention, self-attention and a feed-forward block, each added and normed (figure 2)."""

    def __init__(self, config: Mask2FormerConfig) -> None:
        super().__init__()
        dim = config.hidden_dim
        self.cross_attention = Attention(dim, config.heads)
        self.cross_attention_norm = nn.LayerNorm(dim)
        self.self_attention = Attention(dim, config.heads)
        self.self_attention_norm = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim, config.decoder_feed_forward)
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
