"""The one bilinear resize from mask logits to the image's pixels, evaluated only where it is needed.

Between four neighbouring logits lies a *cell* of pixels. Inside a cell every pixel is a convex combination of the four
corners, so the corners bound all its pixels, and a decoder can settle most cells without looking inside. What is
left is resized by lists of cells (``Grid.resize_cells``) or by rectangles (``Grid.resize``), never as a whole.

All cells have the same number of pixel slots, as many as the fullest needs, so that any list of cells is one dense
tensor. Slots without a pixel are left out when values are put in their places in the image.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from everymask.geometry import Geometry, Size

# The bounds of cells are compared with this much room, so that float rounding never rules out what could be.
ROUNDING = 1 + 1e-5


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of the resize: n cells of 1 to P pixels each, in order.

    ``low`` and ``high`` (n,) int64: the indices of the logits on either side of a cell.
    ``weight`` (n, P) float32 in 0..1: pixel p of cell i is (1 - weight[i, p]) * logits[low[i]] + weight[i, p] *
    logits[high[i]]. NaN in a slot without a pixel, so that whatever is computed there is NaN.
    ``first`` (n + 1,) int64, on the host: the first pixel of each cell, and the end of the last.
    """

    low: Tensor
    high: Tensor
    weight: Tensor
    first: NDArray[np.int64]

    def __getitem__(self, cells: slice) -> "Axis":
        """A range of cells; ``cells`` has a start and a stop."""
        first = self.first[cells.start : cells.stop + 1]
        return Axis(self.low[cells], self.high[cells], self.weight[cells], first)

    def __len__(self) -> int:
        return self.low.shape[0]

    @property
    def slots(self) -> int:
        """P, the slots of every cell."""
        return self.weight.shape[1]

    @property
    def count(self) -> Tensor:
        """How many pixels each cell has, (n,) int64; they are in its first slots."""
        return torch.from_numpy(np.diff(self.first)).to(self.low.device)

    @property
    def pixels(self) -> slice:
        """The pixels of all cells, in the image."""
        return slice(int(self.first[0]), int(self.first[-1]))

    @property
    def places(self) -> NDArray[np.int64]:
        """For every pixel its index in (n, P) flattened."""
        start = np.repeat(self.first[:-1] - np.arange(len(self)) * self.slots, np.diff(self.first))
        places: NDArray[np.int64] = np.arange(self.first[0], self.first[-1]) - start
        return places


def make_axis(original: int, resized: int, padded: int, offset: int, logits: int, device: torch.device) -> Axis:
    """The resize of one axis with half-pixel centres (``align_corners=False``).

    ``logits`` values cover ``padded`` pixels, of which ``resized`` from ``offset`` on are the image; its ``original``
    pixels are wanted. Pixel i samples the logits at ((i + 0.5) * (resized / original) + offset) * (logits / padded)
    - 0.5, clamped to the values that cover any of the image.
    """
    outermost = offset * logits // padded, -(-(offset + resized) * logits // padded) - 1  # that cover the image
    places = (2 * np.arange(original) + 1) * resized + 2 * original * offset
    position = places * logits / (2 * original * padded) - 0.5
    floor = np.floor(position).astype(np.int64)  # beyond the outermost values both sides are the same
    starts = np.flatnonzero(np.diff(floor, prepend=-2))
    first = np.append(starts, original)
    cell = np.repeat(np.arange(len(starts)), np.diff(first))
    weight = np.full((len(starts), np.diff(first).max()), np.nan, np.float32)
    weight[cell, np.arange(original) - starts[cell]] = position - floor
    sides = np.stack((floor[starts], floor[starts] + 1)).clip(*outermost)
    low, high = torch.from_numpy(sides).to(device)
    return Axis(low, high, torch.from_numpy(weight).to(device), first)


class Cells(NamedTuple):
    """G cells of a grid. Of a cell too large to take at once, only some rows of its slots."""

    rows: Tensor  # (G,) int64, indices into the grid's rows
    columns: Tensor  # (G,) int64
    slots: slice  # of the rows


@dataclass(frozen=True, slots=True)
class Grid:
    """The cells of a resize, R rows of C columns. Every cell has (S, P) slots: ``rows.slots`` x ``columns.slots``."""

    rows: Axis
    columns: Axis

    @property
    def budget(self) -> int:
        """How many values to work on at once: what stays in a CPU's caches, or what fills a GPU."""
        return 2**19 if self.rows.low.device.type == "cpu" else 2**24

    @property
    def pixels(self) -> Tensor:
        """How many pixels each cell has: (R, C) int64."""
        return self.rows.count[:, None] * self.columns.count

    def bands(self, depth: int) -> Iterator["Grid"]:
        """The grid in ranges of rows, few enough for ``depth`` values a cell and for one value a pixel."""
        row = len(self.columns) * max(depth, self.rows.slots * self.columns.slots)
        step = max(1, 4 * self.budget // max(1, row))  # a grid may be empty
        for start in range(0, len(self.rows), step):
            yield Grid(self.rows[start : min(start + step, len(self.rows))], self.columns)

    def pieces(self, cells: Tensor, depth: int) -> Iterator[Cells]:
        """The cells that are True in (R, C), in pieces of at most the budget for ``depth`` values a pixel."""
        rows, columns = cells.nonzero(as_tuple=True)
        for some, slots in self.chunks(len(rows), depth):
            yield Cells(rows[some], columns[some], slots)

    def chunks(self, count: int, depth: int) -> Iterator[tuple[slice, slice]]:
        """``count`` cells in chunks of at most the budget for ``depth`` values a pixel: which of them, which slots."""
        budget = max(1, self.budget // (depth * self.columns.slots))  # in rows of slots
        step, slots = max(1, budget // self.rows.slots), min(budget, self.rows.slots)
        for start in range(0, count, step):
            for slot in range(0, self.rows.slots, slots):
                yield slice(start, start + step), slice(slot, min(slot + slots, self.rows.slots))

    def corners(self, values: Tensor) -> Tensor:
        """The four corners of every cell: (h, w) -> (4, R, C)."""
        sides = (values.index_select(0, self.rows.low), values.index_select(0, self.rows.high))  # (R, w)
        ends = (self.columns.low, self.columns.high)
        return torch.stack([side.index_select(1, end) for side in sides for end in ends])

    def cell_corners(self, values: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """The four corners of the cells at ``rows`` and ``columns`` (G,): (N, h, w) -> (4, N, G)."""
        downs = self.rows.low[rows], self.rows.high[rows]
        acrosses = self.columns.low[columns], self.columns.high[columns]
        return torch.stack([values[:, down, across] for down in downs for across in acrosses])

    def bounds(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The smallest and the largest corner of every cell: (N, h, w) -> two (N, R, C), the bounds of its pixels."""
        top, bottom = logits.index_select(1, self.rows.low), logits.index_select(1, self.rows.high)  # (N, R, w)
        left, right = self.columns.low, self.columns.high
        # Selecting along the last dimension is slow: (N, w, R) -> (N, C, R)
        smallest, largest = torch.minimum(top, bottom).mT.contiguous(), torch.maximum(top, bottom).mT.contiguous()
        smallest = torch.minimum(smallest.index_select(1, left), smallest.index_select(1, right))
        largest = torch.maximum(largest.index_select(1, left), largest.index_select(1, right))
        return smallest.mT.contiguous(), largest.mT.contiguous()

    def resize_cells(self, logits: Tensor, index: Tensor, cells: Cells) -> Tensor:
        """The logits at all slots of some cells: (N, h, w) by ``index`` (K, G) or (K, 1) into N -> (K, S, P, G).

        Cells come last because there are many of them, and few slots in each. Slots without a pixel are NaN.
        """
        top, bottom = self.rows.low[cells.rows], self.rows.high[cells.rows]  # (G,)
        left, right = self.columns.low[cells.columns], self.columns.high[cells.columns]
        across = self.columns.weight[cells.columns].T.contiguous()  # (P, G)
        down = self.rows.weight[cells.rows, cells.slots].T.contiguous()[:, None]  # (S, 1, G)
        above = _between(logits[index, top, left][:, None], logits[index, top, right][:, None], across)  # (K, P, G)
        below = _between(logits[index, bottom, left][:, None], logits[index, bottom, right][:, None], across)
        return _between(above[:, None], below[:, None], down)  # (K, S, P, G)

    def resize(self, logits: Tensor) -> Tensor:
        """The logits at all pixels of the grid: (h, w) -> (H, W)."""
        columns, rows = (torch.from_numpy(axis.places).to(logits.device) for axis in (self.columns, self.rows))

        def widen(values: Tensor) -> Tensor:  # (R, w) -> (R, 1, W)
            left, right = values[:, self.columns.low, None], values[:, self.columns.high, None]
            return _between(left, right, self.columns.weight).flatten(1).index_select(1, columns)[:, None]

        top, bottom = widen(logits[self.rows.low]), widen(logits[self.rows.high])
        return _between(top, bottom, self.rows.weight[:, :, None]).flatten(0, 1).index_select(0, rows)

    def to_image(self, slots: Tensor) -> NDArray[np.integer[Any]]:
        """Puts the values of all slots, (R, S, C, P) of an integer type, in their pixels' places: (H, W)."""
        image: NDArray[np.integer[Any]] = slots.flatten(2).flatten(0, 1).cpu().numpy()  # (R * S, C * P)
        return image[self.rows.places].take(self.columns.places, axis=1)


def make_grid(geometry: Geometry, logits: Size, device: torch.device) -> Grid:
    """The resize of mask logits of some size, which cover the padded input, to the original image without padding."""
    sizes = zip(geometry.original, geometry.resized, geometry.padded, geometry.offset, logits, strict=True)
    rows, columns = (make_axis(*size, device) for size in sizes)
    return Grid(rows, columns)


def logit(probability: float) -> float:
    """The x with sigmoid(x) = probability, infinite at 0 and 1. Masks are cut before the sigmoid, which rounds."""
    if probability in (0, 1):
        return math.inf if probability else -math.inf
    return math.log(probability / (1 - probability))


def _between(start: Tensor, end: Tensor, weight: Tensor) -> Tensor:
    return torch.addcmul(start, end - start, weight)
