"""What a set-prediction loss compares queries with."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Targets:
    """The N segments of one training image.

    ``labels`` (N,) int64: their classes. ``id_map`` (H, W) int64: for every pixel the index of its segment in
    ``labels``, or -1. Masks are never held one by one, so memory does not depend on N.
    """

    labels: Tensor
    id_map: Tensor

    def to(self, device: torch.device) -> "Targets":
        """The same targets on another device."""
        return Targets(self.labels.to(device), self.id_map.to(device))


def sample_masks(targets: Targets, segments: Tensor, points: Tensor) -> Tensor:
    """Reads segments' masks bilinearly at points.

    ``segments`` (M,) int64 are indices into ``targets.labels``; ``points`` (M, P, 2) or (1, P, 2) are (x, y) in 0..1
    over the image. Returns (M, P) float32: what bilinear sampling (``align_corners=False``, zeros outside) of each
    dense 0/1 mask would give.
    """
    height, width = targets.id_map.shape
    x, y = points[..., 0] * width - 0.5, points[..., 1] * height - 0.5
    left, top = x.floor(), y.floor()
    right_part, lower_part = x - left, y - top
    wanted = segments[:, None]  # (M, 1)
    sampled = torch.zeros(())
    for row, row_factor in ((top, 1 - lower_part), (top + 1, lower_part)):
        for column, column_factor in ((left, 1 - right_part), (left + 1, right_part)):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            index = row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
            ids = targets.id_map.flatten()[index].where(inside, -1)
            sampled = sampled + (ids == wanted) * (row_factor * column_factor)
    return sampled
