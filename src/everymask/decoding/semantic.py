"""Semantic decoding: the class of every pixel, from queries or from a network that scores pixels."""

import numpy as np
import torch
from torch import Tensor

from everymask.decoding.class_map import best_classes, leaders, segment_classes
from everymask.decoding.resizing import ROUNDING, Grid
from everymask.geometry import Size
from everymask.labels import LabelSet
from everymask.segmentation import Segmentation


def decode_semantic(
    probabilities: Tensor, mask_logits: Tensor, grid: Grid, size: Size, labels: LabelSet
) -> Segmentation:
    """Reads ``probabilities`` (Q, C + 1) and ``mask_logits`` (Q, h, w), float32, as a semantic segmentation.

    Every pixel gets the class with the largest sum, over the queries, of class probability times mask probability
    (MaskFormer, section 3.4: semantic inference). One segment for each class that is present, by falling area; they
    have no score.
    """
    class_map = np.empty(size, np.int32)
    weights = probabilities[:, :-1].T.contiguous()  # (C, Q)
    for band in grid.bands(2 * weights.shape[1]):
        class_map[band.rows.pixels] = band.to_image(_classify(weights, mask_logits, band))
    return segment_classes(class_map, labels)


def decode_pixels(logits: Tensor, grid: Grid, size: Size, labels: LabelSet) -> Segmentation:
    """Reads ``logits`` (C, h, w), float32, as a semantic segmentation: every pixel gets the class with the largest."""
    class_map = np.empty(size, np.int32)
    leading = leaders(logits)
    for band in grid.bands(1):
        class_map[band.rows.pixels] = band.to_image(best_classes(logits, leading, band))
    return segment_classes(class_map, labels)


def class_scores(class_logits: Tensor, mask_logits: Tensor) -> Tensor:
    """The class scores of queries at the masks' own resolution: (B, Q, C + 1), (B, Q, h, w) -> (B, C, h, w).

    What is left to do is then that of a network that scores pixels. This is how ViT-Adapter's authors (and
    mmsegmentation) read queries; ``decode_semantic`` resizes the masks first.
    """
    probabilities = class_logits.float().softmax(-1)[..., :-1]
    scores: Tensor = torch.einsum("bqc,bqhw->bchw", probabilities, mask_logits.float().sigmoid())
    return scores


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
