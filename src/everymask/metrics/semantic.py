"""Semantic segmentation figures from a confusion matrix that is filled image by image."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everymask.errors import DataError


@dataclass(frozen=True, slots=True)
class SemanticScores:
    """The figures of semantic segmentation, all in 0..1.

    ``iou[c]`` is (pixels that are c in truth and prediction) / (pixels that are c in either), over all images together;
    None where class c is in neither. ``accuracy[c]`` is (pixels that are c in both) / (pixels that are c in truth);
    None where c is not in the truth. ``mean_iou`` (mIoU) and ``mean_accuracy`` (mAcc) are the plain means over the
    classes that have a figure; ``pixel_accuracy`` (aAcc) is the share of all pixels that are right.
    """

    mean_iou: float
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
        shapes differ or a value is not a class.
        """
        num_classes = len(self.counts)
        if prediction.shape != truth.shape:
            raise DataError(
                f"the prediction is {_shape(prediction)} pixels and the truth {_shape(truth)}: "
                "compare maps of the same image at the same size"
            )
        for name, classes in (("prediction", prediction), ("truth", truth)):
            if not np.issubdtype(classes.dtype, np.integer):
                raise DataError(f"the {name} holds {classes.dtype} values: pass integer class indices")
        valid = ~np.isin(truth, list(ignore))  # (H, W)
        _check_classes("prediction", prediction, num_classes)
        _check_classes("truth", truth[valid], num_classes)
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
        iou = _ratios(right, in_either)
        accuracy = _ratios(right, in_truth)
        return SemanticScores(
            mean_iou=_mean(iou),
            pixel_accuracy=int(right.sum()) / total,
            mean_accuracy=_mean(accuracy),
            iou=iou,
            accuracy=accuracy,
        )


def _check_classes(name: str, classes: NDArray[Any], num_classes: int) -> None:
    if classes.size and not 0 <= (low := int(classes.min())) <= (high := int(classes.max())) < num_classes:
        value = low if low < 0 else high
        raise DataError(f"the {name} holds the value {value}, which is none of the classes 0 to {num_classes - 1}")


def _ratios(part: NDArray[np.int64], whole: NDArray[np.int64]) -> tuple[float | None, ...]:
    return tuple(int(p) / int(w) if w else None for p, w in zip(part, whole, strict=True))


def _mean(values: tuple[float | None, ...]) -> float:
    """The mean of the values that are there; of a counted pixel's class there always is one."""
    present = [value for value in values if value is not None]
    return sum(present) / len(present)


def _shape(array: NDArray[Any]) -> str:
    return " x ".join(str(length) for length in array.shape)
