"""The result of a segmentation: a Segmentation of Segments."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from everymask.geometry import Size
from everymask.labels import LabelSet
from everymask.runs import Runs

Task = Literal["panoptic", "instance", "semantic"]
TASKS: tuple[Task, ...] = ("panoptic", "instance", "semantic")


@dataclass(frozen=True, slots=True)
class Region:
    """The pixels of one id in an id map that several segments share."""

    id_map: NDArray[np.int32]
    id: int


@dataclass(frozen=True, slots=True)
class Segment:
    """One labelled piece of an image.

    ``id`` counts from 1 within the image. ``score`` is in 0..1, or None for semantic segments, which have none.
    ``area`` is in pixels. ``box`` is the tight (x, y, width, height) in pixels of the original image.
    ``pixels`` holds the mask compactly; ``mask`` and ``runs`` give it in either form.
    """

    id: int
    label: str
    label_id: int
    score: float | None
    area: int
    box: tuple[int, int, int, int]
    is_thing: bool
    pixels: Runs | Region = field(repr=False)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The mask, (H, W) bool, in the original image's frame."""
        if isinstance(self.pixels, Runs):
            return self.pixels.to_mask()
        return self.pixels.id_map == self.pixels.id

    @property
    def runs(self) -> Runs:
        """The mask as COCO run-length encoding."""
        if isinstance(self.pixels, Runs):
            return self.pixels
        return Runs.from_mask(self.mask)


@dataclass(frozen=True, slots=True)
class Dropped:
    """A query that decoding left out, and why (``explain=True``)."""

    query: int
    label: str
    score: float
    reason: str


@dataclass(frozen=True)
class Segmentation:
    """What was found in one image.

    ``segments`` come by falling score (semantic: by falling area). ``id_map`` (H, W) int32 holds each pixel's segment
    id and 0 for "no segment"; it is None for the instance task, whose masks may overlap. ``image`` (H, W, 3) uint8 is
    the picture itself, for drawing. ``dropped`` is filled when the call asked for an explanation.
    """

    task: Task
    size: Size
    segments: tuple[Segment, ...]
    id_map: NDArray[np.int32] | None
    labels: LabelSet
    image: NDArray[np.uint8] | None = field(default=None, repr=False)
    dropped: tuple[Dropped, ...] | None = field(default=None, repr=False)

    @cached_property
    def label_map(self) -> NDArray[np.int32]:
        """The class index of every pixel, (H, W) int32; -1 where no segment is. Overlaps go to the higher score."""
        if self.id_map is not None:
            label_of_id = np.full(1 + max((s.id for s in self.segments), default=0), -1, np.int32)
            for segment in self.segments:
                label_of_id[segment.id] = segment.label_id
            return label_of_id[self.id_map]
        label_map = np.full(self.size, -1, np.int32)
        for segment in reversed(self.segments):
            label_map[segment.mask] = segment.label_id
        return label_map
