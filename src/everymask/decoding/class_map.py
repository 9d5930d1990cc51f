"""A map of classes: the best class of every pixel, and the segmentation that such a map stands for."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from everymask.decoding.regions import find_regions, relabel
from everymask.decoding.resizing import Grid
from everymask.geometry import Size
from everymask.labels import LabelSet
from everymask.segmentation import Region, Segment, Segmentation

# Part of the largest score: float rounding of a resize is far less, so what is ruled out by more could never win.
_MARGIN = 1e-5


def best_classes(scores: Tensor, band: Grid) -> Tensor:
    """The class with the largest score at every slot of a band: scores (classes, h, w) -> (R, S, C, P) int32.

    A class can win somewhere in a cell only if its largest corner reaches the largest of all smallest corners. That
    leaves most cells one class, and the others a few, which alone are resized. Of equal scores the first class wins.
    """
    smallest, largest = band.bounds(scores)  # (classes, R, C)
    margin = _MARGIN * scores.abs().amax()
    rivals = (largest >= smallest.amax(0) - margin).sum(0)  # (R, C)
    # Right where there is one rival: (R, S, C, P)
    best: Tensor = largest.max(0).indices.int()  # (R, C)
    classes = best[:, None, :, None].repeat(1, band.rows.slots, 1, band.columns.slots)
    fewest, most = 1, 2
    while fewest < len(scores):
        most = min(most, len(scores))
        for cells in band.pieces((rivals > fewest) & (rivals <= most), most):
            # The rivals of a cell are those of its classes with the largest corners: (K, G), first class first
            rival = largest[:, cells.rows, cells.columns].topk(most, 0).indices.sort(0).values
            place = band.resize_cells(scores, rival, cells).max(0).indices  # (S, P, G)
            winner = rival[place, torch.arange(rival.shape[1], device=rival.device)]
            classes[cells.rows, cells.slots, cells.columns] = winner.int().permute(2, 0, 1)  # (G, S, P)
        fewest, most = most, 2 * most
    return classes


def segment_classes(class_map: NDArray[np.int32], labels: LabelSet) -> Segmentation:
    """The segmentation that a map of class indices (H, W) stands for, which it overwrites with the segments' ids."""
    regions = find_regions(class_map, len(labels))
    present = [label_id for label_id in np.argsort(-regions.area, kind="stable").tolist() if regions.area[label_id]]
    new_ids = np.zeros(len(labels), np.int32)
    new_ids[present] = range(1, len(present) + 1)
    relabel(class_map, new_ids)
    segments = tuple(
        Segment(
            id=id,
            label=labels.names[label_id],
            label_id=label_id,
            score=None,
            area=int(regions.area[label_id]),
            box=regions.box([label_id]),
            is_thing=labels.things[label_id],
            pixels=Region(class_map, id),
        )
        for id, label_id in enumerate(present, start=1)
    )
    return Segmentation("semantic", Size(*class_map.shape), segments, class_map, labels)
