"""The neck and the heads of dense prediction transformers (DPT, Ranftl et al. 2021), which Depth Anything shares.

Reassemble turns tokens of several blocks of a ViT into maps of several resolutions, Fusion joins them from the coarsest
to the finest, a head reads the result (section 3).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

Readout = Literal["ignore", "add", "project"]


@dataclass(frozen=True, slots=True)
class NeckConfig:
    """The sizes of a neck; ``widths`` and ``factors`` have an entry for every level, finest first.

    ``dim``: channels of the tokens. ``widths``: channels of the maps before fusion, ``fusion``: after it. ``factors``:
    how much larger than the grid of patches the map is that is made of tokens (4, 2, 1 or a half); None where the
    backbone gives a map, which is taken as it is. ``readout``: what becomes of the class token (equations 2 to 4).
    ``batch_norm`` and ``bias`` are about the convolutions of the residual units. ``follow_sizes``: a fused map gets the
    size of the next finer one (Depth Anything) instead of twice its own.
    """

    dim: int
    widths: tuple[int, ...]
    factors: tuple[float | None, ...]
    fusion: int
    readout: Readout = "project"
    batch_norm: bool = False
    bias: bool = True
    follow_sizes: bool = False


class Neck(nn.Module):
    """Reassemble and Fusion (section 3.2, figure 1): levels of a backbone to one map."""

    def __init__(self, config: NeckConfig) -> None:
        super().__init__()
        self.follow_sizes = config.follow_sizes
        self.reassemble = nn.ModuleList(
            nn.Identity() if factor is None else Reassemble(config.dim, width, factor, config.readout)
            for width, factor in zip(config.widths, config.factors, strict=True)
        )
        self.convolutions = nn.ModuleList(
            nn.Conv2d(width, config.fusion, 3, padding=1, bias=False) for width in config.widths
        )
        # Coarsest first, as they run.
        self.fusions = nn.ModuleList(Fusion(config, first=level == 0) for level in range(len(config.widths)))

    def forward(self, levels: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
        """``levels``, finest first, to the finest fused map (B, fusion, height, width).

        A level is tokens (B, prefix + h * w, dim), the class token first and the patches last, where ``factors`` has a
        number, and else a map (B, width, ...). ``grid`` is (h, w). Height and width are twice those of the first
        level's map; a bit more where those of the coarsest level are rounded up, unless ``follow_sizes``.
        """
        maps = []
        for level, reassemble, convolution in zip(levels, self.reassemble, self.convolutions, strict=True):
            features = reassemble(level, grid) if isinstance(reassemble, Reassemble) else level
            maps.append(convolution(features))  # (B, fusion, h, w) of this level
        fused: Tensor | None = None
        for index, fusion in enumerate(self.fusions, 1):
            finer = maps[-index - 1].shape[-2:] if self.follow_sizes and index < len(maps) else None
            fused = fusion(maps[-index], fused, finer)
        assert fused is not None
        return fused


class Reassemble(nn.Module):
    """Tokens to a map: Read, Concatenate, Resample (section 3.2, equations 1 to 6)."""

    def __init__(self, dim: int, width: int, factor: float, readout: Readout) -> None:
        super().__init__()
        self.add = readout == "add"
        self.readout = nn.Linear(2 * dim, dim) if readout == "project" else None
        self.projection = nn.Conv2d(dim, width, 1)
        self.resize: nn.Module = nn.Identity()
        if factor > 1:
            self.resize = nn.ConvTranspose2d(width, width, int(factor), stride=int(factor))
        elif factor < 1:
            self.resize = nn.Conv2d(width, width, 3, stride=int(1 / factor), padding=1)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, prefix + h * w, dim), ``grid`` = (h, w) -> (B, width, factor * h, factor * w), halves rounded up."""
        height, width = grid
        patches = tokens[:, -height * width :]
        if self.add:
            patches = patches + tokens[:, :1]
        if self.readout is not None:
            # A linear map of patch and class token side by side is the sum of one of each.
            of_patch, of_class = self.readout.weight.chunk(2, 1)
            shared = F.linear(tokens[:, :1], of_class, self.readout.bias)  # (B, 1, dim)
            patches = F.gelu(F.linear(patches, of_patch) + shared)
        out: Tensor = self.resize(self.projection(patches.transpose(1, 2).unflatten(-1, grid)))
        return out


class Fusion(nn.Module):
    """Joins the fused coarser maps and the next finer map, and enlarges the result (figure 1, right)."""

    def __init__(self, config: NeckConfig, *, first: bool) -> None:
        super().__init__()
        self.side = None if first else ResidualUnit(config)
        self.main = ResidualUnit(config)
        self.projection = nn.Conv2d(config.fusion, config.fusion, 1)

    def forward(self, features: Tensor, fused: Tensor | None, size: tuple[int, int] | None) -> Tensor:
        """``features`` (B, fusion, h, w) of a level and ``fused``, None for the first -> (B, fusion, *size).

        ``size`` None means twice that of ``fused``, or of ``features`` for the first.
        """
        if self.side is not None and fused is not None:
            if features.shape != fused.shape:
                features = F.interpolate(features, fused.shape[-2:], mode="bilinear", align_corners=False)
            features = fused + self.side(features)
        # A 1x1 convolution and a resize commute, as the weights of a resize sum up to one: the smaller map is cheaper.
        projected = self.projection(self.main(features))
        height, width = projected.shape[-2:]
        return F.interpolate(projected, size or (2 * height, 2 * width), mode="bilinear", align_corners=True)


class ResidualUnit(nn.Module):
    """Two convolutions, each on activated input, added to the input (He et al. 2016b, pre-activation)."""

    def __init__(self, config: NeckConfig) -> None:
        super().__init__()
        self.first, self.second = _convolution(config), _convolution(config)

    def forward(self, features: Tensor) -> Tensor:
        """(B, fusion, h, w) -> the same shape."""
        out: Tensor = features + self.second(F.relu(self.first(F.relu(features))))
        return out


def _convolution(config: NeckConfig) -> nn.Sequential:
    convolution = nn.Conv2d(config.fusion, config.fusion, 3, padding=1, bias=config.bias)
    return nn.Sequential(convolution, *([nn.BatchNorm2d(config.fusion)] if config.batch_norm else []))


class ClassHead(nn.Sequential):
    """Classes from the fused map (appendix A, semantic segmentation): (B, fusion, h, w) -> (B, num_labels, h, w)."""

    def __init__(self, fusion: int, num_labels: int, dropout: float) -> None:
        super().__init__(
            nn.Conv2d(fusion, fusion, 3, padding=1, bias=False),
            nn.BatchNorm2d(fusion),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Conv2d(fusion, num_labels, 1),
        )


class DepthHead(nn.Module):
    """Depth from the fused map in three convolutions (appendix A, monocular depth estimation).

    ``projection``: one more convolution before them. ``max_depth``: depth goes from 0 to this through a sigmoid; None:
    it is any number from 0 up.
    """

    def __init__(
        self, fusion: int, hidden: int = 32, *, projection: bool = False, max_depth: float | None = None
    ) -> None:
        super().__init__()
        self.max_depth = max_depth
        self.projection = nn.Conv2d(fusion, fusion, 3, padding=1) if projection else None
        self.reduce = nn.Conv2d(fusion, fusion // 2, 3, padding=1)
        self.smooth = nn.Conv2d(fusion // 2, hidden, 3, padding=1)
        self.predict = nn.Conv2d(hidden, 1, 1)

    def forward(self, features: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """(B, fusion, h, w) -> depth (B, *size); ``size`` None means (2 h, 2 w)."""
        if self.projection is not None:
            features = F.relu(self.projection(features))
        height, width = features.shape[-2:]
        enlarged = F.interpolate(
            self.reduce(features), size or (2 * height, 2 * width), mode="bilinear", align_corners=True
        )
        depth: Tensor = self.predict(F.relu(self.smooth(enlarged))).squeeze(1)
        return depth.relu() if self.max_depth is None else self.max_depth * depth.sigmoid()


def without_padding(maps: Tensor, image: tuple[int, int], padded: tuple[int, int]) -> Tensor:
    """Of ``maps`` (..., h, w) over an image that was padded at the bottom and right the part on the image, rounded up.

    ``image`` and ``padded`` are (height, width) before and after padding; equal ones change nothing.
    """
    height, width = (
        -(-side * inner // outer) for side, inner, outer in zip(maps.shape[-2:], image, padded, strict=True)
    )
    return maps[..., :height, :width]
