"""What a set-prediction loss compares queries with."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
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
    # A border of "no segment" stands for the zeros outside, so that every corner of every point can be read.
    bordered = F.pad(targets.id_map, (1, 1, 1, 1), value=-1).flatten()
    x, y = points[..., 0] * width + 0.5, points[..., 1] * height + 0.5  # in pixel centres of the bordered map
    left, top = x.floor(), y.floor()
    right_part, lower_part = x - left, y - top
    corner = top.long() * (width + 2) + left.long()
    wanted = segments[:, None]  # (M, 1)
    sampled = torch.zeros((), device=points.device)
    for step, factor in (
        (0, (1 - right_part) * (1 - lower_part)),
        (1, right_part * (1 - lower_part)),
        (width + 2, (1 - right_part) * lower_part),
        (width + 3, right_part * lower_part),
    ):
        sampled = sampled + (bordered[corner + step] == wanted) * factor
    return sampled
