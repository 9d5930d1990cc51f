"""The loss of the semantic reading of queries: what ``decode_semantic`` takes the largest of, as class probabilities.

Set prediction alone learns slowly from few images. MaskFormer (section 3.4) reads classes as the sum over queries of
class probability times mask probability; here those sums learn from every pixel, beside the masks.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from everymask.networks.outputs import MaskQueries, PixelLogits
from everymask.training.pixel_loss import IGNORED, PixelLossConfig, pixel_loss
from everymask.training.targets import Targets

_SMALLEST = 1e-6  # of a sum whose logarithm is taken


def semantic_reading_loss(prediction: MaskQueries, targets: Sequence[Targets], config: PixelLossConfig) -> Tensor:
    """The per-pixel loss of the class sums, normalised over the classes, of the last layer: a scalar.

    ``targets``: those of the B images; pixels without a segment are ignored. ``config``: see ``pixel_loss``; no part is
    auxiliary here.
    """
    probabilities = prediction.class_logits.float().softmax(-1)[..., :-1]  # (B, Q, C)
    masks = prediction.mask_logits.float().sigmoid()  # (B, Q, h, w)
    sums = torch.einsum("bqc,bqhw->bchw", probabilities, masks)
    # Softmax over logarithms is division by the sum.
    logits = (sums + _SMALLEST).log()
    class_maps = torch.stack([class_map(each) for each in targets])
    return pixel_loss(PixelLogits(logits), class_maps, config).total(config)


def class_map(targets: Targets) -> Tensor:
    """The class of every pixel, (H, W) int64, -1 where no segment is."""
    # The id -1 reads the last entry.
    classes = torch.cat((targets.labels, targets.labels.new_tensor([IGNORED])))
    return classes[targets.id_map]
