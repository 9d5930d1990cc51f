"""The figures of a task: which metrics count what is predicted, and how their scores are laid out."""

from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from everymask.datasets.dataset import DataSet, DepthDataSet, Truth
from everymask.errors import OptionError
from everymask.evaluation.depth_drawing import compare_depths
from everymask.evaluation.drawing import compare
from everymask.evaluation.instance_quality import instance_quality
from everymask.labels import LabelSet
from everymask.metrics.boundary import BoundaryIoU, BoundaryScores
from everymask.metrics.depth import DepthErrors, DepthScores
from everymask.metrics.instance import AveragePrecision, InstanceScores
from everymask.metrics.panoptic import ClassQuality, PanopticQuality, PanopticScores
from everymask.metrics.semantic import ConfusionMatrix, SemanticScores
from everymask.segmentation import DepthKind, Segmentation, Task, depth_of

Scores = tuple[SemanticScores, BoundaryScores] | PanopticScores | InstanceScores | DepthScores
Annotation = TypeVar("Annotation")

UNITS = {"AbsRel": "", "SqRel": " m", "RMSE": " m", "log RMSE": ""}
"""Of the figures that are no shares."""

_IGNORED = -1


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures over all images together: shares in 0..1 (float) and counts (int), None where there is none.

    Errors of depth are in metres where they have a unit (``UNITS``). ``headline`` by the names that the field uses, the
    most important first. ``classes[c]`` has the figures of class c, named by ``columns``; both are empty for depth.
    ``scores`` is what the metrics say.
    """

    headline: dict[str, float | None]
    columns: tuple[str, ...]
    classes: tuple[tuple[float | int | None, ...], ...]
    scores: Scores


def figure_text(name: str, value: float | None) -> str:
    """A figure for people: "mIoU 61.20%", "RMSE 0.4120 m", or "AP -" where there is none."""
    if value is None:
        return f"{name} -"
    return f"{name} {value:.4f}{UNITS[name]}" if name in UNITS else f"{name} {value:.2%}"


class Measure(Protocol[Annotation]):
    """Counts predictions image by image. Segments are in terms of the data set's classes.

    ``of_image`` names the figure that says how a single image went, and ``is_error`` whether large ones are bad.
    """

    of_image: str
    is_error: bool

    def read(self, data: DataSet, index: int) -> Annotation:
        """What predictions are compared with. Raises DataError and ImageError as ``data`` does."""

    def add(self, prediction: Segmentation, truth: Annotation) -> None:
        """Counts one image. Raises DataError where the two contradict each other."""

    def image_score(self, prediction: Segmentation, truth: Annotation) -> float | None:
        """The figure ``of_image`` of this image alone; None where nothing in it is annotated. Counts nothing."""

    def draw(self, prediction: Segmentation, truth: Annotation, title: str) -> Image.Image:
        """Photo, prediction and truth side by side; ``prediction`` carries its image."""

    def figures(self) -> Figures:
        """The figures of all images so far. Raises DataError where nothing was compared."""


def measure_for(task: Task, labels: LabelSet, depth_kind: DepthKind | None) -> Measure[Any]:
    """What measures a task. ``labels``: the data set's. ``depth_kind``: what the model's depth means, if it gives any.

    Raises OptionError for the depth of a model that gives none.
    """
    if task == "semantic":
        return SemanticMeasure(labels)
    if task == "panoptic":
        return PanopticMeasure(labels)
    if task == "instance":
        return InstanceMeasure(labels)
    if depth_kind is None:
        raise OptionError("this model gives no depth, so none can be measured: choose panoptic, instance or semantic")
    return DepthMeasure(depth_kind)


class _SegmentMeasure:
    """What all measures of segments do."""

    is_error = False

    def read(self, data: DataSet, index: int) -> Truth:
        return data.read_truth(index)

    def draw(self, prediction: Segmentation, truth: Truth, title: str) -> Image.Image:
        return compare(prediction, truth, title)


class SemanticMeasure(_SegmentMeasure):
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

    def image_score(self, prediction: Segmentation, truth: Truth) -> float | None:
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


class PanopticMeasure(_SegmentMeasure):
    """PQ, SQ and RQ."""

    of_image = "PQ"

    def __init__(self, labels: LabelSet) -> None:
        self._labels = labels
        self._quality = PanopticQuality(labels)

    def add(self, prediction: Segmentation, truth: Truth) -> None:
        self._quality.add(prediction, truth)

    def image_score(self, prediction: Segmentation, truth: Truth) -> float | None:
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


class InstanceMeasure(_SegmentMeasure):
    """COCO's average precision and recall of masks."""

    of_image = "quality"

    def __init__(self, labels: LabelSet) -> None:
        self._labels = labels
        self._precision = AveragePrecision(labels)

    def add(self, prediction: Segmentation, truth: Truth) -> None:
        self._precision.add(prediction, truth)

    def image_score(self, prediction: Segmentation, truth: Truth) -> float | None:
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


class DepthMeasure:
    """The errors of depth; relative depth is fitted to each image's truth by scale and shift, metres are not."""

    of_image = "AbsRel"
    is_error = True

    def __init__(self, kind: DepthKind) -> None:
        self._kind = kind
        self._errors = DepthErrors(kind)

    def read(self, data: DataSet, index: int) -> NDArray[np.float32]:
        """Metres, (H, W), 0 where they are not known."""
        assert isinstance(data, DepthDataSet)
        return data.read_depth(index)

    def add(self, prediction: Segmentation, truth: NDArray[np.float32]) -> None:
        self._errors.add(_depth(prediction), truth)

    def image_score(self, prediction: Segmentation, truth: NDArray[np.float32]) -> float | None:
        errors = DepthErrors(self._kind)
        errors.add(_depth(prediction), truth)
        return errors.scores().abs_rel if errors.images else None

    def draw(self, prediction: Segmentation, truth: NDArray[np.float32], title: str) -> Image.Image:
        return compare_depths(prediction, self._errors.aligned(_depth(prediction), truth), truth, title)

    def figures(self) -> Figures:
        scores = self._errors.scores()
        headline: dict[str, float | None] = {
            "AbsRel": scores.abs_rel,
            "SqRel": scores.sq_rel,
            "RMSE": scores.rmse,
            "log RMSE": scores.log_rmse,
            "delta1": scores.delta1,
            "delta2": scores.delta2,
            "delta3": scores.delta3,
        }
        return Figures(headline, (), (), scores)


def _depth(prediction: Segmentation) -> NDArray[np.float32]:
    depth, _ = depth_of(prediction, "measuring depth")
    return depth


def _row(quality: ClassQuality | None) -> tuple[float | int | None, ...]:
    if quality is None:
        return (None,) * 6
    counts = (quality.true_positives, quality.false_positives, quality.false_negatives)
    return (quality.pq, quality.sq, quality.rq, *counts)
