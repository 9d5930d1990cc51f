"""A model's classes against those of the data: by name, and by what it predicts."""

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from everymask.doctor.findings import Finding, finding
from everymask.doctor.listing import Convention
from everymask.doctor.values import shift_fix
from everymask.errors import DataError, ImageError
from everymask.labels import LabelSet

if TYPE_CHECKING:
    from everymask.datasets.dataset import DataSet
    from everymask.segmenter import Segmenter

IMAGES = 8
# Agreement by accident stays below; another numbering has to be this much better than the one that is declared.
LEAST_IOU = 0.2
TIMES_BETTER = 2.0
MOST_IN_MESSAGE = 8


def check_model(
    segmenter: "Segmenter", labels: LabelSet, data_sets: Sequence["DataSet"], convention: Convention | None
) -> list[Finding]:
    """Findings about a model and the data it is to be measured or trained on.

    ``labels``: of the data. ``convention``: that of pictures of class indices; None for COCO's JSON. Up to 8 images,
    spread over the data, go through the model; those that cannot be read are left out, as other checks tell of them.
    """
    confusion = _confusion(segmenter, labels, data_sets)
    by_pixels = compare_predictions(confusion, segmenter.labels, labels, convention)
    return [*compare_names(segmenter.labels, labels), *by_pixels]


def compare_names(model: LabelSet, data: LabelSet) -> list[Finding]:
    """Findings about two lists of classes; none where they are equal."""
    ours, theirs = ([name.strip().lower() for name in labels.names] for labels in (data, model))
    if ours == theirs:
        return []
    pairs = zip_longest(data.names, model.names, fillvalue="-")
    same = zip_longest(ours, theirs)
    differ = ((index, *names) for index, (names, (a, b)) in enumerate(zip(pairs, same, strict=True)) if a != b)
    where = [f"{index}: {of_data} / {of_model}" for index, of_data, of_model in differ]
    if sorted(ours) == sorted(theirs):
        order = [theirs.index(name) for name in ours]
        return [
            finding(
                "model-classes-in-other-order",
                "error",
                "the model has the same classes in another order (index: data / model)",
                where,
                f"put the data's classes into the model's order: new index of each = {order}",
            )
        ]
    for by in (1, -1):
        longer, shorter = (theirs, ours) if by > 0 else (ours, theirs)
        if longer[1:] == shorter:
            return [
                finding(
                    "model-classes-shifted",
                    "error",
                    f"the model's classes are the data's {'after' if by > 0 else 'without'} a first one, "
                    f"{longer[0]!r}: every index differs by one (index: data / model)",
                    where,
                    f"{'add' if by > 0 else 'remove'} {longer[0]!r} as the first class of the data",
                )
            ]
    shared = len(set(ours) & set(theirs))
    return [
        finding(
            "model-has-other-classes",
            "warning",
            f"the model has {len(theirs)} classes and the data {len(ours)}, of which {shared} have the same name: it "
            "was trained on other data (index: data / model)",
            where,
            "use a model of these classes, or train one: everymask train --model NAME replaces the classes",
        )
    ]


def compare_predictions(
    confusion: NDArray[np.int64], model: LabelSet, data: LabelSet, convention: Convention | None
) -> list[Finding]:
    """Findings about ``confusion`` (data classes, model classes), pixels by true and by predicted class.

    The mean IoU over the classes that are there is compared with that of a truth shifted by one index, and of the
    one-to-one assignment of classes that agrees best (greedily, largest IoU first).
    """
    iou = _iou(confusion)  # (data, model)
    present = np.flatnonzero(confusion.sum(axis=1))
    as_is, up, down = (_mean(iou, present, present + by) for by in (0, 1, -1))
    shift, shifted = (1, up) if up >= down else (-1, down)
    figures = f"mIoU {as_is:.1%} as they are, {up:.1%} with the model's next class, {down:.1%} with the one before"
    if shifted >= max(LEAST_IOU, TIMES_BETTER * as_is):
        return [
            finding(
                "model-agrees-when-shifted",
                "error",
                f"labels are one too {'low' if shift > 0 else 'high'} for what the model predicts: {figures}",
                (
                    f"{data.names[each]} -> {model.names[each + shift]}"
                    for each in present
                    if 0 <= each + shift < len(model)
                ),
                shift_fix(convention, -shift)
                if convention is not None
                else f"'category_id' of the annotations: {-shift:+d}",
            )
        ]
    partner = _assign(iou)
    chosen = np.array([partner.get(int(each), -1) for each in present], np.int64)
    permuted = _mean(iou, present, chosen)
    if permuted < max(LEAST_IOU, TIMES_BETTER * as_is):
        return []
    pairs = [
        f"{data.names[one]} -> {model.names[other]}"
        for one, other in zip(present, chosen, strict=True)
        if other >= 0 and iou[one, other] > LEAST_IOU
    ]
    return [
        finding(
            "model-agrees-when-permuted",
            "error",
            f"predictions agree with labels whose classes are exchanged: mIoU {as_is:.1%} as they are, {permuted:.1%} "
            "with each class of the data as the one that fits best",
            pairs,
            "put the data's classes into the model's order: " + ", ".join(pairs[:MOST_IN_MESSAGE]),
        )
    ]


def _confusion(segmenter: "Segmenter", labels: LabelSet, data_sets: Sequence["DataSet"]) -> NDArray[np.int64]:
    classes, outputs = len(labels), len(segmenter.labels)
    confusion = np.zeros((classes, outputs), np.int64)
    for data, index in _spread(data_sets):
        try:
            truth = data.read_truth(index).class_map()  # (H, W)
            image = data.read_image(index)  # (H, W, 3)
        except (DataError, ImageError):
            continue
        result = segmenter(image, task="semantic").label_map  # (H, W)
        if truth.shape != result.shape:
            continue
        both = (truth >= 0) & (result >= 0)
        cells = truth[both].astype(np.int64) * outputs + result[both]
        confusion += np.bincount(cells, minlength=classes * outputs).reshape(classes, outputs)
    return confusion


def _spread(data_sets: Sequence["DataSet"]) -> Iterable[tuple["DataSet", int]]:
    every = [(data, index) for data in data_sets for index in range(len(data.names))]
    places = np.unique(np.linspace(0, len(every) - 1, IMAGES).round().astype(int)) if every else ()
    return (every[place] for place in places)


def _iou(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """The IoU of every true class with every predicted one, as if they were the same."""
    union = confusion.sum(axis=1, keepdims=True) + confusion.sum(axis=0, keepdims=True) - confusion
    iou: NDArray[np.float64] = confusion / np.maximum(union, 1)
    return iou


def _mean(iou: NDArray[np.float64], rows: NDArray[np.int64], columns: NDArray[np.int64]) -> float:
    """The mean over the rows; 0 for columns that are not there."""
    there = (columns >= 0) & (columns < iou.shape[1])
    return float(iou[rows[there], columns[there]].sum() / max(len(rows), 1))


def _assign(iou: NDArray[np.float64]) -> dict[int, int]:
    left = iou.copy()
    chosen: dict[int, int] = {}
    while left.size and left.max() > 0:
        row, column = np.unravel_index(left.argmax(), left.shape)
        chosen[int(row)] = int(column)
        left[row] = 0
        left[:, column] = 0
    return chosen
