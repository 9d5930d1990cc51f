"""SegFormer (Xie et al. 2021): a Mix Transformer and a decoder of linear layers alone."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from everymask.networks.backbones.mix_transformer import MixTransformer
from everymask.networks.outputs import PixelLogits


@dataclass(frozen=True, slots=True)
class SegFormerConfig:
    """The sizes of the decoder: its width ``dim`` and the number of classes."""

    num_labels: int
    dim: int


class SegFormer(nn.Module):
    """A backbone and a decoder, per-pixel classification at stride 4."""

    def __init__(self, config: SegFormerConfig, backbone: MixTransformer) -> None:
        super().__init__()
        self.backbone = backbone
        self.decoder = AllMLPDecoder(config, backbone.widths)

    def forward(self, pixel_values: Tensor) -> PixelLogits:
        """(B, 3, H, W), normalised, any H and W >= 32 -> logits (B, C, H / 4, W / 4), sizes rounded up."""
        return PixelLogits(self.decoder(self.backbone(pixel_values)))


class AllMLPDecoder(nn.Module):
    """Every map projected, resized to the first one's size, fused and classified (section 3.2, equation 4).

    Bilinear resizing is linear and works on each channel by itself, so it commutes with what is linear in the channels:
    resizing and fusing the projected maps is resizing and adding maps that one linear layer each, the product of a
    projection and its part of the fusion, has brought to width ``dim`` at their own resolution.
    """

    def __init__(self, config: SegFormerConfig, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.projections = nn.ModuleList(nn.Linear(width, config.dim) for width in widths)
        self.fuse = nn.Conv2d(len(widths) * config.dim, config.dim, 1, bias=False)
        self.norm = nn.BatchNorm2d(config.dim)
        self.classifier = nn.Conv2d(config.dim, config.num_labels, 1)

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        """Maps (B, widths[i], h_i, w_i), the finest first -> logits (B, C, h_0, w_0)."""
        # The published fusion takes the coarsest map first.
        parts = self.fuse.weight.flatten(1).chunk(len(maps), 1)[::-1]  # (dim, dim) each
        projected = []  # (B, dim, h_i, w_i) each
        for features, projection, part in zip(maps, self.projections, parts, strict=True):
            assert isinstance(projection.weight, Tensor)
            assert isinstance(projection.bias, Tensor)
            weight, bias = part @ projection.weight, part @ projection.bias
            projected.append(F.linear(features.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2))
        fused, *coarser = projected
        for each in coarser:
            fused += F.interpolate(each, size=fused.shape[-2:], mode="bilinear", align_corners=False)
        logits: Tensor = self.classifier(F.relu(self.norm(fused), inplace=True))
        return logits
