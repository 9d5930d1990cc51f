"""A data set in memory whose photographs show, in their colours, what their annotation says."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from everymask.datasets.dataset import Conventions, Truth, TruthSegment
from everymask.errors import ImageError
from everymask.geometry import Size
from everymask.labels import LabelSet
from everymask.segmentation import Region, Task

LABELS = LabelSet(("road", "sky", "car", "person"), (False, False, True, True), (None,) * 4)
COLORS = np.array([[0, 0, 0], [250, 10, 20], [20, 240, 30], [30, 40, 230], [220, 210, 20]], np.uint8)
"""The colours of "nothing annotated" and of the classes, in the photographs."""
SIZE = Size(48, 64)


class PaintedData:
    """Photographs of blocks in the colours of their classes; ``damaged`` ones cannot be read."""

    name = "painted"
    labels = LABELS
    conventions = Conventions((), 0, "their own segments")

    def __init__(
        self,
        count: int = 5,
        size: Size = SIZE,
        block: int = 8,
        tasks: tuple[Task, ...] = ("panoptic", "instance", "semantic"),
        damaged: Sequence[int] = (),
    ) -> None:
        self.names = [f"photo-{index}" for index in range(count)]
        self.size, self.block, self.tasks, self.damaged = size, block, tasks, damaged

    def read_truth(self, index: int) -> Truth:
        rng = np.random.default_rng(index)
        rows, columns = -(-self.size.height // self.block), -(-self.size.width // self.block)
        classes = rng.integers(0, len(LABELS), 7)
        coarse = rng.integers(0, len(classes) + 1, (rows, columns)).astype(np.int32)
        id_map = coarse.repeat(self.block, 0).repeat(self.block, 1)[: self.size.height, : self.size.width]
        areas = np.bincount(id_map.ravel(), minlength=len(classes) + 1)[1:]
        segments = tuple(
            TruthSegment(int(label), Region(id_map, number), int(area))
            for number, (label, area) in enumerate(zip(classes, areas, strict=True), 1)
        )
        return Truth(self.size, segments, id_map)

    def read_image(self, index: int) -> NDArray[np.uint8]:
        if index in self.damaged:
            raise ImageError(f"{self.names[index]} is damaged")
        return COLORS[self.read_truth(index).class_map() + 1]

    def source(self, index: int) -> str:
        return self.names[index]
