"""The result of a segmentation: a Segmentation of Segments."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from everymask.errors import OptionError
from everymask.geometry import Size
from everymask.labels import LabelSet
from everymask.runs import Runs

if TYPE_CHECKING:
    from PIL.Image import Image

Task = Literal["panoptic", "instance", "semantic", "depth"]
TASKS: tuple[Task, ...] = ("panoptic", "instance", "semantic")
"""The three ways to read a set of queries; depth is no reading of them."""

DepthKind = Literal["metric", "relative"]
"""Metric depth is in metres, larger is farther. Relative depth is an inverse depth without a unit: larger is nearer."""

DEPTH_UNITS: dict[DepthKind, str | None] = {"metric": "m", "relative": None}

DepthDrawing = Literal["shade", "order", "map"]
"""How depth shows in a drawing: in the lightness of the segments, in what is on top, or alone and in colour."""
DEPTH_DRAWINGS: tuple[DepthDrawing, ...] = ("shade", "order", "map")

Legend = bool | Literal["labels", "segments"]
"""What the rows of a drawing's legend stand for; True is "labels", False is no legend."""


@dataclass(frozen=True, slots=True)
class Region:
    """The pixels of one id in an id map that several segments share."""

    id_map: NDArray[np.int32]
    id: int


@dataclass(frozen=True, slots=True)
class DepthRange:
    """The depths inside a segment, in the unit of the result's depth."""

    median: float
    minimum: float
    maximum: float


@dataclass(frozen=True, slots=True)
class Segment:
    """One labelled piece of an image.

    ``id`` counts from 1 within the image. ``score`` is in 0..1, or None for semantic segments, which have none.
    ``area`` is in pixels. ``box`` is the tight (x, y, width, height) in pixels of the original image.
    ``pixels`` holds the mask compactly; ``mask`` and ``runs`` give it in either form. ``depth`` is filled when the
    result has depth. ``query`` is the network's query that the segment was decoded from, the first of them where stuff
    was merged; None where it comes from none, as semantic ones, or from a file. It does not count in comparisons.
    """

    id: int
    label: str
    label_id: int
    score: float | None
    area: int
    box: tuple[int, int, int, int]
    is_thing: bool
    pixels: Runs | Region = field(repr=False)
    depth: DepthRange | None = None
    query: int | None = field(default=None, compare=False)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The mask, (H, W) bool, in the original image's frame."""
        if isinstance(self.pixels, Runs):
            return self.pixels.to_mask()
        mask: NDArray[np.bool_] = self.pixels.id_map == self.pixels.id
        return mask

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
    ``depth`` (H, W) float32 is there when the model gives it, alone (task "depth", no segments) or beside the segments;
    ``depth_kind`` says what its numbers mean.
    """

    task: Task
    size: Size
    segments: tuple[Segment, ...]
    id_map: NDArray[np.int32] | None
    labels: LabelSet
    image: NDArray[np.uint8] | None = field(default=None, repr=False)
    dropped: tuple[Dropped, ...] | None = field(default=None, repr=False)
    depth: NDArray[np.float32] | None = field(default=None, repr=False)
    depth_kind: DepthKind | None = None

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

    @property
    def names(self) -> tuple[str, ...]:
        """What each of ``segments`` is called: by label, instances with a number from 0, as in "car-1" and "sky"."""
        seen: Counter[int] = Counter()
        names = []
        for segment in self.segments:
            is_instance = segment.is_thing and self.task != "semantic"
            names.append(f"{segment.label}-{seen[segment.label_id]}" if is_instance else segment.label)
            seen[segment.label_id] += 1
        return tuple(names)

    def draw(self, *, legend: Legend = False, depth: DepthDrawing | None = None) -> "Image":
        """The image with its segments in colour: an RGB picture of the original size, larger when it has a legend.

        A label has the same colour in every picture; its instances are shades of it. Where masks overlap the higher
        score is on top. The legend, beside or below the image, gives every label's colour, its number of segments and
        its share of the image's area; ``legend="segments"`` gives the colour, score and share of every segment, named
        as in ``names``.

        ``depth`` brings in the depth of a result that has it: "shade" gives every pixel of a segment a lightness by
        its depth, nearer is lighter; "order" puts the nearer segment (by its median) on top where masks overlap; "map"
        draws the depth alone, nearer is brighter, with the image left out. The legend of "shade" and "map" has a bar
        of depths, in metres where they are. A result of depth alone is drawn as "map".

        Raises OptionError when ``image`` is None and the drawing shows it, for an unknown ``legend``, and for a
        ``depth`` that this result cannot have: it has no depth, no segments to shade, or no masks that overlap.
        """
        from everymask.drawing import draw

        return draw(self, legend=legend, depth=depth)

    def save(self, folder: str | Path, formats: Sequence[str], stem: str = "image") -> list[Path]:
        """Saves the result as files of ``folder`` that start with ``stem``, and returns their paths.

        ``formats`` are any of "overlay", "panoptic-png", "coco", "masks" and "json", and for a result with depth
        "depth-png", "depth-tiff" and "depth-npz"; ``everymask.formats.save`` says which files each makes. Nothing is
        ever half-written. Raises OptionError for an unknown format, one that cannot hold this result, a stem that is
        no file name, and a folder that cannot be written.
        """
        from everymask.formats import save

        return save(self, folder, formats, stem)


def depth_of(result: Segmentation, wish: str) -> tuple[NDArray[np.float32], DepthKind]:
    """The depth of a result and its kind. Raises OptionError, saying that ``wish`` needs it, when there is none."""
    if result.depth is None or result.depth_kind is None:
        raise OptionError(
            f"{wish} needs depth, and this result has none: load a model that gives depth, alone or beside another as "
            'in everymask.load(name, depth="Intel/dpt-large")'
        )
    return result.depth, result.depth_kind
