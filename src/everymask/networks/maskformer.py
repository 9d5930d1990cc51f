"""MaskFormer (Cheng et al. 2021): per-pixel classification is not all you need for semantic segmentation."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from everymask.networks.layers.detr_decoder import DetrDecoder
from everymask.networks.layers.feed_forward import MLP
from everymask.networks.layers.norms import GroupNorm
from everymask.networks.layers.positions import sine_positions
from everymask.networks.outputs import MaskQueries


@dataclass(frozen=True, slots=True)
class MaskFormerConfig:
    """The sizes of everything after the backbone."""

    num_labels: int
    num_queries: int
    hidden_dim: int
    feature_dim: int
    mask_dim: int
    heads: int
    decoder_layers: int
    decoder_feed_forward: int


class MaskFormer(nn.Module):
    """A backbone, a pixel decoder and a decoder of queries."""

    def __init__(self, config: MaskFormerConfig, backbone: nn.Module, backbone_widths: tuple[int, ...]) -> None:
        """``backbone`` gives four maps of ``backbone_widths`` channels at strides 4, 8, 16 and 32."""
        super().__init__()
        self.backbone = backbone
        self.pixel_decoder = PixelDecoder(config, backbone_widths)
        self.query_decoder = QueryDecoder(config, backbone_widths[-1])

    def forward(self, pixel_values: Tensor) -> MaskQueries:
        """(B, 3, H, W), normalised, any H and W >= 32 -> class logits (B, Q, C + 1), mask logits (B, Q, ~H/4, ~W/4).

        In training mode the result carries the predictions of the earlier layers, too (section 4.2).
        """
        features = self.backbone(pixel_values)
        queries: MaskQueries = self.query_decoder(features[-1], self.pixel_decoder(features))
        return queries


class PixelDecoder(nn.Module):
    """A feature pyramid network from stride 32 to stride 4 (section 4.1)."""

    def __init__(self, config: MaskFormerConfig, widths: tuple[int, ...]) -> None:
        super().__init__()
        dim = config.feature_dim
        self.stem = _conv_norm_relu(widths[-1], dim)
        self.laterals = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, dim, 1, bias=False), GroupNorm(32, dim)) for width in widths[-2::-1]
        )
        self.fusions = nn.ModuleList(_conv_norm_relu(dim, dim) for _ in self.laterals)
        self.mask_projection = nn.Conv2d(dim, config.mask_dim, 3, padding=1)

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        """Backbone maps (B, widths[i], h_i, w_i), finest first -> mask features (B, mask_dim, h_0, w_0)."""
        fused = self.stem(features[-1])
        for index, (lateral, fuse) in enumerate(zip(self.laterals, self.fusions, strict=True)):
            assert isinstance(lateral, nn.Sequential)
            project, norm = lateral
            fused = fuse(norm(project(features[-2 - index]), coarser=fused, mode="nearest"))
        out: Tensor = self.mask_projection(fused)
        return out


class QueryDecoder(nn.Module):
    """DETR's decoder over the stride-32 map, and the two predictions made from its queries (section 3.3)."""

    def __init__(self, config: MaskFormerConfig, width: int) -> None:
        super().__init__()
        dim = config.hidden_dim
        self.query_positions = nn.Parameter(torch.randn(config.num_queries, dim))
        self.input_projection = nn.Identity() if width == dim else nn.Conv2d(width, dim, 1)
        self.decoder = DetrDecoder(dim, config.heads, config.decoder_feed_forward, config.decoder_layers)
        self.mask_embedder = MLP(dim, dim, config.mask_dim)
        self.class_predictor = nn.Linear(dim, config.num_labels + 1)

    def forward(self, coarsest: Tensor, mask_features: Tensor) -> MaskQueries:
        """The backbone's stride-32 map (B, width, h, w) and mask features at stride 4 -> predictions at stride 4."""
        projected = self.input_projection(coarsest)  # (B, dim, h, w)
        size = (int(projected.shape[-2]), int(projected.shape[-1]))
        memory = projected.flatten(2).transpose(1, 2)  # (B, h w, dim)
        positions = sine_positions(*size, memory.shape[-1], device=memory.device, dtype=memory.dtype)
        layers = self.decoder(self.query_positions, memory, memory + positions)
        *earlier, last = (self._predict(normed, mask_features) for normed in layers)
        return MaskQueries(last.class_logits, last.mask_logits, tuple(earlier))

    def _predict(self, normed: Tensor, mask_features: Tensor) -> MaskQueries:
        pixels = mask_features.permute(0, 2, 3, 1).flatten(1, 2)  # (B, h w, mask_dim): a view where channels are last
        masks = torch.bmm(self.mask_embedder(normed), pixels.transpose(1, 2))  # (B, Q, h w)
        return MaskQueries(self.class_predictor(normed), masks.unflatten(-1, mask_features.shape[-2:]))


def _conv_norm_relu(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), GroupNorm(32, outputs, activate=True))
