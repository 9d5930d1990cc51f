"""What an evaluation says in the end."""

from dataclasses import dataclass
from typing import Any

from everymask.errors import EverymaskError
from everymask.evaluation.figures import Figures
from everymask.evaluation.worst import WorstImage
from everymask.labels import LabelSet
from everymask.segmentation import Task
from everymask.stopwatch import Phase


@dataclass(frozen=True, slots=True)
class FailedImage:
    """An image that is not in the figures: its ``name``, where it lies, and why."""

    name: str
    source: str
    error: EverymaskError


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of a ``model`` on a data set.

    ``engine`` and ``dtype``: what ran the network and what it computed in, such as "eager" and "bfloat16"; figures of
    two dtypes may differ in the second decimal of a percentage. ``images``: over how many images the figures go;
    ``failures``: those that they leave out. ``labels`` are the data set's: ``figures.classes`` follows them.
    ``seconds``: how long each phase took for all images together. ``worst``: as many of the worst images as were asked
    for, the worst first. ``labels`` are empty for depth.
    """

    model: str
    data: str
    task: Task
    engine: str
    dtype: str
    images: int
    failures: tuple[FailedImage, ...]
    labels: LabelSet
    figures: Figures
    seconds: dict[Phase, float]
    worst: tuple[WorstImage, ...]

    def to_json(self) -> dict[str, Any]:
        """All of it but the pictures, in what JSON has: shares in 0..1, null where there is no figure; metres."""
        classes = [
            {
                "label": self.labels.names[index],
                **dict(zip(self.figures.columns, self.figures.classes[index], strict=True)),
            }
            for index in self.labels.classes
        ]
        return {
            "model": self.model,
            "data": self.data,
            "task": self.task,
            "engine": self.engine,
            "dtype": self.dtype,
            "images": self.images,
            **self.figures.headline,
            "classes": classes,
            "seconds": dict(self.seconds),
            "failures": [{"image": each.name, "error": str(each.error)} for each in self.failures],
            "worst": [{"image": each.name, "score": each.score} for each in self.worst],
        }
