"""UPerNet (Xiao et al. 2018): unified perceptual parsing for scene understanding, as far as it tells classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from everymask.networks.layers.uper_head import FCNHead, UperHead
from everymask.networks.outputs import PixelLogits


@dataclass(frozen=True, slots=True)
class UPerNetConfig:
    """The sizes of everything after the backbone.

    ``pool_scales``: into how many rows and columns the pyramid pooling module cuts the coarsest map, once for each.
    ``auxiliary_dim``: the width of the auxiliary head, None without one.
    """

    num_labels: int
    dim: int
    pool_scales: tuple[int, ...]
    auxiliary_dim: int | None


class UPerNet(nn.Module):
    """A backbone, a feature pyramid with pooling on top, and a head that helps the backbone in training."""

    def __init__(self, config: UPerNetConfig, backbone: nn.Module, backbone_widths: Sequence[int]) -> None:
        """``backbone`` gives four maps of ``backbone_widths`` channels at strides 4, 8, 16 and 32."""
        super().__init__()
        self.backbone = backbone
        self.head = UperHead(backbone_widths, config.dim, config.num_labels, config.pool_scales)
        self.auxiliary_head = (
            None
            if config.auxiliary_dim is None
            else FCNHead(backbone_widths[2], config.auxiliary_dim, config.num_labels)
        )

    def forward(self, pixel_values: Tensor) -> PixelLogits:
        """(B, 3, H, W), normalised, any H and W >= 32 -> class logits (B, C, H, W), resized from stride 4.

        In training mode the result carries the logits of the auxiliary head (from stride 16), too.
        """
        features = self.backbone(pixel_values)
        size = pixel_values.shape[-2:]
        auxiliary: tuple[PixelLogits, ...] = ()
        if self.training and self.auxiliary_head is not None:
            auxiliary = (PixelLogits(_resize(self.auxiliary_head(features[2]), size)),)
        return PixelLogits(_resize(self.head(features), size), auxiliary)


def _resize(logits: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
