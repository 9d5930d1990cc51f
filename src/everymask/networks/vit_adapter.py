"""Mask2Former's head on ViT-Adapter (Chen et al. 2023), as its authors and ModelScope publish it."""

import torch.nn.functional as F
from torch import Tensor

from everymask.networks.backbones.vit_adapter import ViTAdapter
from everymask.networks.layers.inputs import check_pixel_values
from everymask.networks.mask2former import Mask2Former, Mask2FormerConfig
from everymask.networks.outputs import MaskQueries

STRIDE = 4  # of the masks
DIVISOR = 32  # of the sides that the adapter takes


class ViTAdapterMask2Former(Mask2Former):
    """Mask2Former on a ViT-Adapter.

    The published code takes nothing but windows of the trained size. Here any size will do: positions are interpolated
    (see ``RelativePositions``), sides that are no multiples of 32 padded.

    Memory in training: the forward and backward pass of the published network (BEiT-L) for one image of 896 x 896
    pixels took 9.3 GB on a CPU in float32, weights and gradients (2.3 GB each) included, an optimiser's state not.
    """

    def __init__(self, config: Mask2FormerConfig, backbone: ViTAdapter) -> None:
        super().__init__(config, backbone, backbone.widths)
        self.channels = backbone.vit.config.channels

    def forward(self, pixel_values: Tensor) -> MaskQueries:
        """(B, 3, H, W), normalised, any H and W >= 32 -> class logits (B, Q, C + 1), mask logits (B, Q, ~H/4, ~W/4).

        Where H and W are no multiples of 32, the image is padded with zeros at the bottom and right, and the masks are
        cropped again. In training mode the result carries the earlier predictions, too.
        """
        check_pixel_values(pixel_values, self.channels)
        height, width = pixel_values.shape[-2:]
        queries = super().forward(F.pad(pixel_values, (0, -width % DIVISOR, 0, -height % DIVISOR)))
        rows, columns = -(-height // STRIDE), -(-width // STRIDE)
        *auxiliary, last = (
            MaskQueries(each.class_logits, each.mask_logits[..., :rows, :columns])
            for each in (*queries.auxiliary, queries)
        )
        return MaskQueries(last.class_logits, last.mask_logits, tuple(auxiliary))
