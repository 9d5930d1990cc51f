"""Average precision of masks, with COCO's rules (https://cocodataset.org/#detection-eval)."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from everymask.datasets.dataset import Truth, TruthSegment
from everymask.errors import DataError
from everymask.geometry import Size
from everymask.labels import LabelSet
from everymask.metrics.checks import check_label_ids, check_same_labels, check_same_shape, refuse_truth_itself
from everymask.runs import Runs
from everymask.segmentation import Segment, Segmentation


@dataclass(frozen=True, slots=True)
class InstanceScores:
    """COCO's twelve figures, in 0..1; None where no annotated object is of the size.

    ``ap`` is the mean of average precision over the classes and the IoU thresholds 0.50, 0.55 .. 0.95; ``ap50`` and
    ``ap75`` are at one threshold. Small objects have at most 32^2 pixels, large ones at least 96^2. ``ar1``, ``ar10``
    and ``ar100`` are the mean recall with so many predictions per image and class, the others with 100.
    ``per_class[c]`` is the ``ap`` of class c; None where it has no annotated object.
    """

    ap: float
    ap50: float
    ap75: float
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ar1: float
    ar10: float
    ar100: float
    ar_small: float | None
    ar_medium: float | None
    ar_large: float | None
    per_class: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class _Mask:
    """A true or predicted object; only a predicted one has a score, only a true one may be a crowd."""

    label_id: int
    runs: Runs
    area: float
    score: float = 0.0
    is_crowd: bool = False


@dataclass(frozen=True, slots=True)
class _Image:
    size: Size
    true: tuple[_Mask, ...]
    predicted: tuple[_Mask, ...]


class AveragePrecision:
    """The predicted and true objects of all images, as runs; faster-coco-eval makes the figures from them.

    Filled image by image with ``add``; what was collected apart, say by several workers, is joined with ``merge``. Only
    thing classes count, in truth and prediction. Whether a true object is small or large is said by the area that its
    file states, where it states one. Where scores are equal the order of the images decides, as in COCO's own tools.
    """

    def __init__(self, labels: LabelSet) -> None:
        self.labels = labels
        self._images: list[_Image] = []

    def add(self, prediction: Segmentation, truth: Truth) -> None:
        """Collects one image.

        Raises DataError, and collects nothing, where sizes differ, a segment's class is none of the labels, a predicted
        thing has no score, or a prediction is the truth itself.
        """
        check_same_shape(prediction.size, truth.size)
        check_label_ids("prediction", (segment.label_id for segment in prediction.segments), self.labels)
        check_label_ids("truth", (segment.label_id for segment in truth.segments), self.labels)
        _refuse_truth_itself(prediction, truth)
        things = self.labels.things
        true = tuple(
            _Mask(segment.label_id, runs, _stated_area(segment), is_crowd=segment.is_crowd)
            for segment, runs in zip(truth.segments, _all_runs(truth), strict=True)
            if things[segment.label_id]
        )
        predicted = tuple(
            _Mask(segment.label_id, runs, segment.area, score=_score(segment))
            for segment, runs in zip(prediction.segments, _all_runs(prediction), strict=True)
            if things[segment.label_id]
        )
        self._images.append(_Image(truth.size, true, predicted))

    def merge(self, other: "AveragePrecision") -> None:
        """Adds what another has collected, after this one's. Raises DataError where it has other labels."""
        check_same_labels(self.labels, other.labels)
        self._images += other._images

    def scores(self) -> InstanceScores:
        """The figures of all images so far. Raises DataError where no true object has been collected."""
        if all(mask.is_crowd for image in self._images for mask in image.true):
            raise DataError(
                "no annotated object was compared: all of them are crowds or of classes that are no things, or no "
                "image was added; check the annotations and the things of the labels"
            )
        images = [
            {"id": number, "height": image.size.height, "width": image.size.width}
            for number, image in enumerate(self._images, 1)
        ]
        things = [index for index in self.labels.classes if self.labels.things[index]]
        categories = [{"id": _category(index), "name": self.labels.names[index]} for index in things]
        true, predicted = (
            COCO({"images": images, "categories": categories, "annotations": annotations})
            for annotations in (
                _annotations([image.true for image in self._images]),
                _annotations([image.predicted for image in self._images]),
            )
        )
        evaluator = COCOeval_faster(true, predicted, iouType="segm")
        evaluator.evaluate()
        evaluator.accumulate()
        precision = evaluator.eval["precision"]  # (10 IoU thresholds, 101 recalls, classes, 4 sizes, 3 limits)
        recall = evaluator.eval["recall"]  # (10 IoU thresholds, classes, 4 sizes, 3 limits)
        per_class: list[float | None] = [None] * len(self.labels)
        for place, label_id in enumerate(things):
            per_class[label_id] = _mean_of_known(precision[:, :, place, 0, 2])
        return InstanceScores(
            ap=_mean(precision[:, :, :, 0, 2]),
            ap50=_mean(precision[0, :, :, 0, 2]),
            ap75=_mean(precision[5, :, :, 0, 2]),
            ap_small=_mean_of_known(precision[:, :, :, 1, 2]),
            ap_medium=_mean_of_known(precision[:, :, :, 2, 2]),
            ap_large=_mean_of_known(precision[:, :, :, 3, 2]),
            ar1=_mean(recall[:, :, 0, 0]),
            ar10=_mean(recall[:, :, 0, 1]),
            ar100=_mean(recall[:, :, 0, 2]),
            ar_small=_mean_of_known(recall[:, :, 1, 2]),
            ar_medium=_mean_of_known(recall[:, :, 2, 2]),
            ar_large=_mean_of_known(recall[:, :, 3, 2]),
            per_class=tuple(per_class),
        )


def _refuse_truth_itself(prediction: Segmentation, truth: Truth) -> None:
    if prediction.id_map is not None and truth.id_map is not None:
        refuse_truth_itself(prediction.id_map, truth.id_map)
    of_truth = {id(segment.pixels) for segment in truth.segments}
    if any(id(segment.pixels) in of_truth for segment in prediction.segments):
        raise DataError("a predicted mask is one of the truth's own: pass what a model predicted")


def _score(segment: Segment) -> float:
    if segment.score is None or not isfinite(segment.score):
        raise DataError(
            f'a predicted "{segment.label}" has the score {segment.score}, and average precision needs a number: '
            'read the model with task="instance"'
        )
    return segment.score


def _stated_area(segment: TruthSegment) -> float:
    return segment.area if segment.stated_area is None else segment.stated_area


def _all_runs(annotated: Segmentation | Truth) -> Iterator[Runs]:
    """The runs of every segment, in order; those of an id map come from one pass over it."""
    of_id = {} if annotated.id_map is None else _runs_of_ids(annotated.id_map)
    empty = Runs.from_spans(np.zeros(0, np.int64), np.zeros(0, np.int64), annotated.size)
    for segment in annotated.segments:
        yield segment.pixels if isinstance(segment.pixels, Runs) else of_id.get(segment.pixels.id, empty)


def _runs_of_ids(id_map: NDArray[np.int32]) -> dict[int, Runs]:
    """The runs of every id of an id map (H, W)."""
    down_columns = id_map.T.ravel()  # (W * H,)
    start = np.flatnonzero(np.diff(down_columns, prepend=down_columns[0] - 1))  # (spans,)
    end = np.append(start[1:], down_columns.size)
    ids = down_columns[start]
    by_id = np.argsort(ids, kind="stable")
    cuts = np.flatnonzero(np.diff(ids[by_id])) + 1
    return {
        int(ids[spans[0]]): Runs.from_spans(start[spans], end[spans], Size(*id_map.shape))
        for spans in np.split(by_id, cuts)
    }


def _annotations(images: list[tuple[_Mask, ...]]) -> list[dict[str, Any]]:
    """COCO's annotations, of images whose ids count from 1. Made anew each time: the evaluator writes into them."""
    annotations: list[dict[str, Any]] = []
    for image_id, masks in enumerate(images, 1):
        for mask in masks:
            annotation = {
                "id": len(annotations) + 1,  # from 1: a match with 0 would be none
                "image_id": image_id,
                "category_id": _category(mask.label_id),
                "segmentation": mask.runs.to_coco(),
                "area": mask.area,
                "score": mask.score,
                "iscrowd": int(mask.is_crowd),
            }
            annotations.append(annotation)
    return annotations


def _category(label_id: int) -> int:
    return label_id + 1  # COCO's count from 1


def _mean(values: NDArray[np.float64]) -> float:
    """The mean of what is known; the evaluator writes -1 where a class has no annotated object."""
    return float(np.mean(values[values > -1]))


def _mean_of_known(values: NDArray[np.float64]) -> float | None:
    return _mean(values) if (values > -1).any() else None
