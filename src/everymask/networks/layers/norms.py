"""Layer norm and group norm, together with the sums that networks have beside them.

On a CPU without gradients a norm and its sum are one pass over memory in compiled C (``norms_native.c``). Everywhere
else they are torch's own operations, which a compiler or a tracer sees whole.
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from everymask.networks.layers.chunks import may_overwrite
from everymask.networks.layers.norms_native import add_and_norm, norm_map


class LayerNorm(nn.LayerNorm):
    """Layer norm over the last dimension (Ba et al. 2016), of tokens or of the sum of tokens and a residual branch."""

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., dim) -> the same shape."""
        done = add_and_norm(self, tokens) if may_overwrite(tokens) else None
        return super().forward(tokens) if done is None else done[1]

    def of_sum(self, tokens: Tensor, branch: Tensor, out: Tensor | None = None) -> Tensor:
        """The norm of ``tokens`` + ``branch``, each (..., dim).

        Written to ``out`` if that is given: a tensor like ``tokens``, and maybe ``tokens`` itself.
        """
        done = add_and_norm(self, tokens, branch, out=out) if may_overwrite(tokens) else None
        if done is not None:
            return done[1]
        normed: Tensor = self(tokens + branch)
        return normed if out is None else out.copy_(normed)

    def sum_and_norm(self, tokens: Tensor, branch: Tensor, scale: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``tokens`` + ``scale`` * ``branch``, and the norm of that: (..., dim) each, ``scale`` (dim,)."""
        done = add_and_norm(self, tokens, branch, scale, keep=True) if may_overwrite(tokens) else None
        if done is not None:
            return done
        tokens = tokens + (branch if scale is None else scale * branch)
        return tokens, self(tokens)


class GroupNorm(nn.GroupNorm):
    """Group norm (Wu and He 2018) of a map that its network has made, followed by ReLU if ``activate``."""

    def __init__(self, groups: int, channels: int, *, activate: bool = False) -> None:
        super().__init__(groups, channels)
        self.activate = activate

    def forward(
        self, features: Tensor, coarser: Tensor | None = None, mode: Literal["bilinear", "nearest"] = "bilinear"
    ) -> Tensor:
        """(B, dim, H, W) -> the same shape; ``features`` may be overwritten.

        ``coarser`` (B, dim, h, w) is enlarged by ``mode`` and added to what is normed.
        """
        if may_overwrite(features) and norm_map(self, features, coarser, mode, relu=self.activate):
            return features
        # In training with mixed precision: with weights of another type than the map's, torch takes thrice as long.
        normed = super().forward(features.to(self.weight.dtype)).to(features.dtype)
        if coarser is not None:
            corners = None if mode == "nearest" else False
            # In place, which no gradient minds: memory for maps of this size is slow to get.
            normed += F.interpolate(coarser, size=normed.shape[-2:], mode=mode, align_corners=corners)
        return F.relu(normed, inplace=True) if self.activate else normed
