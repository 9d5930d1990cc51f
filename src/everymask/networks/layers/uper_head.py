"""The heads of UPerNet (Xiao et al. 2018), which BEiT shares."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from everymask.networks.layers.conv_norm import ConvNorm
from everymask.networks.layers.level_convolution import LevelConvolution


class UperHead(nn.Module):
    """A feature pyramid network under a pyramid pooling module; all its levels, fused, tell the classes (figure 4)."""

    def __init__(self, widths: Sequence[int], dim: int, num_labels: int, pool_scales: Sequence[int]) -> None:
        """``widths``: channels of the maps, finest first; ``dim``: of everything inside.

        ``pool_scales``: into how many rows and columns the pooling module cuts the coarsest map, once for each.
        """
        super().__init__()
        *finer, coarsest = widths
        self.pooling = PyramidPooling(coarsest, dim, pool_scales)
        self.laterals = nn.ModuleList(ConvNorm(width, dim, 1) for width in finer)
        self.smoothings = nn.ModuleList(ConvNorm(dim, dim, 3) for _ in finer)
        self.fuse = nn.Sequential(LevelConvolution(dim, len(widths), dim), nn.BatchNorm2d(dim), nn.ReLU(inplace=True))
        self.classifier = nn.Conv2d(dim, num_labels, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Maps (B, widths[i], h_i, w_i), finest first -> class logits (B, C, h_0, w_0)."""
        *finer, coarsest = features
        topmost = self.pooling(coarsest)  # (B, dim, h, w)
        pyramid = [topmost]  # from coarse to fine
        for feature, lateral in zip(reversed(finer), reversed(self.laterals), strict=True):
            pyramid.append(lateral(feature) + _resize(pyramid[-1], feature))
        smoothed = [smooth(level) for level, smooth in zip(pyramid[:0:-1], self.smoothings, strict=True)]
        logits: Tensor = self.classifier(self.fuse((*smoothed, topmost)))
        return logits


class PyramidPooling(nn.Module):
    """What lies in each part of the map, for several ways of cutting it into parts (Zhao et al. 2017, section 3.2)."""

    def __init__(self, width: int, dim: int, scales: Sequence[int]) -> None:
        super().__init__()
        self.scales = tuple(scales)
        self.projections = nn.ModuleList(ConvNorm(width, dim, 1) for _ in self.scales)
        self.fuse = ConvNorm(width + len(self.scales) * dim, dim, 3)

    def forward(self, features: Tensor) -> Tensor:
        """(B, width, h, w) -> (B, dim, h, w). A map may have fewer rows or columns than parts: then parts overlap."""
        pooled = [
            _resize(project(F.adaptive_avg_pool2d(features, scale)), features)
            for scale, project in zip(self.scales, self.projections, strict=True)
        ]
        out: Tensor = self.fuse(torch.cat((features, *pooled), 1))
        return out


class FCNHead(nn.Module):
    """A small head on one map (Long et al. 2015): the auxiliary one, which helps in training and is idle otherwise."""

    def __init__(self, width: int, dim: int, num_labels: int) -> None:
        super().__init__()
        self.fuse = ConvNorm(width, dim, 3)
        self.classifier = nn.Conv2d(dim, num_labels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, width, h, w) -> class logits (B, C, h, w)."""
        logits: Tensor = self.classifier(self.fuse(features))
        return logits


def _resize(features: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(features, size=like.shape[-2:], mode="bilinear", align_corners=False)
