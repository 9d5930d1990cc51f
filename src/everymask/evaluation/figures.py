"""The figures of a task: which metrics count what is predicted, and how their scores are laid out."""

from dataclasses import dataclass
from typing import Protocol

from everymask.datasets.dataset import Truth
from everymask.errors import OptionError
from everymask.evaluation.instance_quality import instance_quality
from everymask.labels import LabelSet
from everymask.metrics.boundary import BoundaryIoU, BoundaryScores
from everymask.metrics.instance import AveragePrecision, InstanceScores
from everymask.metrics.panoptic import ClassQuality, PanopticQuality, PanopticScores
from everymask.metrics.semantic import ConfusionMatrix, SemanticScores
from everymask.segmentation import Segmentation, Task

Scores = tuple[SemanticScores, BoundaryScores] | PanopticScores | InstanceScores

_IGNORED = -1


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures over all images together: shares in 0..1 (float) and counts (int), None where there is none.

    ``headline`` by the names that the field uses, the most important first. ``classes[c]`` has the figures of class c,
    named by ``columns``. ``scores`` is what the metrics say.
    """

    headline: dict[str, float | None]
    columns: tuple[str, ...]
    classes: tuple[tuple[float | int | None, ...], ...]
    scores: Scores


class Measure(Protocol):
    """Counts predictions image by image. Both are in terms of the data set's classes.

    ``of_image`` names the figure that says how well a single image went.
    """

    of_image: str

    def add(self, prediction: Segmentation, truth: Truth) -> None:
        """Counts one image. Raises DataError where the two contradict each other."""

    def image_quality(self, prediction: Segmentation, truth: Truth) -> float | None:
        """How well this image alone went, 0..1; None where nothing in it is annotated. Counts nothing."""

    def figures(self) -> Figures:
        """The figures of all images so far. Raises DataError where nothing was compared."""


def measure_for(task: Task, labels: LabelSet) -> Measure:
    """What measures a task. Raises OptionError for a task that has no figures on segments."""
    if task == "semantic":
        return SemanticMeasure(labels)
    if task == "panoptic":
        return PanopticMeasure(labels)
    if task == "instance":
        return InstanceMeasure(labels)
    raise OptionError(f"the task {task} cannot be evaluated on segments: choose panoptic, instance or semantic")


class SemanticMeasure:
    """mIoU, aAcc, mAcc, frequency-weighted and boundary IoU."""

    of_image = "mIoU"

    def __init__(self, labels: LabelSet) -> None:
        self._labels = labels
        self._matrix = ConfusionMatrix(len(labels))
        self._boundary = BoundaryIoU(len(labels))

    def add(self, prediction: Segmentation, truth: Truth) -> None:
        predicted, true = prediction.label_map, truth.class_map(_IGNORED)
        self._matrix.add(predicted, true, ignore=(_IGNORED,))
        self._boundary.add(predicted, true, ignore=(_IGNORED,))

    def image_quality(self, prediction: Segmentation, truth: Truth) -> float | None:
        matrix = ConfusionMatrix(len(self._labels))
        matrix.add(prediction.label_map, truth.class_map(_IGNORED), ignore=(_IGNORED,))
        return matrix.scores().mean_iou if matrix.counts.any() else None

    def figures(self) -> Figures:
        scores, boundary = self._matrix.scores(), self._boundary.scores()
        headline: dict[str, float | None] = {
            "mIoU": scores.mean_iou,
            "aAcc": scores.pixel_accuracy,
            "mAcc": scores.mean_accuracy,
            "fwIoU": scores.frequency_weighted_iou,
            "boundary IoU": boundary.mean_iou,
        }
        rows = tuple(zip(scores.iou, scores.accuracy, boundary.iou, strict=True))
        return Figures(headline, ("IoU", "accuracy", "boundary IoU"), rows, (scores, boundary))


class PanopticMeasure:
    """PQ, SQ and RQ."""

    of_image = "PQ"

    def __init__(self, labels: LabelSet) -> None:
        self._labels = labels
        self._quality = PanopticQuality(labels)

    def add(self, prediction: Segmentation, truth: Truth) -> None:
        self._quality.add(prediction, truth)

    def image_quality(self, prediction: Segmentation, truth: Truth) -> float | None:
        if all(segment.is_crowd for segment in truth.segments):
            return None
        quality = PanopticQuality(self._labels)
        quality.add(prediction, truth)
        return quality.scores().all.pq

    def figures(self) -> Figures:
        scores = self._quality.scores()
        headline: dict[str, float | None] = {"PQ": scores.all.pq, "SQ": scores.all.sq, "RQ": scores.all.rq}
        for name, mean in (("things", scores.things), ("stuff", scores.stuff)):
            headline[f"PQ {name}"] = None if mean is None else mean.pq
            headline[f"SQ {name}"] = None if mean is None else mean.sq
            headline[f"RQ {name}"] = None if mean is None else mean.rq
        columns = ("PQ", "SQ", "RQ", "true positives", "false positives", "false negatives")
        return Figures(headline, columns, tuple(_row(each) for each in scores.per_class), scores)


class InstanceMeasure:
    """COCO's average precision and recall of masks."""

    of_image = "quality"

    def __init__(self, labels: LabelSet) -> None:
        self._labels = labels
        self._precision = AveragePrecision(labels)

    def add(self, prediction: Segmentation, truth: Truth) -> None:
        self._precision.add(prediction, truth)

    def image_quality(self, prediction: Segmentation, truth: Truth) -> float | None:
        return instance_quality(prediction, truth, self._labels)

    def figures(self) -> Figures:
        scores = self._precision.scores()
        headline = {
            "AP": scores.ap,
            "AP50": scores.ap50,
            "AP75": scores.ap75,
            "APs": scores.ap_small,
            "APm": scores.ap_medium,
            "APl": scores.ap_large,
            "AR1": scores.ar1,
            "AR10": scores.ar10,
            "AR100": scores.ar100,
            "ARs": scores.ar_small,
            "ARm": scores.ar_medium,
            "ARl": scores.ar_large,
        }
        return Figures(headline, ("AP",), tuple((ap,) for ap in scores.per_class), scores)


def _row(quality: ClassQuality | None) -> tuple[float | int | None, ...]:
    if quality is None:
        return (None,) * 6
    counts = (quality.true_positives, quality.false_positives, quality.false_negatives)
    return (quality.pq, quality.sq, quality.rq, *counts)
