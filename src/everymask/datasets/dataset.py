"""What every reader of annotated data gives: images with their segments, read one at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from everymask.geometry import Size
from everymask.labels import LabelSet
from everymask.runs import Runs
from everymask.segmentation import DepthKind, Region, Task


@dataclass(frozen=True, slots=True)
class TruthSegment:
    """One annotated piece of an image.

    ``label_id``: its class, an index into the data set's labels. ``area`` in pixels. ``is_crowd``: a group of things
    that nobody told apart; figures neither count it nor count predictions inside it as wrong. ``stated_area``: the area
    that the file gives for the object where it is not its pixels' (COCO's is that of its polygons); COCO's tools call
    objects small and large by it.
    """

    label_id: int
    pixels: Runs | Region
    area: int
    is_crowd: bool = False
    stated_area: float | None = None


@dataclass(frozen=True, slots=True)
class Truth:
    """What annotators say of one image.

    ``id_map`` (H, W) int32: for every pixel the place of its segment in ``segments`` + 1; 0 where nothing is annotated,
    which is ignored. None where segments may overlap: then each has its own runs.
    """

    size: Size
    segments: tuple[TruthSegment, ...]
    id_map: NDArray[np.int32] | None

    def class_map(self, ignored: int = -1) -> NDArray[np.int32]:
        """The class index of every pixel, (H, W) int32, and ``ignored`` where there is none or a crowd.

        Where segments overlap, the later one counts.
        """
        classes = [ignored] + [ignored if each.is_crowd else each.label_id for each in self.segments]
        if self.id_map is not None:
            return np.array(classes, np.int32)[self.id_map]
        class_map = np.full(self.size, ignored, np.int32)
        for segment, label in zip(self.segments, classes[1:], strict=True):
            assert isinstance(segment.pixels, Runs)
            class_map[segment.pixels.to_mask()] = label
        return class_map


@dataclass(frozen=True, slots=True)
class Conventions:
    """How the files of a data set say things; for people and for the doctor.

    ``ignore``: stored values that mean "no class". ``offset``: what is subtracted from a stored value to get the index
    of a class. ``things``: where things and their instances come from. ``depth``: where depth comes from, and what its
    numbers mean.
    """

    ignore: tuple[int, ...]
    offset: int
    things: str
    depth: str = "none"


class DataSet(Protocol):
    """Annotated images. Nothing but the list of them is held in memory; a data set can be sent to other processes.

    ``name``: for people. ``tasks``: what the annotations can be read as, the richest first. ``names``: of the images,
    unique, in order.
    """

    @property
    def name(self) -> str: ...

    @property
    def labels(self) -> LabelSet: ...

    @property
    def tasks(self) -> tuple[Task, ...]: ...

    @property
    def conventions(self) -> Conventions: ...

    @property
    def names(self) -> Sequence[str]: ...

    def read_image(self, index: int) -> NDArray[np.uint8]:
        """The image, (H, W, 3) uint8 RGB. Raises ImageError where it cannot be read."""

    def read_truth(self, index: int) -> Truth:
        """Its annotation. Raises DataError where it is missing, damaged or contradicts the data set."""

    def source(self, index: int) -> Any:
        """Where the image lies, for messages: a path, or the name of a member of an archive or URL."""


@runtime_checkable
class DepthDataSet(DataSet, Protocol):
    """Images whose depth is known, with or without segments.

    ``depth_kind``: what the depth of every image means. Where depth is all that is annotated, ``tasks`` is ("depth",),
    there are no labels, and truths have no segments.
    """

    @property
    def depth_kind(self) -> DepthKind: ...

    def read_depth(self, index: int) -> NDArray[np.float32]:
        """The depth of every pixel, (H, W) float32: metres, or for relative depth an inverse depth of any scale and
        shift. All values are finite, and 0 where the depth is not known. Raises DataError where it is missing, damaged
        or contradicts the data set, and ImageError where the image's size cannot be read.
        """
