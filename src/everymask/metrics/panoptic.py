"""Panoptic quality (Kirillov et al., "Panoptic Segmentation", 2019, section 4), equal to panopticapi's figures."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from everymask.datasets.dataset import Truth
from everymask.errors import DataError
from everymask.labels import LabelSet
from everymask.metrics.checks import check_label_ids, check_same_labels, check_same_shape, refuse_truth_itself
from everymask.segmentation import Segmentation


@dataclass(frozen=True, slots=True)
class ClassQuality:
    """The figures of one class over all images, in 0..1, and the numbers of segments they come from.

    ``sq`` is the mean IoU of the matched segments (0 without any), ``rq`` the F1 score of finding them, and ``pq`` the
    product of the two.
    """

    pq: float
    sq: float
    rq: float
    true_positives: int
    false_positives: int
    false_negatives: int


@dataclass(frozen=True, slots=True)
class MeanQuality:
    """Plain means of PQ, SQ and RQ, in 0..1, over the ``classes`` classes that have figures."""

    pq: float
    sq: float
    rq: float
    classes: int


@dataclass(frozen=True, slots=True)
class PanopticScores:
    """The figures of panoptic segmentation.

    ``things`` and ``stuff`` are None where no such class has figures; ``per_class[c]`` is None where class c is in
    neither truth nor prediction.
    """

    all: MeanQuality
    things: MeanQuality | None
    stuff: MeanQuality | None
    per_class: tuple[ClassQuality | None, ...]


class PanopticQuality:
    """Numbers of matched, missed and wrong segments and the IoUs of the matched, class by class.

    Filled image by image with ``add``; what was counted apart, say by several workers, is joined with ``merge``.

    The rules are panopticapi's. A predicted and a true segment match when they have one class and an IoU above 0.5;
    pixels that nobody annotated are left out of the union. A true segment without a match is a false negative, unless
    it is a crowd; crowds match nothing. A predicted one without a match is a false positive, unless more than half of
    it lies where nobody annotated or in a crowd of its class (the last one, where a class has several). Areas are
    counted in the id maps.
    """

    def __init__(self, labels: LabelSet) -> None:
        self.labels = labels
        self._iou: NDArray[np.float64] = np.zeros(len(labels), np.float64)  # sums over the matched
        self._matched: NDArray[np.int64] = np.zeros(len(labels), np.int64)
        self._wrong: NDArray[np.int64] = np.zeros(len(labels), np.int64)
        self._missed: NDArray[np.int64] = np.zeros(len(labels), np.int64)

    def add(self, prediction: Segmentation | Truth, truth: Truth) -> None:
        """Counts one image.

        ``prediction`` may also be what a reader gave from a file of predictions. Raises DataError, and counts nothing,
        where either has no id map (overlapping instances), sizes differ, a segment's class is none of the labels, an id
        map and its segments contradict each other, or the prediction is the truth itself.
        """
        # Below, a segment is its place among its image's segments + 1, and 0 is "none": void.
        predicted_class = _classes("prediction", prediction, self.labels)  # (predicted segments + 1,)
        true_class = _classes("truth", truth, self.labels)  # (true segments + 1,)
        true, predicted, pixels = _overlaps(prediction, truth)
        true_area = np.bincount(true, pixels, len(true_class))
        predicted_area = np.bincount(predicted, pixels, len(predicted_class))
        if not predicted_area[1:].all():
            raise DataError(
                f"segment number {int(predicted_area[1:].argmin()) + 1} of the prediction has no pixel in its id map: "
                "leave it out of the segments"
            )
        in_segment = predicted != 0
        true, predicted, pixels = true[in_segment], predicted[in_segment], pixels[in_segment]

        in_void = true == 0
        void = np.bincount(predicted[in_void], pixels[in_void], len(predicted_class))
        crowds = [place for place, segment in enumerate(truth.segments, 1) if segment.is_crowd]
        crowd_of_class = np.zeros(len(self.labels), np.int64)
        for place in crowds:
            crowd_of_class[true_class[place]] = place
        in_crowd = ~in_void & (crowd_of_class[predicted_class[predicted]] == true)
        excused = void + np.bincount(predicted[in_crowd], pixels[in_crowd], len(predicted_class))

        countable = np.ones(len(true_class), np.bool_)
        countable[[0, *crowds]] = False
        pair = countable[true] & (true_class[true] == predicted_class[predicted])
        true, predicted, pixels = true[pair], predicted[pair], pixels[pair]
        iou = pixels / (predicted_area[predicted] + true_area[true] - pixels - void[predicted])
        match = iou > 0.5  # no segment can be in two such pairs
        true, predicted, iou = true[match], predicted[match], iou[match]

        missed = countable.copy()
        missed[true] = False
        wrong = excused <= 0.5 * predicted_area
        wrong[predicted] = False
        np.add.at(self._iou, true_class[true], iou)
        np.add.at(self._matched, true_class[true], 1)
        np.add.at(self._missed, true_class[missed], 1)
        np.add.at(self._wrong, predicted_class[1:][wrong[1:]], 1)

    def merge(self, other: "PanopticQuality") -> None:
        """Adds what another has counted. Raises DataError where it has other labels."""
        check_same_labels(self.labels, other.labels)
        self._iou += other._iou
        self._matched += other._matched
        self._wrong += other._wrong
        self._missed += other._missed

    def scores(self) -> PanopticScores:
        """The figures of all images so far. Raises DataError where no true segment has been counted."""
        if not (self._matched + self._missed).any():
            raise DataError(
                "no annotated segment was compared: all of them are crowds or ignored, or no image was added; "
                "check the annotations"
            )
        per_class = tuple(
            _class_quality(*counts)
            for counts in zip(
                self._iou.tolist(), self._matched.tolist(), self._wrong.tolist(), self._missed.tolist(), strict=True
            )
        )
        of_kind: dict[bool, list[ClassQuality]] = {True: [], False: []}
        for is_thing, quality in zip(self.labels.things, per_class, strict=True):
            if quality is not None:
                of_kind[is_thing].append(quality)
        things, stuff = of_kind[True], of_kind[False]
        return PanopticScores(
            all=_mean(things + stuff),
            things=_mean(things) if things else None,
            stuff=_mean(stuff) if stuff else None,
            per_class=per_class,
        )


def _overlaps(
    prediction: Segmentation | Truth, truth: Truth
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The pairs (true, predicted) of places that share pixels, and how many: three arrays (pairs,)."""
    predicted_map = _id_map("prediction", prediction)
    true_map = _id_map("truth", truth)
    check_same_shape(predicted_map.shape, true_map.shape)
    refuse_truth_itself(predicted_map, true_map)
    true, predicted, length = _common_runs(true_map, predicted_map)
    if isinstance(prediction, Segmentation):
        predicted = _places(predicted, [segment.id for segment in prediction.segments])
    true_end, predicted_end = len(truth.segments) + 1, len(prediction.segments) + 1
    _check_places("prediction", predicted, predicted_end)
    _check_places("truth", true, true_end)
    return _count(true, predicted, length, true_end, predicted_end)


def _id_map(name: str, annotated: Segmentation | Truth) -> NDArray[np.int32]:
    if annotated.id_map is None:
        raise DataError(
            f"the {name} holds masks that may overlap, and panoptic quality needs one segment a pixel: "
            'read it with task="panoptic", or measure average precision'
        )
    return annotated.id_map


def _classes(name: str, annotated: Segmentation | Truth, labels: LabelSet) -> NDArray[np.int64]:
    """The class of every segment by place, and -1 for 0."""
    classes = [segment.label_id for segment in annotated.segments]
    check_label_ids(name, classes, labels)
    return np.array([-1, *classes], np.int64)


def _common_runs(
    true_map: NDArray[np.int32], predicted_map: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
    """The stretches of pixels, row by row, that are one segment in both maps: (runs,) true and predicted ids, lengths.

    An image has far fewer of them than pixels, and counting them takes less time.
    """
    true, predicted = true_map.ravel(), predicted_map.ravel()  # (H * W,)
    changes = np.flatnonzero((true[1:] != true[:-1]) | (predicted[1:] != predicted[:-1]))
    start = np.concatenate(([0], changes + 1))  # (runs,)
    return true[start], predicted[start], np.diff(start, append=true.size)


def _places(ids: NDArray[np.int32], known: list[int]) -> NDArray[np.int32]:
    """The place of each of ``ids`` in ``known``, plus 1; 0 for 0 and -1 for what is not known."""
    if len(set(known)) < len(known) or min(known, default=1) < 1:
        raise DataError("two segments of the prediction have one id, or an id is not positive: number them from 1")
    in_order = np.argsort(known)
    sorted_ids = np.array([0, *sorted(known)], np.int64)
    places = np.array([0, *(in_order + 1)], np.int32)
    found = np.searchsorted(sorted_ids, ids).clip(max=len(known))
    result: NDArray[np.int32] = np.where(sorted_ids[found] == ids, places[found], -1)
    return result


def _check_places(name: str, places: NDArray[np.int32], end: int) -> None:
    if not 0 <= int(places.min()) <= int(places.max()) < end:
        raise DataError(
            f"the id map of the {name} holds an id that none of its {end - 1} segments has: "
            "every pixel must be 0 or of one of the segments"
        )


def _count(
    true: NDArray[np.int32],
    predicted: NDArray[np.int32],
    length: NDArray[np.int64],
    true_end: int,
    predicted_end: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The pixels of every pair of places that occurs in runs (runs,): (pairs,) true, predicted places and pixels."""
    combined = true.astype(np.int64) * predicted_end + predicted  # (runs,)
    if true_end * predicted_end <= length.sum():
        table = np.bincount(combined, length)
        present = np.flatnonzero(table)
        pixels = table[present]
    else:  # so many segments that their table would be larger than the image
        present, run_of = np.unique(combined, return_inverse=True)
        pixels = np.bincount(run_of, length)
    true_place, predicted_place = np.divmod(present, predicted_end)
    return true_place, predicted_place, pixels.astype(np.int64)


def _class_quality(iou: float, matched: int, wrong: int, missed: int) -> ClassQuality | None:
    if matched + wrong + missed == 0:
        return None
    segments = matched + 0.5 * wrong + 0.5 * missed
    return ClassQuality(
        pq=iou / segments,
        sq=iou / matched if matched else 0.0,
        rq=matched / segments,
        true_positives=matched,
        false_positives=wrong,
        false_negatives=missed,
    )


def _mean(qualities: list[ClassQuality]) -> MeanQuality:
    count = len(qualities)
    return MeanQuality(
        pq=sum(quality.pq for quality in qualities) / count,
        sq=sum(quality.sq for quality in qualities) / count,
        rq=sum(quality.rq for quality in qualities) / count,
        classes=count,
    )
