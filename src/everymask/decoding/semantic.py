"""Semantic decoding: the class of every pixel, from queries or from a network that scores pixels."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from everymask.decoding import dense
from everymask.decoding.class_map import best_classes, leaders, segment_classes, settled_cells
from everymask.decoding.class_map_native import best_classes_natively
from everymask.decoding.queries_native import classify_natively
from everymask.decoding.resizing import ROUNDING, Grid
from everymask.geometry import Size
from everymask.labels import LabelSet
from everymask.segmentation import Segmentation

# With fewer pixels in a cell, or fewer settled cells, looking at every pixel is quicker than asking which to look at.
_FEW_PIXELS = 4
_MANY_CELLS = 0.7


def decode_semantic(
    probabilities: Tensor, mask_logits: Tensor, grid: Grid, size: Size, labels: LabelSet
) -> Segmentation:
    """Reads ``probabilities`` (Q, C + 1) and ``mask_logits`` (Q, h, w), float32, as a semantic segmentation.

    Every pixel gets the class with the largest sum, over the queries, of class probability times mask probability
    (MaskFormer, section 3.4: semantic inference). One segment for each class that is present, by falling area; they
    have no score.
    """
    weights = probabilities[:, :-1].T.contiguous()  # (C, Q)
    if mask_logits.device.type != "cpu":
        found = dense.to_host(dense.classify(mask_logits, grid, size, weights))
        return segment_classes(found.id_map.astype(np.int32), labels, found.regions)
    class_map = classify_natively(mask_logits, weights, grid)
    return segment_classes(
        _best_of_queries(weights, mask_logits, grid, size) if class_map is None else class_map, labels
    )


def decode_pixels(logits: Tensor, grid: Grid, size: Size, labels: LabelSet) -> Segmentation:
    """Reads ``logits`` (C, h, w), float32, as a semantic segmentation: every pixel gets the class with the largest."""
    if logits.device.type != "cpu":
        found = dense.to_host(dense.classify(logits, grid, size))
        return segment_classes(found.id_map.astype(np.int32), labels, found.regions)
    return segment_classes(_best_of_pixels(logits, grid, size), labels)


def _best_of_pixels(logits: Tensor, grid: Grid, size: Size) -> NDArray[np.int32]:
    """The class of every pixel (H, W): from the bounds of cells where they settle many pixels, else pixel by pixel."""
    if len(grid.rows) * len(grid.columns) * _FEW_PIXELS > math.prod(size):
        found = best_classes_natively(logits, grid)
        if found is not None:
            return found
    class_map = np.empty(size, np.int32)
    leading = leaders(logits)
    for band in grid.bands(1):
        part = None
        if settled_cells(leading, band)[1].float().mean() < _MANY_CELLS:
            part = best_classes_natively(logits, band)
        class_map[band.rows.pixels] = band.to_image(best_classes(logits, leading, band)) if part is None else part
    return class_map


def class_scores(class_logits: Tensor, mask_logits: Tensor) -> Tensor:
    """The class scores of queries at the masks' own resolution: (B, Q, C + 1), (B, Q, h, w) -> (B, C, h, w).

    What is left to do is then that of a network that scores pixels. This is how ViT-Adapter's authors (and
    mmsegmentation) read queries; ``decode_semantic`` resizes the masks first.
    """
    probabilities = class_logits.float().softmax(-1)[..., :-1]
    scores: Tensor = torch.einsum("bqc,bqhw->bchw", probabilities, mask_logits.float().sigmoid())
    return scores


def _best_of_queries(weights: Tensor, logits: Tensor, grid: Grid, size: Size) -> NDArray[np.int32]:
    """What ``classify_natively`` finds, by torch alone."""
    class_map = np.empty(size, np.int32)
    for band in grid.bands(2 * weights.shape[1]):
        class_map[band.rows.pixels] = band.to_image(_classify(weights, logits, band))
    return class_map


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
