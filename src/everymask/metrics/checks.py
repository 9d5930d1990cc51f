"""What no figure can be computed from, refused with the reason."""

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everymask.errors import DataError
from everymask.labels import LabelSet


def check_same_shape(prediction: tuple[int, ...], truth: tuple[int, ...]) -> None:
    """Raises DataError where a prediction and the truth have different shapes, such as (H, W)."""
    if tuple(prediction) != tuple(truth):
        raise DataError(
            f"the prediction is {_format_shape(prediction)} pixels and the truth {_format_shape(truth)}: "
            "compare maps of the same image at the same size"
        )


def refuse_truth_itself(prediction: NDArray[Any], truth: NDArray[Any]) -> None:
    """Raises DataError where the two arrays are the same memory: such a prediction is always perfect."""
    if np.shares_memory(prediction, truth):
        raise DataError(
            "the prediction is the truth itself, so its figures would be perfect and mean nothing: "
            "pass what a model predicted"
        )


def check_class_maps(
    prediction: NDArray[Any], truth: NDArray[Any], num_classes: int, ignore: Collection[int]
) -> NDArray[np.bool_]:
    """Which pixels count, (H, W) bool: those whose truth is none of the ``ignore`` values.

    Raises DataError where the class maps have different shapes, are the same memory, are not integers, or hold values
    that are none of the classes 0..C-1; what the truth ignores may be predicted as any of them.
    """
    check_same_shape(prediction.shape, truth.shape)
    refuse_truth_itself(prediction, truth)
    for name, classes in (("prediction", prediction), ("truth", truth)):
        if not np.issubdtype(classes.dtype, np.integer):
            raise DataError(f"the {name} holds {classes.dtype} values: pass integer class indices")
    valid = ~np.isin(truth, list(ignore))  # (H, W)
    for name, classes in (("prediction", prediction), ("truth", truth[valid])):
        if classes.size and not 0 <= (low := int(classes.min())) <= (high := int(classes.max())) < num_classes:
            value = low if low < 0 else high
            raise DataError(f"the {name} holds the value {value}, which is none of the classes 0 to {num_classes - 1}")
    return valid


def check_label_ids(name: str, label_ids: Iterable[int], labels: LabelSet) -> None:
    """Raises DataError where a class of ``name``, "prediction" or "truth", is none of ``labels``."""
    for label_id in label_ids:
        if not 0 <= label_id < len(labels) or label_id in labels.holes:
            raise DataError(
                f"the {name} has a segment of class {label_id}, which is none of the {len(labels.classes)} classes: "
                "compare a model and data that have the same labels"
            )


def check_same_labels(labels: LabelSet, other: LabelSet) -> None:
    """Raises DataError where figures over ``other`` cannot be merged into figures over ``labels``."""
    if (labels.names, labels.things) != (other.names, other.things):
        raise DataError(
            f"cannot merge figures of {len(other)} classes into those of {len(labels)} others: "
            "they must come from the same label set"
        )


def _format_shape(shape: tuple[int, ...]) -> str:
    return " x ".join(str(length) for length in shape)
