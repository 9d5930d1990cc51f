"""Boxes of segments, and how badly predicted ones fit them (DETR, section 3.1 and appendix A.2)."""

import torch
from torch import Tensor

from everymask.training.targets import Targets


def boxes_of(targets: Targets) -> Tensor:
    """The tight box of every segment: (N, 4) float32, centre x, centre y, width and height, in 0..1 of the image.

    As in DETR's panoptic training a box reaches from its first to its last pixel's index: one of n columns is n - 1
    pixels wide. A segment without pixels has a box of zeros.
    """
    height, width = targets.id_map.shape
    rows, columns = (targets.id_map >= 0).nonzero(as_tuple=True)  # (P,) each
    segments = targets.id_map[rows, columns]
    nothing = torch.zeros(len(targets.labels), dtype=rows.dtype, device=rows.device)
    left, right = (nothing.scatter_reduce(0, segments, columns, way, include_self=False) for way in ("amin", "amax"))
    top, bottom = (nothing.scatter_reduce(0, segments, rows, way, include_self=False) for way in ("amin", "amax"))
    boxes = torch.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], 1)
    return boxes / boxes.new_tensor([width, height, width, height])


def box_costs(boxes: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """L1 distance and 1 - GIoU of each box (Q, 4) to each wanted one (N, 4), all like those of ``boxes_of``: (Q, N)."""
    return torch.cdist(boxes, wanted, p=1), 1 - _generalized_iou(_corners(boxes)[:, None], _corners(wanted)[None])


def box_losses(boxes: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """L1 distance and 1 - GIoU of each box (M, 4) to the wanted one in its place (M, 4): two sums, scalars."""
    distance = (boxes - wanted).abs().sum()
    return distance, (1 - _generalized_iou(_corners(boxes), _corners(wanted))).sum()


def _corners(boxes: Tensor) -> Tensor:
    """Centre and size to left, top, right and bottom, (..., 4) both."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat((centre - half, centre + half), -1)


def _generalized_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Of corners (..., 4), broadcast against each other, -1..1: (...) (Rezatofighi et al. 2019, algorithm 1)."""
    area, other_area = (_area(each[..., 2:] - each[..., :2]) for each in (boxes, others))
    left_top = torch.maximum(boxes[..., :2], others[..., :2])
    right_bottom = torch.minimum(boxes[..., 2:], others[..., 2:])
    overlap = _area((right_bottom - left_top).clamp(min=0))
    union = area + other_area - overlap
    around = torch.maximum(boxes[..., 2:], others[..., 2:]) - torch.minimum(boxes[..., :2], others[..., :2])
    hull = _area(around)
    return overlap / union - (hull - union) / hull


def _area(sides: Tensor) -> Tensor:
    return sides[..., 0] * sides[..., 1]
