"""Boundary IoU of semantic segmentation (Cheng et al., "Boundary IoU", 2021), filled image by image."""

from collections.abc import Collection
from dataclasses import dataclass
from math import hypot
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everymask.errors import DataError
from everymask.metrics.checks import check_class_maps
from everymask.metrics.ratios import mean, ratios

DILATION_RATIO = 0.02
"""The width of a boundary as a share of the image's diagonal, as the paper's authors chose."""


@dataclass(frozen=True, slots=True)
class BoundaryScores:
    """The figures of boundaries, all in 0..1.

    ``iou[c]`` is (pixels in the boundary of class c in truth and prediction) / (pixels in either boundary), over all
    images together; None where class c is in neither. ``mean_iou`` is the plain mean over the classes that have one.
    """

    mean_iou: float
    iou: tuple[float | None, ...]


class BoundaryIoU:
    """Counts of the pixels near the contours of each class.

    Filled image by image with ``add``; what was counted apart, say by several workers, is joined with ``merge``.

    The boundary of a class is what lies inside its mask and within d pixels (rows or columns, whichever are more) of
    its contour; d is ``dilation_ratio`` of the image's diagonal, rounded, at least 1. That is the distance of the
    authors' code, and as there the border of the image is part of the contour.
    """

    def __init__(self, num_classes: int, dilation_ratio: float = DILATION_RATIO) -> None:
        self.dilation_ratio = dilation_ratio
        self._both: NDArray[np.int64] = np.zeros(num_classes, np.int64)
        self._in_truth: NDArray[np.int64] = np.zeros(num_classes, np.int64)
        self._in_prediction: NDArray[np.int64] = np.zeros(num_classes, np.int64)

    def add(self, prediction: NDArray[Any], truth: NDArray[Any], ignore: Collection[int] = ()) -> None:
        """Counts one image.

        ``prediction`` and ``truth`` are integer class maps (H, W) with values 0..C-1. Pixels whose truth is one of the
        ``ignore`` values are cut out of both before contours are drawn, so the edge of an ignored region is a contour
        of both. Raises DataError, and counts nothing, for what ``ConfusionMatrix.add`` refuses.
        """
        num_classes = len(self._both)
        valid = check_class_maps(prediction, truth, num_classes, ignore)  # (H, W)
        width = max(1, round(self.dilation_ratio * hypot(*truth.shape)))
        predicted = np.where(valid, prediction, -1).astype(np.int64)
        true = np.where(valid, truth, -1).astype(np.int64)
        near_predicted = valid & near_contours(predicted, width)
        near_true = valid & near_contours(true, width)
        both = near_predicted & near_true & (predicted == true)
        for counts, classes in (
            (self._in_prediction, predicted[near_predicted]),
            (self._in_truth, true[near_true]),
            (self._both, true[both]),
        ):
            counts += np.bincount(classes, minlength=num_classes)

    def merge(self, other: "BoundaryIoU") -> None:
        """Adds what another has counted. Raises DataError where it has other classes or another dilation ratio."""
        if (len(self._both), self.dilation_ratio) != (len(other._both), other.dilation_ratio):
            raise DataError(
                f"cannot merge boundaries of {len(other._both)} classes and a dilation ratio of {other.dilation_ratio} "
                f"into those of {len(self._both)} and {self.dilation_ratio}: use the same for all"
            )
        self._both += other._both
        self._in_truth += other._in_truth
        self._in_prediction += other._in_prediction

    def scores(self) -> BoundaryScores:
        """The figures of all images so far. Raises DataError where no pixel has been counted."""
        if not self._in_truth.any():
            raise DataError("no pixel was compared: every label is ignored, or no image was added; check the labels")
        iou = ratios(self._both, self._in_truth + self._in_prediction - self._both)
        return BoundaryScores(mean(iou), iou)


def near_contours(classes: NDArray[np.int64], width: int) -> NDArray[np.bool_]:
    """Which pixels of a class map (H, W) have another class, or the outside, in the square of ``width`` around them.

    Those of class c are what erosion by a square of 2 ``width`` + 1 pixels removes from its mask, for all classes at
    once. Returns (H, W) bool.
    """
    by_row = _change_within(classes, width)  # (H, W): another class in the same row
    by_column = _change_within(classes.T, width).T  # (H, W): another class in the same column
    # A square is of one class when its middle column is and every one of its rows is.
    return by_column | (_window_sums(by_row.T, width).T > 0)


def _change_within(classes: NDArray[np.int64], width: int) -> NDArray[np.bool_]:
    """Whether a row (second axis) changes within ``width`` pixels of each of its pixels, or ends there: (H, W) bool."""
    rows, length = classes.shape
    changes = np.ones((rows, length + 1), np.bool_)  # changes[:, x]: between the pixels x - 1 and x
    np.not_equal(classes[:, 1:], classes[:, :-1], out=changes[:, 1:-1])
    total = np.zeros((rows, length + 2), np.int32)
    np.cumsum(changes, axis=1, out=total[:, 1:])
    x = np.arange(length)
    # Of the changes x - width + 1 .. x + width; those beyond the ends are all the same as the ends.
    first = np.maximum(x - width + 1, 0)
    last = np.minimum(x + width, length)
    changed: NDArray[np.bool_] = total[:, last + 1] != total[:, first]
    return changed


def _window_sums(flags: NDArray[np.bool_], width: int) -> NDArray[np.int32]:
    """How many flags are set within ``width`` pixels along a row (second axis) of each of its pixels: (H, W) int32."""
    rows, length = flags.shape
    total = np.zeros((rows, length + 1), np.int32)
    np.cumsum(flags, axis=1, out=total[:, 1:])
    x = np.arange(length)
    return total[:, np.minimum(x + width + 1, length)] - total[:, np.maximum(x - width, 0)]
