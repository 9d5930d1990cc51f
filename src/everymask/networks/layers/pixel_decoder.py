"""The pixel decoder of Mask2Former (Cheng et al. 2022, section 3.2.1), which OneFormer shares."""

import torch
from torch import Tensor, nn

from everymask.networks.layers.chunks import may_overwrite, tokens_at_once
from everymask.networks.layers.deformable_attention import DeformableAttention, Pyramid
from everymask.networks.layers.feed_forward import FeedForward
from everymask.networks.layers.mask_features import MaskFeatures
from everymask.networks.layers.norms import GroupNorm, LayerNorm
from everymask.networks.layers.positions import sine_positions
from everymask.networks.layers.recompute import recomputed

LEVELS = 3  # strides 32, 16 and 8 take part in attention; stride 4 only carries the masks
POINTS = 4


class PixelDecoder(nn.Module):
    """Multi-scale deformable attention over strides 32, 16 and 8, then one FPN step to stride 4."""

    def __init__(
        self,
        widths: tuple[int, ...],
        dim: int,
        mask_dim: int,
        *,
        heads: int,
        layers: int,
        feed_forward: int,
        norm_groups: int = 32,
        recompute: bool = False,
    ) -> None:
        """``widths``: channels of the backbone's maps; ``dim`` of the refined maps, ``mask_dim`` of the mask features.

        ``feed_forward`` is the hidden width of the ``layers`` layers; group norms have ``norm_groups`` groups.
        ``recompute``: the layers take less memory in training, and more time.
        """
        super().__init__()
        self.recompute = recompute
        self.input_projections = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, dim, 1), GroupNorm(norm_groups, dim)) for width in widths[:-4:-1]
        )
        self.level_embed = nn.Parameter(torch.randn(LEVELS, dim))
        self.layers = nn.ModuleList(PixelDecoderLayer(dim, heads, feed_forward) for _ in range(layers))
        self.lateral = nn.Sequential(nn.Conv2d(widths[0], dim, 1, bias=False), GroupNorm(norm_groups, dim))
        self.fuse = nn.Sequential(
            nn.Conv2d(dim, dim, 3, padding=1, bias=False), GroupNorm(norm_groups, dim, activate=True)
        )
        self.mask_projection = nn.Conv2d(dim, mask_dim, 1)

    def forward(self, features: tuple[Tensor, ...]) -> tuple[list[Tensor], MaskFeatures]:
        """Backbone maps, finest first -> refined maps of strides 32, 16 and 8, and mask features at stride 4.

        The refined maps are (B, dim, h, w).
        """
        coarse = [each.contiguous(memory_format=torch.channels_last) for each in features[:-4:-1]]
        maps = [project(each) for each, project in zip(coarse, self.input_projections, strict=True)]
        sizes = [(int(each.shape[-2]), int(each.shape[-1])) for each in maps]
        tokens = torch.cat([each.flatten(2).transpose(1, 2) for each in maps], 1)  # (B, S, dim)
        positions = torch.cat(
            [
                sine_positions(*size, tokens.shape[-1], device=tokens.device, dtype=tokens.dtype) + embed
                for size, embed in zip(sizes, self.level_embed, strict=True)
            ]
        )  # (S, dim)
        pyramid = Pyramid.of(sizes, tokens.device)
        for layer in self.layers:
            inputs = (tokens, positions, pyramid)
            tokens = recomputed(layer, *inputs) if self.recompute else layer(*inputs)
        parts = tokens.split([height * width for height, width in sizes], dim=1)
        # Views with channels last, in which resizing and convolutions are quickest on a CPU.
        levels = [part.unflatten(1, size).permute(0, 3, 1, 2) for part, size in zip(parts, sizes, strict=True)]

        project, norm = self.lateral
        finest = norm(project(features[0].contiguous(memory_format=torch.channels_last)), coarser=levels[-1])
        projection = self.mask_projection
        assert projection.bias is not None
        return levels, MaskFeatures(self.fuse(finest), projection.weight.flatten(1), projection.bias)


class PixelDecoderLayer(nn.Module):
    """Deformable self-attention and a feed-forward block, each added and normed."""

    def __init__(self, dim: int, heads: int, feed_forward: int) -> None:
        super().__init__()
        self.hidden = feed_forward
        self.attention = DeformableAttention(dim, heads, LEVELS, POINTS)
        self.attention_norm = LayerNorm(dim)
        self.feed_forward = FeedForward(dim, feed_forward)
        self.feed_forward_norm = LayerNorm(dim)

    def forward(self, tokens: Tensor, positions: Tensor, pyramid: Pyramid) -> Tensor:
        """``tokens`` (B, S, dim) with ``positions`` (S, dim) -> the same shape; ``tokens`` may be overwritten."""
        read = self.attention.read(tokens + positions, tokens, pyramid)  # (B, S, dim)
        if not may_overwrite(tokens):
            return self._refine(tokens, read)
        # From here on, no token needs another one.
        at_once = tokens_at_once(self.hidden)
        for chunk, its_read in zip(tokens.flatten(0, 1).split(at_once), read.flatten(0, 1).split(at_once), strict=True):
            self._refine(chunk, its_read, out=chunk)
        return tokens

    def _refine(self, tokens: Tensor, read: Tensor, out: Tensor | None = None) -> Tensor:
        """``tokens`` (..., dim) and what they have ``read``, the same shape -> the same shape; in ``out`` if given."""
        tokens = self.attention_norm.of_sum(tokens, self.attention.output(read), out)
        return self.feed_forward_norm.of_sum(tokens, self.feed_forward(tokens), out)
