"""A data set in memory, and the annotations of maps and masks."""

from dataclasses import dataclass, field

import numpy as np

from everymask.datasets.dataset import Conventions, Truth, TruthSegment
from everymask.geometry import Size
from everymask.labels import LabelSet
from everymask.runs import Runs
from everymask.segmentation import Region


@dataclass
class MemoryDataSet:
    """``images`` and ``truths`` by index; one that is an error is raised instead."""

    labels: LabelSet
    images: list
    truths: list
    tasks: tuple = ("panoptic", "instance", "semantic")
    name: str = "memory"
    conventions: Conventions = field(default=Conventions((255,), 0, "in memory"))

    @property
    def names(self):
        return [f"image-{index}" for index in range(len(self.images))]

    def read_image(self, index):
        return _give(self.images[index])

    def read_truth(self, index):
        return _give(self.truths[index])

    def source(self, index):
        return f"memory/{index}"


def class_truth(class_map):
    """The annotation of a class map (H, W), 255 being ignored: a segment a class."""
    class_map = np.asarray(class_map)
    id_map = np.zeros(class_map.shape, np.int32)
    for id, label_id in enumerate(classes := [c for c in np.unique(class_map).tolist() if c != 255], start=1):
        id_map[class_map == label_id] = id
    return map_truth(id_map, classes)


def map_truth(id_map, label_ids, crowds=()):
    """The annotation of an id map (H, W) whose segments 1, 2 ... have these classes; ``crowds`` are ids."""
    id_map = np.asarray(id_map, np.int32)
    segments = tuple(
        TruthSegment(label_id, Region(id_map, id), int((id_map == id).sum()), id in crowds)
        for id, label_id in enumerate(label_ids, start=1)
    )
    return Truth(Size(*id_map.shape), segments, id_map)


def mask_truth(masks, label_ids, crowds=()):
    """The annotation of masks (H, W) bool that may overlap; ``crowds`` are indices."""
    runs = [Runs.from_mask(np.asarray(mask, bool)) for mask in masks]
    segments = tuple(
        TruthSegment(label_id, each, each.area, index in crowds)
        for index, (each, label_id) in enumerate(zip(runs, label_ids, strict=True))
    )
    return Truth(runs[0].size, segments, None)


def _give(value):
    if isinstance(value, Exception):
        raise value
    return value
