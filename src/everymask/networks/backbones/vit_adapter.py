"""ViT-Adapter (Chen et al. 2023) on BEiT: convolutional features that a plain vision transformer reads and refines."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from everymask.networks.backbones.beit import Beit, BeitConfig
from everymask.networks.layers.conv_norm import ConvNorm
from everymask.networks.layers.deformable_attention import DeformableAttention, Pyramid
from everymask.networks.layers.recompute import recomputed

STRIDES = (8, 16, 32)  # of the prior's maps that take part in attention; the one of stride 4 does not


@dataclass(frozen=True, slots=True)
class ViTAdapterConfig:
    """The sizes of an adapter beside the transformer ``vit``, which has patches of 16 pixels.

    ``interactions``: how many of the transformer's blocks each of the four interactions runs. ``prior``: channels of
    the convolutional stem. ``heads``, ``points`` and ``value_dim``: of the adapter's deformable attention.
    ``feed_forward``: the hidden units of its feed-forward blocks. ``extra_extractors``: how many more the last
    interaction has. ``attention_residual``: whether attention adds the normed query that it was asked with. The paper's
    has no such term; ModelScope's code has it. Weights of either kind fit both, and work in one.
    """

    vit: BeitConfig
    interactions: tuple[int, int, int, int]
    prior: int
    heads: int
    points: int
    value_dim: int
    feed_forward: int
    extra_extractors: int
    attention_residual: bool


class ViTAdapter(nn.Module):
    """The backbone: maps of the transformer's width at strides 4, 8, 16 and 32 (figure 4).

    In training the interactions are computed a second time for the backward pass instead of being remembered: the bias
    of one of BEiT-L's attentions alone takes 630 MB for 56 x 56 patches.
    """

    def __init__(self, config: ViTAdapterConfig) -> None:
        super().__init__()
        dim = config.vit.dim
        self.widths = (dim,) * 4
        self.vit = Beit(config.vit)
        self.prior = SpatialPrior(config)
        self.level_embed = nn.Parameter(torch.randn(len(STRIDES), dim))
        self.interactions = nn.ModuleList(
            Interaction(config, blocks, config.extra_extractors if index == 3 else 0)
            for index, blocks in enumerate(config.interactions)
        )
        self.enlarge = nn.ConvTranspose2d(dim, dim, 2, stride=2)
        self.norms = nn.ModuleList(nn.BatchNorm2d(dim) for _ in range(4))

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W), both sides multiples of 32 -> four maps (B, dim, H / s, W / s) for s = 4, 8, 16, 32."""
        tokens, patches = self.vit.embed(pixel_values)  # (B, 1 + h w, dim)
        finest, *maps = self.prior(pixel_values)
        grids = Grids.of(patches, tokens.device)
        prior = torch.cat(
            [each.flatten(2).transpose(1, 2) + embed for each, embed in zip(maps, self.level_embed, strict=True)], 1
        )  # (B, S, dim), S = 21 h w / 4
        blocks = iter(self.vit.blocks)
        from_vit = []
        for interaction in self.interactions:
            assert isinstance(interaction, Interaction)
            tokens, prior = interaction(tokens, prior, [next(blocks) for _ in range(interaction.blocks)], grids)
            from_vit.append(tokens[:, 1:].transpose(1, 2).unflatten(-1, patches))

        maps = grids.split(prior)
        maps = [self.enlarge(maps[0]) + finest, *maps]
        # Each level gets the patches as they were after another interaction.
        return tuple(
            norm(each + F.interpolate(patch_map, size=each.shape[-2:], mode="bilinear", align_corners=False))
            for norm, each, patch_map in zip(self.norms, maps, from_vit, strict=True)
        )


class Grids(NamedTuple):
    """Where the tokens lie: h x w patches, and the prior's maps of ``sizes`` at strides 8, 16 and 32.

    ``injection``: the patches read the prior; ``extraction``: the prior reads the patches.
    """

    patches: tuple[int, int]
    sizes: tuple[tuple[int, int], ...]
    injection: Pyramid
    extraction: Pyramid

    @classmethod
    def of(cls, patches: tuple[int, int], device: torch.device) -> "Grids":
        """For h x w ``patches``, both even."""
        height, width = patches
        sizes = tuple((height * 16 // stride, width * 16 // stride) for stride in STRIDES)
        return cls(
            patches, sizes, Pyramid.of(sizes, device, queries=[patches]), Pyramid.of([patches], device, queries=sizes)
        )

    def split(self, prior: Tensor) -> list[Tensor]:
        """The maps (B, dim, h, w) of the prior's tokens (B, S, dim)."""
        parts = prior.split([height * width for height, width in self.sizes], dim=1)
        return [part.transpose(1, 2).unflatten(-1, size) for part, size in zip(parts, self.sizes, strict=True)]


class SpatialPrior(nn.Module):
    """The spatial prior module (section 3.2): a convolutional stem and three more convolutions, each of stride 2."""

    def __init__(self, config: ViTAdapterConfig) -> None:
        super().__init__()
        width = config.prior
        self.stem = nn.Sequential(
            ConvNorm(config.vit.channels, width, 3, 2),
            ConvNorm(width, width, 3),
            ConvNorm(width, width, 3),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.reductions = nn.ModuleList(
            ConvNorm(inputs, outputs, 3, 2)
            for inputs, outputs in ((width, 2 * width), (2 * width, 4 * width), (4 * width, 4 * width))
        )
        self.projections = nn.ModuleList(
            nn.Conv2d(inputs, config.vit.dim, 1) for inputs in (width, 2 * width, 4 * width, 4 * width)
        )

    def forward(self, pixel_values: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> maps (B, dim, H / s, W / s) for s = 4, 8, 16, 32."""
        maps = [self.stem(pixel_values)]
        for reduce in self.reductions:
            maps.append(reduce(maps[-1]))
        return [project(each) for project, each in zip(self.projections, maps, strict=True)]


class Interaction(nn.Module):
    """Prior into patches, some blocks of the transformer, patches into prior (section 3.3)."""

    def __init__(self, config: ViTAdapterConfig, blocks: int, extra_extractors: int) -> None:
        super().__init__()
        self.blocks = blocks
        self.injector = Injector(config)
        self.extractors = nn.ModuleList(Extractor(config) for _ in range(1 + extra_extractors))

    def forward(
        self, tokens: Tensor, prior: Tensor, blocks: Iterable[nn.Module], grids: Grids
    ) -> tuple[Tensor, Tensor]:
        """``tokens`` (B, 1 + h w, dim) of class and patches, ``prior`` (B, S, dim) -> both, refined."""
        patches = recomputed(self.injector, tokens[:, 1:], prior, grids)
        tokens = torch.cat((tokens[:, :1], patches), 1)
        for block in blocks:
            tokens = recomputed(block, tokens, grids.patches)
        for extractor in self.extractors:
            prior = recomputed(extractor, prior, tokens[:, 1:], grids)
        return tokens, prior


class CrossAttention(nn.Module):
    """Deformable attention from one set of tokens to another, both normed."""

    def __init__(self, config: ViTAdapterConfig, levels: int) -> None:
        super().__init__()
        dim = config.vit.dim
        self.residual = config.attention_residual
        self.query_norm = nn.LayerNorm(dim, eps=config.vit.norm_eps)
        self.token_norm = nn.LayerNorm(dim, eps=config.vit.norm_eps)
        self.attention = DeformableAttention(dim, config.heads, levels, config.points, value_dim=config.value_dim)

    def attend(self, queries: Tensor, tokens: Tensor, pyramid: Pyramid) -> Tensor:
        """``queries`` (B, Q, dim) read ``tokens`` (B, S, dim) -> what is to be added to the queries, (B, Q, dim)."""
        normed = self.query_norm(queries)
        attended: Tensor = self.attention(normed, self.token_norm(tokens), pyramid)
        return attended + normed if self.residual else attended


class Injector(CrossAttention):
    """The spatial feature injector (equation 1): the patches read the prior; what they read is scaled by channel."""

    def __init__(self, config: ViTAdapterConfig) -> None:
        super().__init__(config, levels=len(STRIDES))
        self.scale = nn.Parameter(torch.full((config.vit.dim,), config.vit.layer_scale))

    def forward(self, patches: Tensor, prior: Tensor, grids: Grids) -> Tensor:
        """``patches`` (B, h w, dim), ``prior`` (B, S, dim) -> (B, h w, dim)."""
        return patches + self.scale * self.attend(patches, prior, grids.injection)


class Extractor(CrossAttention):
    """The multi-scale feature extractor (equations 2 and 3): the prior reads the patches, then is refined itself."""

    def __init__(self, config: ViTAdapterConfig) -> None:
        super().__init__(config, levels=1)
        self.feed_forward_norm = nn.LayerNorm(config.vit.dim, eps=config.vit.norm_eps)
        self.feed_forward = ConvFeedForward(config.vit.dim, config.feed_forward)

    def forward(self, prior: Tensor, patches: Tensor, grids: Grids) -> Tensor:
        """``prior`` (B, S, dim), ``patches`` (B, h w, dim) -> (B, S, dim)."""
        prior = prior + self.attend(prior, patches, grids.extraction)
        out: Tensor = prior + self.feed_forward(self.feed_forward_norm(prior), grids)
        return out


class ConvFeedForward(nn.Module):
    """A feed-forward block whose hidden units see their neighbours: one 3 x 3 convolution by channel on every map."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.expand = nn.Linear(dim, hidden)
        self.smooth = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.activation = nn.GELU()
        self.contract = nn.Linear(hidden, dim)

    def forward(self, prior: Tensor, grids: Grids) -> Tensor:
        """(B, S, dim) -> (B, S, dim)."""
        smoothed = [self.smooth(each).flatten(2).transpose(1, 2) for each in grids.split(self.expand(prior))]
        out: Tensor = self.contract(self.activation(torch.cat(smoothed, 1)))
        return out
