"""Depth Anything (Yang et al. 2024a; V2: Yang et al. 2024b): depth from DINOv2 and the neck of DPT."""

from dataclasses import dataclass

from torch import Tensor, nn

from everymask.networks.backbones.vit import ViT
from everymask.networks.layers.dpt import DepthHead, Neck, NeckConfig
from everymask.networks.outputs import DepthMap


@dataclass(frozen=True, slots=True)
class DepthAnythingConfig:
    """The sizes of everything but the ViT.

    ``taps``: after how many blocks the ViT's tokens are read, rising. ``head_dim``: channels of the head's last map.
    ``max_depth``: the largest depth of a network that tells metres; None for relative depth.
    """

    neck: NeckConfig
    taps: tuple[int, ...]
    head_dim: int
    max_depth: float | None


class DepthAnything(nn.Module):
    """A ViT, a neck that makes one map of its tokens, and a head."""

    def __init__(self, config: DepthAnythingConfig, backbone: ViT) -> None:
        super().__init__()
        self.taps = config.taps
        self.backbone = backbone
        self.neck = Neck(config.neck)
        self.head = DepthHead(config.neck.fusion, config.head_dim, max_depth=config.max_depth)

    def forward(self, pixel_values: Tensor) -> DepthMap:
        """(B, 3, H, W), normalised, any H and W >= 32 -> depth (B, H, W), 0 or more.

        Metric depth is in metres, larger = farther; relative depth is inverse, without a unit, larger = nearer (section
        3.1). An image that is no multiple of the patch is padded at the bottom and right; depth lies over the image.
        """
        height, width = pixel_values.shape[-2:]
        tokens, grid = self.backbone.taps(pixel_values, self.taps)
        fused = self.neck(tokens, grid)  # (B, fusion, 8 h, 8 w) of h x w patches
        depth: Tensor = self.head(fused, (grid[0] * self.backbone.patch, grid[1] * self.backbone.patch))
        return DepthMap(depth[:, :height, :width])
