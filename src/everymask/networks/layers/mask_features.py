"""What masks are made of: a map of features, and the projection that makes mask features of them."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True)
class MaskFeatures:
    """Mask features as a projection of ``features`` (B, dim, h, w) that is not carried out.

    ``weight`` (mask_dim, dim) and ``bias`` (mask_dim,) are the projection's. A mask is the product of a query's
    embedding with the mask features. A query has one embedding where a map has thousands of places, so the projection
    is applied to the former: q (W f + b) = (q W) f + q b.
    """

    features: Tensor
    weight: Tensor
    bias: Tensor

    def masks(self, embeddings: Tensor) -> Tensor:
        """Mask logits (B, Q, h, w) of queries' embeddings (B, Q, mask_dim)."""
        # Rows of pixels, not to be copied: with @ they would be in bfloat16, and flattened in the order of the map.
        pixels = self.features.permute(0, 2, 3, 1).flatten(1, 2).transpose(1, 2)  # (B, dim, h w)
        logits = torch.bmm(embeddings @ self.weight, pixels)
        logits += (embeddings @ self.bias)[..., None]
        return logits.view(*logits.shape[:2], *self.features.shape[-2:])

    def resized(self, size: tuple[int, int]) -> "MaskFeatures":
        """Those whose masks are the masks resized bilinearly, which is linear, too: once instead of for every query."""
        return replace(self, features=F.interpolate(self.features, size=size, mode="bilinear", align_corners=False))

    def projected(self) -> Tensor:
        """(B, mask_dim, h, w), for what reads them itself."""
        return F.conv2d(self.features, self.weight[..., None, None], self.bias)
