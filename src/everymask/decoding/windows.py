"""Semantic decoding of an image that went through the network in several windows.

The class scores of the windows are averaged at the resized image's pixels, then resized to the original image, as
EoMT's authors and transformers do. Both happen in bands of rows, so that no map of all classes, or all queries, ever
exists whole.
"""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from everymask.decoding.resizing import ROUNDING, Grid, make_grid
from everymask.decoding.semantic import segment_classes
from everymask.geometry import Geometry, Size
from everymask.labels import LabelSet
from everymask.segmentation import Segmentation


def decode_semantic_windows(
    probabilities: Tensor, mask_logits: Tensor, geometry: Geometry, labels: LabelSet
) -> Segmentation:
    """Reads ``probabilities`` (n, Q, C + 1) and ``mask_logits`` (n, Q, h, w), float32, as a semantic segmentation.

    A class's score at a pixel of a window is the sum over its queries of class probability times mask probability;
    where windows overlap it is the mean over them. Every pixel of the original image gets the class with the largest
    score, interpolated between the four pixels of the resized image around it.
    """
    weights = probabilities[..., :-1].mT.contiguous()  # (n, C, Q)
    class_map = np.empty(geometry.original, np.int32)
    grid = make_grid(
        Geometry(geometry.original, geometry.resized, geometry.resized), geometry.resized, mask_logits.device
    )
    # A band works on the scores of all classes and the masks of all queries, at all pixels that its cells lie between.
    pixels = -(-geometry.resized.height * geometry.resized.width // (len(grid.rows) * len(grid.columns)))
    for band in grid.bands((weights.shape[1] + weights.shape[2]) * pixels):
        first, last = int(band.rows.low.min()), int(band.rows.high.max())
        scores = average_windows(weights, mask_logits, geometry, first, last + 1)
        rows = replace(band.rows, low=band.rows.low - first, high=band.rows.high - first)
        class_map[band.rows.pixels] = band.to_image(_classify(scores, Grid(rows, band.columns)))
    return segment_classes(class_map, labels)


def average_windows(weights: Tensor, mask_logits: Tensor, geometry: Geometry, start: int, stop: int) -> Tensor:
    """The mean class scores of the windows at the rows start <= y < stop of the resized image: (C, stop - start, W).

    ``weights`` (n, C, Q) are the class probabilities of the windows' queries, ``mask_logits`` (n, Q, h, w) their masks.
    """
    resized, window = geometry.resized, geometry.padded
    scores = mask_logits.new_zeros(weights.shape[1], stop - start, resized.width)
    count = mask_logits.new_zeros(stop - start, resized.width)
    for weight, logits, (top, left) in zip(weights, mask_logits, geometry.windows, strict=True):
        upper, lower = max(start, top), min(stop, top + window.height)
        if upper >= lower:
            continue
        right = min(left + window.width, resized.width)
        masks = _resize_rows(logits, window, upper - top, lower - top)[..., : right - left].sigmoid_()
        scores[:, upper - start : lower - start, left:right] += torch.tensordot(weight, masks, 1)
        count[upper - start : lower - start, left:right] += 1
    return scores.div_(count)


def _resize_rows(logits: Tensor, window: Size, start: int, stop: int) -> Tensor:
    """Some rows of a window, resized bilinearly (half-pixel centres): logits (Q, h, w) -> (Q, stop - start, width)."""
    height = logits.shape[1]
    places = torch.arange(start, stop, device=logits.device)
    position = ((2 * places + 1) * height / (2 * window.height) - 0.5).clamp(min=0)
    low = position.long()
    weight = (position - low)[:, None]  # (rows, 1)
    rows = torch.lerp(logits[:, low], logits[:, (low + 1).clamp(max=height - 1)], weight)  # (Q, rows, w)
    return F.interpolate(rows[None], size=(stop - start, window.width), mode="bilinear", align_corners=False)[0]


def _classify(scores: Tensor, band: Grid) -> Tensor:
    """The class of every slot of a band, (R, S, C, P) int32, by scores (classes, h, w) of the rows it lies in."""
    smallest, largest = band.bounds(scores)  # (classes, R, C)
    may_win = largest * ROUNDING >= smallest.amax(0)
    rivals = may_win.sum(0)  # (R, C)
    # Right where there is one rival: (R, S, C, P)
    best: Tensor = largest.max(0).indices.int()  # (R, C)
    classes = best[:, None, :, None].repeat(1, band.rows.slots, 1, band.columns.slots)
    for cells in band.pieces(rivals > 1, len(scores)):
        rival = may_win[:, cells.rows, cells.columns].any(1).nonzero()  # (K, 1), in any of these cells
        resized = band.resize_cells(scores, rival, cells)  # (K, S, P, G)
        best = rival[resized.max(0).indices, 0]  # (S, P, G)
        classes[cells.rows, cells.slots, cells.columns] = best.int().permute(2, 0, 1)  # (G, S, P)
    return classes
