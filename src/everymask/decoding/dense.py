"""Decoding where the network's output lies on a GPU: every pixel, band by band, without a question in between.

On a CPU decoding settles whole cells from their bounds and looks only into the others. On a GPU to ask which cells are
left costs more than to resize them all: the host would wait for the device at every question. Here the host learns
nothing before all is computed; then one transfer brings a map of small integers and a few numbers a segment.

The arithmetic is that of ``resizing.Grid``, pixel by pixel in the same order, so the results are the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from everymask.decoding.regions import Regions
from everymask.decoding.resizing import Grid
from everymask.decoding.taps import Taps
from everymask.geometry import Size


@dataclass(frozen=True, slots=True)
class Winners:
    """Who has which pixels, on the device, by id 0 <= n < N.

    ``id_map`` (H, W) int16. ``figures`` (N, 7) int64: the pixels that n wins, the pixels of n's own mask, and of n's
    pixels in the map the area, left, top, right and bottom.
    """

    id_map: Tensor
    figures: Tensor


@dataclass(frozen=True, slots=True)
class Found:
    """``Winners`` on the host: ``won`` and ``claimed`` (N,), and the N regions of the map."""

    id_map: NDArray[np.int16]
    won: NDArray[np.int64]
    claimed: NDArray[np.int64]
    regions: Regions


def compete(logits: Tensor, scores: Tensor, grid: Grid, size: Size, mask_logit: float) -> Winners:
    """Gives every pixel to the query with the highest score times mask: logits (K, h, w), scores (K,), K at least 1.

    Where the winner's own mask holds the pixel, the id is that of the query, from 1 on, else 0, which has no figures.
    """
    tally = _Tally.of(len(logits), size, logits.device)
    for band, resized in _bands(logits, grid, len(logits)):
        claimed = resized >= mask_logit  # (K, rows, W)
        best = resized.sigmoid_().mul_(scores[:, None, None]).max(0).indices  # (rows, W); the first of equals wins
        tally.add(band, best, claimed)
    found = tally.winners()
    return Winners(found.id_map + 1, F.pad(found.figures, (0, 0, 1, 0)))


def classify(logits: Tensor, grid: Grid, size: Size, weights: Tensor | None = None) -> Winners:
    """Gives every pixel to the class with the largest value of ``logits`` (classes, h, w).

    With ``weights`` (classes, Q) the logits are those of Q masks, and a class's value is the weighted sum of their
    probabilities.
    """
    classes = len(logits) if weights is None else len(weights)
    tally = _Tally.of(classes, size, logits.device)
    for band, resized in _bands(logits, grid, len(logits) + classes):
        values = resized if weights is None else torch.tensordot(weights, resized.sigmoid_(), 1)
        tally.add(band, values.max(0).indices)
    return tally.winners()


def spans(logits: Tensor, grid: Grid, mask_logit: float) -> Iterator[tuple[NDArray[np.int64], float]]:
    """Where masks begin and end: logits (K, h, w) -> per mask its spans (n, 2), and the sum of its probability inside.

    A span is a stretch of pixels of the mask in a row of the grid: its first, and the one after its last, counted row
    by row. The host waits once for several masks, as many as the budget of the grid allows, or for a part of one.
    """
    rows, columns = Taps.of(grid.rows), Taps.of(grid.columns)
    height, width = len(rows.low), len(columns.low)
    at_once = max(1, grid.budget // (height * width))
    lines = max(1, min(height, grid.budget // width))  # of a mask that is larger than the budget
    for first in range(0, len(logits), at_once):
        some = logits[first : first + at_once]
        found: list[list[NDArray[np.int64]]] = [[] for _ in some]
        total = np.zeros(len(some))
        for start in range(0, height, lines):
            resized = _resize(some, rows[start : start + lines], columns)  # (k, lines, width)
            inside = resized >= mask_logit
            # A False at the end of every row ends a span within its row, and so within its mask.
            flat = F.pad(F.pad(inside, (0, 1)).flatten(), (1, 0))
            edges = (flat[1:] != flat[:-1]).nonzero()[:, 0]  # starts and ends in turn
            places, sums = _download(edges, resized.sigmoid_().mul_(inside).sum((1, 2)))
            total += sums
            line, pixel = np.divmod(places, width + 1)
            mask, line = np.divmod(line, inside.shape[1])
            cuts = np.searchsorted(mask, np.arange(1, len(some)))
            for parts, part in zip(found, np.split((line + start) * width + pixel, cuts), strict=True):
                parts.append(part)
        for parts, probability in zip(found, total.tolist(), strict=True):
            yield np.concatenate(parts).reshape(-1, 2), probability


def to_host(winners: Winners) -> Found:
    """In two copies side by side, and one wait."""
    id_map, figures = _download(winners.id_map, winners.figures)
    won, claimed, *regions = np.ascontiguousarray(figures.T)
    return Found(id_map, won, claimed, Regions(*regions))


@dataclass(frozen=True, slots=True)
class _Tally:
    """What is known of N ids after some bands."""

    id_map: Tensor  # (H, W) int16, -1 for nobody
    won: Tensor  # (N,) int64
    claimed: Tensor  # (N,) int64
    area: Tensor  # (N,) int64
    in_rows: Tensor  # (N, H) bool: has a pixel there
    in_columns: Tensor  # (N, W) bool

    @classmethod
    def of(cls, count: int, size: Size, device: torch.device) -> "_Tally":
        numbers = (torch.zeros(count, dtype=torch.int64, device=device) for _ in range(3))
        lines = (torch.zeros(count, side, dtype=torch.bool, device=device) for side in size)
        return cls(torch.empty(size, dtype=torch.int16, device=device), *numbers, *lines)

    def add(self, band: slice, best: Tensor, claimed: Tensor | None = None) -> None:
        """``best`` (rows, W) int64 wins in the rows ``band``; with ``claimed`` (N, rows, W) the rest is nobody's."""
        # Comparing with every id, since adding pixel by pixel would keep thousands of threads waiting for few places.
        has = best == torch.arange(len(self.won), device=best.device)[:, None, None]  # (N, rows, W)
        self.won.add_(has.sum((1, 2)))
        if claimed is not None:
            self.claimed.add_(claimed.sum((1, 2)))
            has &= claimed
            best = best.masked_fill(~has.any(0), -1)
        self.id_map[band] = best.to(torch.int16)
        self.area.add_(has.sum((1, 2)))
        self.in_rows[:, band] = has.any(2)
        self.in_columns.logical_or_(has.any(1))

    def winners(self) -> Winners:
        (top, bottom), (left, right) = _extent(self.in_rows), _extent(self.in_columns)
        figures = torch.stack((self.won, self.claimed, self.area, left, top, right, bottom), 1)
        return Winners(self.id_map, figures)


def _extent(present: Tensor) -> tuple[Tensor, Tensor]:
    """The first place that is True and the one after the last: (N, n) -> two (N,); without meaning if none is."""
    places = present.to(torch.uint8)
    return places.argmax(1), present.shape[1] - places.flip(1).argmax(1)


def _bands(logits: Tensor, grid: Grid, depth: int) -> Iterator[tuple[slice, Tensor]]:
    """The logits (N, h, w) at all pixels, in bands of rows of at most the budget for ``depth`` values a pixel.

    Yields the rows and (N, rows, W).
    """
    rows, columns = Taps.of(grid.rows), Taps.of(grid.columns)
    height, width = len(rows.low), len(columns.low)
    step = max(1, grid.budget // (depth * width))
    for start in range(0, height, step):
        band = slice(start, min(start + step, height))
        yield band, _resize(logits, rows[band], columns)


def _resize(logits: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """(N, h, w) -> (N, H, W): first across, then down, as ``Grid`` does."""

    def line(side: Tensor) -> Tensor:  # (N, H, W)
        values = logits.index_select(1, side)
        left, right = values.index_select(2, columns.low), values.index_select(2, columns.high)
        return torch.addcmul(left, right - left, columns.weight)

    above, below = line(rows.low), line(rows.high)
    return torch.addcmul(above, below - above, rows.weight[:, None])


def _download(*tensors: Tensor) -> list[NDArray[Any]]:
    """Brings tensors of one device to the host; from a GPU into pinned memory, side by side, with one wait."""
    device = tensors[0].device
    if device.type != "cuda":
        return [tensor.cpu().numpy() for tensor in tensors]
    copies = [torch.empty_like(tensor, device="cpu", pin_memory=True) for tensor in tensors]
    for copy, tensor in zip(copies, tensors, strict=True):
        copy.copy_(tensor, non_blocking=True)
    torch.cuda.current_stream(device).synchronize()
    return [copy.numpy() for copy in copies]
