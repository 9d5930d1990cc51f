"""What networks return."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class MaskQueries:
    """The output of mask classification: Q queries, each a class distribution and a mask.

    ``class_logits`` (B, Q, C + 1): scores before the softmax; the last entry is "no object".
    ``mask_logits`` (B, Q, h, w): masks before the sigmoid, over the whole padded input, at the network's own stride.
    ``auxiliary``: the predictions of the earlier decoder layers, first to last; filled in training mode only.
    """

    class_logits: Tensor
    mask_logits: Tensor
    auxiliary: tuple["MaskQueries", ...] = ()
