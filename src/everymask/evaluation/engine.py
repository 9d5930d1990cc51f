"""A model goes over annotated images, and every image is counted and forgotten."""

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everymask.datasets.dataset import DataSet, DepthDataSet
from everymask.devices import dtype_name
from everymask.errors import DataError, EverymaskError, ImageError, OptionError
from everymask.evaluation.classes import corresponding_classes, in_classes_of
from everymask.evaluation.figures import Measure, figure_text, measure_for
from everymask.evaluation.report import FailedImage, Report
from everymask.evaluation.worst import WorstImages
from everymask.labels import LabelSet
from everymask.segmentation import Segmentation, Task
from everymask.segmenter import Failure, Segmenter
from everymask.stopwatch import Stopwatch


def evaluate(
    model: Segmenter,
    data: DataSet,
    task: str | None = None,
    *,
    limit: int | None = None,
    batch_size: int = 1,
    worst: int = 0,
) -> Report:
    """The figures of ``model`` on annotated images, as ``open_dataset`` gives them.

    ``task`` is "panoptic", "instance", "semantic" or "depth"; None means the first task of the model that the data has
    annotations for. ``limit``: only the first images. ``batch_size``: how many images of equal size go through the
    network together. ``worst``: of so many of the worst images a picture is in the report.

    Panoptic and semantic results are those of a plain call of the model; instances are taken whatever their score, as
    average precision needs them. Depth can be measured of any model whose results have it, on data in metres. An image
    that cannot be read, or whose annotation cannot, is reported among the report's failures, and the others go on.
    Memory does not grow with the number of images, but for the runs and scores of instances.

    Raises OptionError for a task that the model or the data does not have, for classes that do not correspond (see
    ``corresponding_classes``) and for numbers out of range; DataError where no image at all could be evaluated.
    """
    evaluation = Evaluation(model, data, task, limit=limit, batch_size=batch_size, worst=worst)
    for _ in evaluation.run():
        pass
    return evaluation.report()


class Evaluation:
    """One evaluation, step by step; the options are those of ``evaluate``. ``total``: how many images it goes over."""

    def __init__(
        self,
        model: Segmenter,
        data: DataSet,
        task: str | None = None,
        *,
        limit: int | None = None,
        batch_size: int = 1,
        worst: int = 0,
    ) -> None:
        if limit is not None and limit < 1:
            raise OptionError(f"limit is {limit}: it must be at least 1")
        if worst < 0:
            raise OptionError(f"worst is {worst}: it must be at least 0")
        self.task = choose_task(model, data, task)
        self.total = len(data.names) if limit is None else min(limit, len(data.names))
        self._labels = LabelSet((), (), ()) if self.task == "depth" else data.labels
        self._classes = corresponding_classes(model.labels, self._labels, self.task) if self._labels.names else {}
        self._model, self._data = model, data
        self._measure: Measure[Any] = measure_for(self.task, data.labels, model.depth_kind)
        self._stopwatch = Stopwatch()
        self._worst = WorstImages(worst, errors=self._measure.is_error) if worst else None
        self._failures: list[FailedImage] = []
        self._counted = 0
        self._waiting: deque[int] = deque()  # what the model has been given and not yet returned
        self._results = model.stream(
            self._images(),
            batch_size=batch_size,
            task=self.task if self.task in model.tasks else None,  # depth beside segments comes with any task
            threshold=0.0 if self.task == "instance" else None,
            stopwatch=self._stopwatch,
        )

    def run(self) -> Iterator[int]:
        """Goes over the images, once, and gives after each step how many are done, failed ones included."""
        for result in self._results:
            index = self._waiting.popleft()
            if isinstance(result, Failure):
                self._fail(index, result.error)
            else:
                try:
                    self._count(index, result)
                except (ImageError, DataError) as error:
                    self._fail(index, error)
            yield self._counted + len(self._failures)

    def report(self) -> Report:
        """The figures of the images so far. Raises DataError where there are none."""
        if not self._counted:
            first = f"; the first: {self._failures[0].error}" if self._failures else ""
            raise DataError(f"none of the {self.total} images could be evaluated{first}")
        with self._stopwatch.phase("metric"):
            figures = self._measure.figures()
        return Report(
            model=self._model.name,
            data=self._data.name,
            task=self.task,
            engine=self._model.engine.name,
            dtype=dtype_name(self._model.engine.dtype),
            images=self._counted,
            failures=tuple(self._failures),
            labels=self._labels,
            figures=figures,
            seconds=dict(self._stopwatch.seconds),
            worst=self._worst.kept() if self._worst else (),
        )

    def _images(self) -> Iterator[NDArray[np.uint8]]:
        """The images that can be read."""
        for index in range(self.total):
            try:
                with self._stopwatch.phase("read"):
                    image = self._data.read_image(index)
            except (ImageError, DataError) as error:
                self._fail(index, error)
                continue
            self._waiting.append(index)
            yield image

    def _count(self, index: int, result: Segmentation) -> None:
        with self._stopwatch.phase("read"):
            truth = self._measure.read(self._data, index)
        prediction = result if self.task == "depth" else in_classes_of(result, self._labels, self._classes)
        with self._stopwatch.phase("metric"):
            self._measure.add(prediction, truth)
        self._counted += 1
        if self._worst is None:
            return
        score = self._measure.image_score(prediction, truth)
        if score is not None:
            name = self._data.names[index]
            title = f"{name}: {figure_text(self._measure.of_image, score)}"
            self._worst.offer(name, score, lambda: self._measure.draw(prediction, truth, title))

    def _fail(self, index: int, error: EverymaskError) -> None:
        self._failures.append(FailedImage(self._data.names[index], str(self._data.source(index)), error))


def choose_task(model: Segmenter, data: DataSet, task: str | None) -> Task:
    """The task to evaluate; of None the first of the model's that the data has. Depth beside segments comes last.

    Raises OptionError where the model or the data has no such task, or they share none, and for depth of data that is
    not in metres.
    """
    tasks: tuple[Task, ...] = model.tasks
    if model.depth_kind is not None and "depth" not in tasks:
        tasks = (*tasks, "depth")
    chosen = _shared_task(model.name, tasks, data, task)
    if chosen == "depth":
        check_metres(data)
    return chosen


def check_metres(data: DataSet) -> None:
    """Raises OptionError where the depth of data is not in metres, in which errors are measured."""
    if isinstance(data, DepthDataSet) and data.depth_kind == "relative":
        raise OptionError(
            f"the depth of {data.name} is relative, without a unit, and errors are measured in metres: choose data in "
            "metres (where a network is trained, none to validate on will do)"
        )


def _shared_task(name: str, tasks: tuple[Task, ...], data: DataSet, task: str | None) -> Task:
    """``task`` or the first of a model's ``tasks`` that the data has."""
    if task is None:
        shared = [each for each in tasks if each in data.tasks]
        if not shared:
            raise OptionError(
                f"{name} does {', '.join(tasks)} and {data.name} has annotations for "
                f"{', '.join(data.tasks)}: choose a model and data that share a task"
            )
        return shared[0]
    for each in tasks:
        if each == task:
            if each not in data.tasks:
                raise OptionError(f"{data.name} has no {task} annotations: choose {' or '.join(data.tasks)}")
            return each
    raise OptionError(f"{name} cannot do the task {task!r}: choose {' or '.join(tasks)}")
