"""Semantic segmentation figures from a confusion matrix that is filled image by image."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everymask.errors import DataError
from everymask.metrics.checks import check_class_maps
from everymask.metrics.ratios import mean, ratios


@dataclass(frozen=True, slots=True)
class SemanticScores:
    """The figures of semantic segmentation, all in 0..1.

    ``iou[c]`` is (pixels that are c in truth and prediction) / (pixels that are c in either), over all images together;
    None where class c is in neither. ``accuracy[c]`` is (pixels that are c in both) / (pixels that are c in truth);
    None where c is not in the truth. ``mean_iou`` (mIoU) and ``mean_accuracy`` (mAcc) are the plain means over the
    classes that have a figure; ``pixel_accuracy`` (aAcc) is the share of all pixels that are right;
    ``frequency_weighted_iou`` (fwIoU) is the mean of ``iou`` in which a class counts by its share of the true pixels.
    """

    mean_iou: float
    frequency_weighted_iou: float
    pixel_accuracy: float
    mean_accuracy: float
    iou: tuple[float | None, ...]
    accuracy: tuple[float | None, ...]


class ConfusionMatrix:
    """Counts of (true class, predicted class) pixels, ``counts`` (C, C) int64.

    Filled image by image with ``add``; matrices filled apart, say by several workers, are joined with ``merge``.
    """

    def __init__(self, num_classes: int) -> None:
        self.counts: NDArray[np.int64] = np.zeros((num_classes, num_classes), np.int64)

    def add(self, prediction: NDArray[Any], truth: NDArray[Any], ignore: Collection[int] = ()) -> None:
        """Counts one image.

        ``prediction`` and ``truth`` are integer class maps (H, W) with values 0..C-1; pixels whose truth is one of the
        ``ignore`` values do not count, whatever was predicted there. Raises DataError, and counts nothing, where the
        shapes differ, a value is not a class, or the two are the same array.
        """
        num_classes = len(self.counts)
        valid = check_class_maps(prediction, truth, num_classes, ignore)  # (H, W)
        pairs = truth[valid].astype(np.int64) * num_classes + prediction[valid].astype(np.int64)  # (valid pixels,)
        self.counts += np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)

    def merge(self, other: "ConfusionMatrix") -> None:
        """Adds the counts of another matrix. Raises DataError where it has another number of classes."""
        if self.counts.shape != other.counts.shape:
            raise DataError(
                f"cannot merge a matrix of {len(other.counts)} classes into one of {len(self.counts)}: "
                "they must come from the same label set"
            )
        self.counts += other.counts

    def scores(self) -> SemanticScores:
        """The figures of all images so far. Raises DataError where no pixel has been counted."""
        right = self.counts.diagonal()  # (C,)
        in_truth = self.counts.sum(axis=1)  # (C,)
        in_either = in_truth + self.counts.sum(axis=0) - right  # (C,)
        total = int(in_truth.sum())
        if total == 0:
            raise DataError("no pixel was compared: every label is ignored, or no image was added; check the labels")
        iou = ratios(right, in_either)
        accuracy = ratios(right, in_truth)
        return SemanticScores(
            mean_iou=mean(iou),
            frequency_weighted_iou=float(in_truth @ (right / np.maximum(in_either, 1))) / total,
            pixel_accuracy=int(right.sum()) / total,
            mean_accuracy=mean(accuracy),
            iou=iou,
            accuracy=accuracy,
        )
