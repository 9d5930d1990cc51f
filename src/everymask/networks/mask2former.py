"""Mask2Former (Cheng et al. 2022): masked-attention mask transformer for universal segmentation."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from everymask.networks.layers.mask_features import MaskFeatures
from everymask.networks.layers.masked_decoder import MaskedDecoder
from everymask.networks.layers.pixel_decoder import PixelDecoder
from everymask.networks.outputs import MaskQueries


@dataclass(frozen=True, slots=True)
class Mask2FormerConfig:
    """The sizes of everything after the backbone.

    ``decoder_layers`` counts the layers themselves (9 as published); with the prediction made before the first of them
    there is one prediction more. ``norm_groups``: of the pixel decoder's group norms.
    ``recompute``: the pixel decoder takes less memory in training, and more time.
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
    norm_groups: int = 32
    recompute: bool = False


class Mask2Former(nn.Module):
    """A backbone, a pixel decoder and a decoder of queries."""

    def __init__(self, config: Mask2FormerConfig, backbone: nn.Module, backbone_widths: tuple[int, ...]) -> None:
        """``backbone`` gives four maps of ``backbone_widths`` channels at strides 4, 8, 16 and 32."""
        super().__init__()
        self.backbone = backbone
        self.pixel_decoder = PixelDecoder(
            backbone_widths,
            config.feature_dim,
            config.mask_dim,
            heads=config.heads,
            layers=config.encoder_layers,
            feed_forward=config.encoder_feed_forward,
            norm_groups=config.norm_groups,
            recompute=config.recompute,
        )
        self.query_decoder = QueryDecoder(config)

    def forward(self, pixel_values: Tensor) -> MaskQueries:
        """(B, 3, H, W), normalised, any H and W >= 32 -> class logits (B, Q, C + 1), mask logits (B, Q, ~H/4, ~W/4).

        In training mode the result carries the earlier predictions, too (section 3.3, deep supervision).
        """
        levels, mask_features = self.pixel_decoder(self.backbone(pixel_values))
        queries: MaskQueries = self.query_decoder(levels, mask_features)
        return queries


class QueryDecoder(MaskedDecoder):
    """The masked decoder (section 3.2.2), which starts from learned queries: the same for every image."""

    def __init__(self, config: Mask2FormerConfig) -> None:
        super().__init__(
            config.feature_dim,
            config.hidden_dim,
            config.mask_dim,
            config.num_labels,
            heads=config.heads,
            layers=config.decoder_layers,
            feed_forward=config.decoder_feed_forward,
        )
        self.query_features = nn.Parameter(torch.randn(config.num_queries, config.hidden_dim))
        self.query_positions = nn.Parameter(torch.randn(config.num_queries, config.hidden_dim))

    def forward(self, levels: list[Tensor], mask_features: MaskFeatures) -> MaskQueries:
        """Refined maps of strides 32, 16 and 8 and mask features at stride 4 -> predictions at stride 4."""
        queries = self.query_features.expand(len(mask_features.features), -1, -1)  # (B, Q, dim)
        return self.decode(queries, self.query_positions, levels, mask_features)
