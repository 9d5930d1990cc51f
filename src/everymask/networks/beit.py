"""BEiT (Bao et al. 2022) for semantic segmentation: its tokens as a feature pyramid under the head of UPerNet."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from everymask.networks.backbones.beit import Beit
from everymask.networks.layers.uper_head import FCNHead, UperHead
from everymask.networks.outputs import PixelLogits


@dataclass(frozen=True, slots=True)
class BeitSegmentationConfig:
    """The sizes of everything but the backbone, whose width is that of the head, too.

    ``taps``: after how many blocks the maps of the pyramid are taken, four rising numbers, the finest map first.
    ``pool_scales``: into how many rows and columns the pyramid pooling module cuts the coarsest map, once for each.
    ``auxiliary_dim``: the width of the auxiliary head, None without one.
    """

    num_labels: int
    taps: tuple[int, ...]
    pool_scales: tuple[int, ...]
    auxiliary_dim: int | None


class BeitSegmentation(nn.Module):
    """A BEiT, a feature pyramid made of its tokens, and the heads of UPerNet (Bao et al. 2022, section 3.2)."""

    def __init__(self, config: BeitSegmentationConfig, backbone: Beit) -> None:
        super().__init__()
        dim = backbone.dim
        self.taps = config.taps
        self.backbone = backbone
        self.pyramid = TokenPyramid(dim)
        self.head = UperHead((dim,) * 4, dim, config.num_labels, config.pool_scales)
        self.auxiliary_head = (
            None if config.auxiliary_dim is None else FCNHead(dim, config.auxiliary_dim, config.num_labels)
        )

    def forward(self, pixel_values: Tensor) -> PixelLogits:
        """(B, 3, H, W), normalised, any H and W >= 32 -> class logits (B, C, ~H/4, ~W/4).

        In training mode the result carries the logits of the auxiliary head (at stride 16), too.
        """
        tapped, size = self.backbone.taps(pixel_values, self.taps)
        prefix = self.backbone.prefix
        features = self.pyramid([tokens[:, prefix:].transpose(1, 2).unflatten(-1, size) for tokens in tapped])
        auxiliary: tuple[PixelLogits, ...] = ()
        if self.training and self.auxiliary_head is not None:
            auxiliary = (PixelLogits(self.auxiliary_head(features[2])),)
        # Where the image was padded to whole patches, the logits go beyond it.
        height, width = (-(-int(side) * 4 // self.backbone.patch) for side in pixel_values.shape[-2:])
        return PixelLogits(self.head(features)[..., :height, :width], auxiliary)


class TokenPyramid(nn.Module):
    """Four maps of one resolution, brought to 4, 2, 1 and 1/2 times that: strides 4, 8, 16 and 32."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.four_times = nn.Sequential(
            nn.ConvTranspose2d(dim, dim, 2, stride=2),
            nn.BatchNorm2d(dim),
            nn.GELU(),
            nn.ConvTranspose2d(dim, dim, 2, stride=2),
        )
        self.twice = nn.ConvTranspose2d(dim, dim, 2, stride=2)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Four times (B, dim, h, w) -> (B, dim, 4 h, 4 w), (B, dim, 2 h, 2 w), (B, dim, h, w), (B, dim, h/2, w/2)."""
        first, second, third, fourth = maps
        return self.four_times(first), self.twice(second), third, F.max_pool2d(fourth, 2)
