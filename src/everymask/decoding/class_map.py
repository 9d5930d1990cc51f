"""A map of classes: the best class of every pixel, and the segmentation that such a map stands for."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from everymask.decoding.regions import Regions, find_regions, relabel
from everymask.decoding.resizing import Cells, Grid
from everymask.geometry import Size
from everymask.labels import LabelSet
from everymask.segmentation import Region, Segment, Segmentation

# Part of the largest score: float rounding of a resize is far less, so what is ruled out by more could never win.
_MARGIN = 1e-5


@dataclass(frozen=True, slots=True)
class Leaders:
    """The leading class of every place of a map of scores (classes, h, w): ``which`` (h, w) int16.

    ``first`` and ``second`` (h, w): the largest score and the one after it. ``margin``: what float rounding may do.
    """

    which: Tensor
    first: Tensor
    second: Tensor
    margin: float


def leaders(scores: Tensor) -> Leaders:
    """Of equal scores the first class leads."""
    # Class by class, over planes that stay in the cache: several times faster than a reduction with indices.
    first = scores[0].clone()
    second, which = torch.full_like(first, -torch.inf), torch.zeros_like(first, dtype=torch.int16)
    for index, plane in enumerate(scores[1:], start=1):
        which.masked_fill_(plane > first, index)
        torch.maximum(second, torch.minimum(first, plane), out=second)
        torch.maximum(first, plane, out=first)
    smallest, largest = scores.aminmax()
    return Leaders(which, first, second, _MARGIN * max(abs(float(smallest)), abs(float(largest))))


def settled_cells(leading: Leaders, band: Grid) -> tuple[Tensor, Tensor]:
    """The class that leads at the first corner of every cell of a band, and whether it wins all of the cell: (R, C)."""
    which = band.corners(leading.which)  # (4, R, C)
    settled = (which == which[0]).all(0)
    settled &= band.corners(leading.first).amin(0) > band.corners(leading.second).amax(0) + leading.margin
    return which[0], settled


def best_classes(scores: Tensor, leading: Leaders, band: Grid) -> Tensor:
    """The class with the largest score at every slot of a band: scores (classes, h, w) -> (R, S, C, P) int16.

    ``leading`` are the leaders of ``scores``. Where one class leads at all four corners of a cell, and at each by more
    than any other class has at any, it wins in the whole cell. Of the other cells only the classes are resized whose
    largest corner reaches the largest of all smallest corners. Of equal scores the first class wins.
    """
    which, settled = settled_cells(leading, band)
    # Right where a cell is settled: (R, S, C, P)
    classes = which[:, None, :, None].repeat(1, band.rows.slots, 1, band.columns.slots)
    rows, columns = (~settled).nonzero(as_tuple=True)
    at_once = max(1, band.budget // len(scores))
    for some_rows, some_columns in zip(rows.split(at_once), columns.split(at_once), strict=True):
        _contest(scores, leading.margin, band, some_rows, some_columns, classes)
    return classes


def _contest(scores: Tensor, margin: float, band: Grid, rows: Tensor, columns: Tensor, classes: Tensor) -> None:
    """Finds the best class of every slot of the cells at ``rows`` and ``columns`` (G,) and puts it into ``classes``."""
    corners = band.cell_corners(scores, rows, columns)  # (4, classes, G)
    smallest, largest = corners.amin(0), corners.amax(0)
    rivals = (largest >= smallest.amax(0) - margin).sum(0)  # (G,)
    fewest, most = 0, min(2, len(scores))
    while fewest < len(scores):
        [cells] = ((rivals > fewest) & (rivals <= most)).nonzero(as_tuple=True)
        # The rivals of a cell are those of its classes with the largest corners: (K, G), first class first
        rival = largest[:, cells].topk(most, 0).indices.sort(0).values
        for some, slots in band.chunks(len(cells), most):
            place = Cells(rows[cells[some]], columns[cells[some]], slots)
            values = band.resize_cells(scores, rival[:, some], place)  # (K, S, P, G)
            names = rival[:, some].to(classes.dtype)  # (K, G)
            best, winner = values[0], names[0].expand_as(values[0])
            for value, name in zip(values[1:], names[1:], strict=True):
                winner = torch.where(value > best, name, winner)
                best = torch.maximum(best, value)
            classes[place.rows, slots, place.columns] = winner.permute(2, 0, 1)  # (G, S, P)
        fewest, most = most, min(2 * most, len(scores))


def segment_classes(class_map: NDArray[np.int32], labels: LabelSet, regions: Regions | None = None) -> Segmentation:
    """The segmentation that a map of class indices (H, W) stands for, which it overwrites with the segments' ids.

    ``regions`` are those of the classes in the map, where they are known already.
    """
    if regions is None:
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
