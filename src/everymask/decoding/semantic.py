"""Semantic decoding: the class of every pixel (MaskFormer, section 3.4: semantic inference)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from everymask.decoding.regions import find_regions, relabel
from everymask.decoding.resizing import ROUNDING, Grid
from everymask.geometry import Size
from everymask.labels import LabelSet
from everymask.segmentation import Region, Segment, Segmentation


def decode_semantic(
    probabilities: Tensor, mask_logits: Tensor, grid: Grid, size: Size, labels: LabelSet
) -> Segmentation:
    """Reads ``probabilities`` (Q, C + 1) and ``mask_logits`` (Q, h, w), float32, as a semantic segmentation.

    Every pixel gets the class with the largest sum, over the queries, of class probability times mask probability.
    One segment for each class that is present, by falling area; they have no score.
    """
    class_map = np.empty(size, np.int32)
    weights = probabilities[:, :-1].T.contiguous()  # (C, Q)
    for band in grid.bands(2 * weights.shape[1]):
        class_map[band.rows.pixels] = band.to_image(_classify(weights, mask_logits, band))
    return segment_classes(class_map, labels)


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


def _classify(weights: Tensor, logits: Tensor, band: Grid) -> Tensor:
    """The class of every slot of a band, (R, S, C, P) int32, by class weights (classes, Q) and logits (Q, h, w)."""
    smallest, largest = band.bounds(logits)  # (Q, R, C)
    lowest = torch.tensordot(weights, smallest.sigmoid_(), 1)  # (classes, R, C): bounds of each class's sum in a cell
    highest = torch.tensordot(weights, largest.sigmoid_(), 1)
    may_win = highest * ROUNDING >= lowest.amax(0)
    rivals = may_win.sum(0)  # (R, C)
    # Right where there is one rival: (R, S, C, P)
    best: Tensor = highest.max(0).indices.int()  # (R, C)
    classes = best[:, None, :, None].repeat(1, band.rows.slots, 1, band.columns.slots)
    queries = torch.arange(len(logits), device=logits.device)[:, None]
    for cells in band.pieces(rivals > 1, len(logits)):
        rival = may_win[:, cells.rows, cells.columns].any(1).nonzero()[:, 0]  # in any of these cells
        masks = band.resize_cells(logits, queries, cells).sigmoid_()  # (Q, S, P, G)
        best = torch.tensordot(weights[rival], masks, 1).max(0).indices  # (S, P, G)
        classes[cells.rows, cells.slots, cells.columns] = rival[best].int().permute(2, 0, 1)  # (G, S, P)
    return classes
