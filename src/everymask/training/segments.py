"""What the annotation of an image comes to as the segments of a task."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from everymask.datasets.dataset import Truth
from everymask.labels import LabelSet
from everymask.runs import Runs
from everymask.segmentation import Task
from everymask.training.instances import components

InstancesFrom = Literal["annotations", "components"]
"""Where instances come from: the annotation tells things apart, or each connected part of a thing's class is one."""

LEAST_AREA = 24  # pixels of a connected part that stands for itself: what is smaller is mostly a slip of the pencil


@dataclass(frozen=True, slots=True)
class Segments:
    """The segments of an image: ``id_map`` (H, W) int32 gives for every pixel a place in ``classes``, or -1."""

    id_map: NDArray[np.int32]
    classes: tuple[int, ...]


def segments_of(truth: Truth, labels: LabelSet, task: Task, instances_from: InstancesFrom) -> Segments:
    """The segments that a network should find for a task.

    Panoptic: every thing is one, and so is each class of stuff. Instance: things alone. Semantic: each class is one,
    things or not. Crowds, and what is not annotated, belong to no segment. Where annotated things overlap, a pixel goes
    to the smallest; for the semantic task it goes to the later one, as in ``Truth.class_map``. Memory does not depend
    on the number of segments.
    """
    if task != "semantic" and instances_from == "components":
        id_map, classes = components(truth.class_map(), labels, LEAST_AREA)
        return _things(id_map, classes, labels) if task == "instance" else Segments(id_map, tuple(classes))
    places: dict[int, int] = {}  # of merged classes
    chosen: list[int] = []  # the class of each segment
    table = np.full(len(truth.segments) + 1, -1, np.int32)  # from a place in truth.segments + 1 to one in chosen
    for number, segment in enumerate(truth.segments, 1):
        thing = labels.things[segment.label_id]
        if segment.is_crowd or (task == "instance" and not thing):
            continue
        if (task == "semantic" or not thing) and segment.label_id in places:
            table[number] = places[segment.label_id]
            continue
        places[segment.label_id] = table[number] = len(chosen)
        chosen.append(segment.label_id)
    if truth.id_map is not None:
        return Segments(table[truth.id_map], tuple(chosen))
    return Segments(_painted(truth, table, by_area=task != "semantic"), tuple(chosen))


def _painted(truth: Truth, table: NDArray[np.int32], *, by_area: bool) -> NDArray[np.int32]:
    """The id map (H, W) of segments that may overlap, painted one after another."""
    id_map = np.full(truth.size, -1, np.int32)
    numbers = list(range(len(truth.segments)))
    if by_area:
        # What is no segment here, such as a crowd, lies under all others.
        numbers = [number for number in numbers if table[number + 1] >= 0]
        numbers.sort(key=lambda number: -truth.segments[number].area)
    for number in numbers:
        pixels = truth.segments[number].pixels
        assert isinstance(pixels, Runs)
        id_map[pixels.to_mask()] = table[number + 1]
    return id_map


def _things(id_map: NDArray[np.int32], classes: list[int], labels: LabelSet) -> Segments:
    """The things among segments."""
    kept = [number for number, index in enumerate(classes) if labels.things[index]]
    table = np.full(len(classes) + 1, -1, np.int32)  # the id -1 reads the last entry
    table[kept] = np.arange(len(kept))
    return Segments(table[id_map], tuple(classes[number] for number in kept))
