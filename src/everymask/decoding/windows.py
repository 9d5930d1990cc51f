"""Semantic decoding of an image that went through the network in several windows.

The class scores of the windows are averaged at the resized image's pixels, then resized to the original image, as
published test recipes do. Both happen in bands of rows, and a window is open only while bands lie in it, so that
memory grows neither with the number of windows nor with a map of all classes or queries.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from everymask.decoding.class_map import best_classes, leaders, segment_classes
from everymask.decoding.resizing import Grid, make_grid
from everymask.geometry import Geometry, Size
from everymask.labels import LabelSet
from everymask.segmentation import Segmentation


class Window(Protocol):
    """What the network says about one window."""

    @property
    def classes(self) -> int:
        """How many classes it scores."""

    @property
    def depth(self) -> int:
        """How many values a pixel of ``rows`` takes to make."""

    @property
    def transposed(self) -> "Window":
        """The same with rows and columns exchanged."""

    def rows(self, window: Size, start: int, stop: int) -> Tensor:
        """The scores at the rows start <= y < stop of a window of that size in pixels: (C, stop - start, width)."""


@dataclass(frozen=True, slots=True)
class PixelWindow:
    """``logits`` (C, h, w), float32: the scores."""

    logits: Tensor

    @property
    def classes(self) -> int:
        return len(self.logits)

    @property
    def depth(self) -> int:
        return 2 * len(self.logits)

    @property
    def transposed(self) -> "PixelWindow":
        return PixelWindow(self.logits.mT)

    def rows(self, window: Size, start: int, stop: int) -> Tensor:
        return _resize_rows(self.logits, window, start, stop)


@dataclass(frozen=True, slots=True)
class QueryWindow:
    """``weights`` (C, Q): class probabilities; ``mask_logits`` (Q, h, w); float32.

    A class's score is the sum over the queries of class probability times mask probability.
    """

    weights: Tensor
    mask_logits: Tensor

    @property
    def classes(self) -> int:
        return len(self.weights)

    @property
    def depth(self) -> int:
        return self.weights.shape[0] + self.weights.shape[1]

    @property
    def transposed(self) -> "QueryWindow":
        return QueryWindow(self.weights, self.mask_logits.mT)

    def rows(self, window: Size, start: int, stop: int) -> Tensor:
        masks = _resize_rows(self.mask_logits, window, start, stop).sigmoid_()  # (Q, rows, width)
        scores: Tensor = torch.tensordot(self.weights, masks, 1)
        return scores


def decode_semantic_windows(windows: Iterator[Window], geometry: Geometry, labels: LabelSet) -> Segmentation:
    """Reads ``windows``, in the order of ``geometry.windows``, as a semantic segmentation.

    Where windows overlap, a class's score is their mean. Every pixel of the original image gets the class with the
    largest score, interpolated between the four pixels of the resized image around it. A window is asked for only
    when it is needed.
    """
    tops, lefts = (len(set(places)) for places in zip(*geometry.windows, strict=True))
    if tops >= lefts:
        return segment_classes(_classify(windows, geometry), labels)
    # The windows come column by column: decode the picture lying on its side.
    class_map = _classify((each.transposed for each in windows), _transposed(geometry))
    return segment_classes(np.ascontiguousarray(class_map.T), labels)


def _transposed(geometry: Geometry) -> Geometry:
    original, resized, padded = (Size(*each[::-1]) for each in (geometry.original, geometry.resized, geometry.padded))
    corners = tuple((left, top) for top, left in geometry.windows)
    return Geometry(original, resized, padded, corners, smooth=geometry.smooth)


def _classify(windows: Iterator[Window], geometry: Geometry) -> NDArray[np.int32]:
    """The class of every pixel of the original image, by windows that come from the top to the bottom."""
    first_window = next(windows)
    stripe = _Stripe(geometry, windows, first_window)
    class_map = np.empty(geometry.original, np.int32)
    whole = Geometry(geometry.original, geometry.resized, geometry.resized)
    grid = make_grid(whole, geometry.resized, stripe.device)
    # A band works on the values of all pixels that its cells lie between.
    pixels = -(-geometry.resized.height * geometry.resized.width // (len(grid.rows) * len(grid.columns)))
    for band in grid.bands((first_window.classes + first_window.depth) * pixels):
        first, last = int(band.rows.low.min()), int(band.rows.high.max())
        scores = stripe.average(first, last + 1)
        rows = replace(band.rows, low=band.rows.low - first, high=band.rows.high - first)
        class_map[band.rows.pixels] = band.to_image(best_classes(scores, leaders(scores), Grid(rows, band.columns)))
    return class_map


class _Stripe:
    """The windows that are open: those that lie in the rows asked for last."""

    def __init__(self, geometry: Geometry, windows: Iterator[Window], first: Window) -> None:
        self._geometry = geometry
        self._windows = windows
        self._corners = deque(geometry.windows)
        self._open = deque([(self._corners.popleft(), first)])
        self._classes = first.classes
        sample = first.rows(geometry.padded, 0, 1)
        self.device, self._dtype = sample.device, sample.dtype
        down, across = (_ramp(length) if geometry.smooth else torch.ones(length) for length in geometry.padded)
        self._weight = (down[:, None] * across).to(self.device)  # (h, w)

    def average(self, start: int, stop: int) -> Tensor:
        """The mean scores at the rows start <= y < stop of the resized image: (C, stop - start, W).

        ``start`` never falls from call to call.
        """
        height, width = self._geometry.padded
        while self._open and self._open[0][0][0] + height <= start:
            self._open.popleft()
        while self._corners and self._corners[0][0] < stop:
            self._open.append((self._corners.popleft(), next(self._windows)))

        resized = self._geometry.resized
        scores = torch.zeros(self._classes, stop - start, resized.width, device=self.device, dtype=self._dtype)
        total = torch.zeros(stop - start, resized.width, device=self.device, dtype=self._dtype)
        for (top, left), window in self._open:
            upper, lower = max(start, top), min(stop, top + height)
            if upper >= lower:
                continue
            right = min(left + width, resized.width)
            place = (slice(upper - start, lower - start), slice(left, right))
            weight = self._weight[upper - top : lower - top, : right - left]
            part = window.rows(self._geometry.padded, upper - top, lower - top)[..., : right - left]
            scores[:, *place].addcmul_(part, weight)
            total[place] += weight
        return scores.div_(total)


def _ramp(length: int) -> Tensor:
    """How much the pixels along an axis of a window count: from 0 beyond its ends to 1 in its middle."""
    centres = (torch.arange(length) + 0.5) / length
    return 1 - (2 * centres - 1).abs()


def _resize_rows(values: Tensor, window: Size, start: int, stop: int) -> Tensor:
    """Some rows of a window, resized bilinearly (half-pixel centres): (N, h, w) -> (N, stop - start, width)."""
    height = values.shape[1]
    places = torch.arange(start, stop, device=values.device)
    position = ((2 * places + 1) * height / (2 * window.height) - 0.5).clamp(min=0)
    low = position.long()
    weight = (position - low)[:, None]  # (rows, 1)
    rows = torch.lerp(values[:, low], values[:, (low + 1).clamp(max=height - 1)], weight)  # (N, rows, w)
    return F.interpolate(rows[None], size=(stop - start, window.width), mode="bilinear", align_corners=False)[0]
