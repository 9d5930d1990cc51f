"""DPT (Ranftl et al. 2021): dense prediction from the tokens of a vision transformer, of classes, depth or both."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from everymask.networks.backbones.beit import Beit
from everymask.networks.backbones.bit import BiT
from everymask.networks.backbones.swinv2 import SwinV2
from everymask.networks.backbones.vit import ViT
from everymask.networks.layers.dpt import ClassHead, DepthHead, Neck, NeckConfig, without_padding
from everymask.networks.layers.inputs import check_pixel_values
from everymask.networks.outputs import DepthMap, PixelLogits, PixelsAndDepth


@dataclass(frozen=True, slots=True)
class DPTConfig:
    """The sizes of everything but the backbone.

    ``taps``: after how many blocks the backbone's tokens are read, rising; empty for Swin v2, which gives maps.
    ``divisor``: images are padded to a multiple of this. ``num_labels``: None where no classes are told apart.
    ``auxiliary``: a second class head helps in training. ``depth``: whether there is a depth head; its convolutions
    come after one more where ``depth_projection``. ``channels``: of the image.
    """

    neck: NeckConfig
    taps: tuple[int, ...]
    divisor: int
    num_labels: int | None
    depth: bool
    auxiliary: bool = False
    dropout: float = 0.1
    depth_projection: bool = False
    channels: int = 3


class HybridViT(nn.Module):
    """A ViT whose patches are the cells of a convolutional network's last map (section 3.1, DPT-Hybrid)."""

    def __init__(self, bit: BiT, vit: ViT) -> None:
        super().__init__()
        self.bit = bit
        self.vit = vit

    def taps(self, pixel_values: Tensor, after: tuple[int, ...]) -> tuple[tuple[Tensor, ...], tuple[int, int]]:
        """(B, channels, H, W) -> the maps of the first two stages at strides 4 and 8, then what ``ViT.taps`` gives."""
        first, second, last = self.bit(pixel_values)
        tokens, size = self.vit.taps(last, after)
        return (first, second, *tokens), size


class DPT(nn.Module):
    """A backbone, the neck that makes one map of its levels, and a head for classes, for depth or one of each."""

    def __init__(self, config: DPTConfig, backbone: ViT | Beit | HybridViT | SwinV2) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.neck = Neck(config.neck)
        fusion = config.neck.fusion
        self.class_head = self.auxiliary_head = None
        if config.num_labels is not None:
            self.class_head = ClassHead(fusion, config.num_labels, config.dropout)
            if config.auxiliary:
                self.auxiliary_head = ClassHead(fusion, config.num_labels, 0.1)
        self.depth_head = DepthHead(fusion, projection=config.depth_projection) if config.depth else None

    def forward(self, pixel_values: Tensor) -> PixelLogits | DepthMap | PixelsAndDepth:
        """(B, 3, H, W), normalised, any H and W >= 32 -> class logits (B, C, h, w), depth (B, h, w) or both.

        h and w are H and W, or 16 / patch times as much where patches are not of 16 pixels (DINOv2). Where the grid of
        patches has an odd number of rows or columns, the maps have those of one patch more, and lie over the image all
        the same. In training mode the logits come with the auxiliary head's, (B, C, h / 2, w / 2).
        """
        check_pixel_values(pixel_values, self.config.channels)
        height, width = pixel_values.shape[-2:]
        padded = F.pad(pixel_values, (0, -width % self.config.divisor, 0, -height % self.config.divisor))
        fused = self._fused(padded)  # (B, fusion, h / 2, w / 2)

        def on_image(maps: Tensor) -> Tensor:
            return without_padding(maps, (height, width), (padded.shape[-2], padded.shape[-1]))

        depth = None if self.depth_head is None else DepthMap(on_image(self.depth_head(fused)))
        if self.class_head is None:
            assert depth is not None
            return depth
        logits = F.interpolate(self.class_head(fused), scale_factor=2.0, mode="bilinear", align_corners=True)
        auxiliary: tuple[PixelLogits, ...] = ()
        if self.training and self.auxiliary_head is not None:
            auxiliary = (PixelLogits(on_image(self.auxiliary_head(fused))),)
        pixels = PixelLogits(on_image(logits), auxiliary)
        return pixels if depth is None else PixelsAndDepth(pixels, depth)

    def _fused(self, pixel_values: Tensor) -> Tensor:
        if isinstance(self.backbone, SwinV2):
            levels = self.backbone(pixel_values)
            fused: Tensor = self.neck(levels, levels[-1].shape[-2:])
        else:
            fused = self.neck(*self.backbone.taps(pixel_values, self.config.taps))
        return fused
