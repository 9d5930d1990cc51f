"""The bilinear resize pixel by pixel, for those who look at every pixel rather than at cells."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from everymask.decoding.resizing import Axis


@dataclass(frozen=True, slots=True)
class Taps:
    """What each of n pixels of an axis is made of: (1 - weight) * logits[low] + weight * logits[high]; each (n,)."""

    low: Tensor
    high: Tensor
    weight: Tensor

    @classmethod
    def of(cls, axis: Axis) -> "Taps":
        device = axis.low.device
        cells = torch.from_numpy(np.repeat(np.arange(len(axis)), np.diff(axis.first))).to(device)
        places = torch.from_numpy(axis.places).to(device)
        return cls(axis.low[cells], axis.high[cells], axis.weight.flatten()[places])

    def __getitem__(self, pixels: slice) -> "Taps":
        return Taps(self.low[pixels], self.high[pixels], self.weight[pixels])
