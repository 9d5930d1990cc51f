"""The image-segmentation pipeline: a Segmenter's results as transformers' list of dictionaries."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, TypedDict, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from everymask.compat.transformers.errors import ArgumentTypeError
from everymask.compat.transformers.pipelines.base import Pipeline, results
from everymask.compat.transformers.pipelines.decoding import decode_like_transformers
from everymask.compat.transformers.pipelines.inputs import Answers, Source
from everymask.errors import OptionError
from everymask.segmentation import Segment, Segmentation, Task
from everymask.segmenter import Segmenter

Decoding = Literal["everymask", "transformers"]
"""How a network's output is read: as its authors published it, or as transformers does."""


class Annotation(TypedDict):
    """One segment: class name, ``mask`` of mode "L", 0 or 255, and ``score``.

    The score is in 0..1, of 6 digits; None for semantic segments.
    """

    score: float | None
    label: str
    mask: Image.Image


@dataclass(frozen=True, slots=True)
class SegmentationOptions:
    """What a call may say, with transformers' names and defaults; see ``ImageSegmentationPipeline.__call__``."""

    subtask: str | None = None
    threshold: float = 0.9
    mask_threshold: float = 0.5
    overlap_mask_area_threshold: float | None = None
    timeout: float | None = None


class ImageSegmentationPipeline(Pipeline[SegmentationOptions, list[Annotation]]):
    """Segments images as transformers' pipeline of the same name does; made by ``pipeline("image-segmentation")``.

    ``names``: what classes are called by index, None for the names that the model gives them.
    ``decoding``: see ``Decoding``. ``options``: those of a call, which hold where a call does not say otherwise.
    Raises OptionError for a model of depth alone and for an unknown decoding.
    """

    task = "image-segmentation"

    def __init__(
        self,
        model: Segmenter,
        *,
        names: Sequence[str] | None = None,
        decoding: Decoding = "everymask",
        num_workers: int | None = None,
        batch_size: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(model, SegmentationOptions(), options, num_workers=num_workers, batch_size=batch_size)
        if model.tasks == ("depth",):
            raise OptionError(f'{model.name} gives depth and no segments: use pipeline("depth-estimation")')
        if decoding not in get_args(Decoding):
            raise OptionError(f"unknown decoding {decoding!r}: choose {' or '.join(get_args(Decoding))}")
        self.decoding = decoding
        self._names = model.labels.names if names is None else names

    def __call__(
        self, inputs: Any = None, *, num_workers: int | None = None, batch_size: int | None = None, **options: Any
    ) -> list[Annotation] | list[list[Annotation]] | Answers[list[Annotation]]:
        """Segments one image, or several: a list for a list, Answers for a data set or generator.

        ``inputs`` (also named ``images``): a URL, path, base64 string or PIL image, or many of them. The others are:

        - ``subtask``: "panoptic", "instance" or "semantic"; None means the first of these that the model can do.
        - ``threshold``: what a score must exceed, 0.9. ``mask_threshold``: the probability from which a pixel is in a
          mask, 0.5. ``overlap_mask_area_threshold``: the share of its mask that a segment must keep where others want
          it, too: 0.5 for panoptic segments, for instances none if it is not given. All three mean nothing to
          semantic segments.
        - ``timeout``: seconds for a URL; None means 30.
        - ``batch_size``: how many images of equal size go through the network together; results do not depend on it.
          ``num_workers`` is checked and changes nothing: threads read ahead in any case.

        Segments come in the order of the network's queries, semantic ones in that of the classes.

        Raises OptionError (a ValueError) for a subtask that the model cannot do and values that make no sense,
        ArgumentTypeError (a TypeError) for options there are not, and for a bad image an ImageError that is also a
        ValueError (no such file), a TypeError (no image at all) or an OSError (a damaged file, a URL without answer).
        """
        if "images" in options:
            inputs = options.pop("images")
        return self._call(inputs, num_workers, batch_size, options)

    def _answer(self, image: Source, options: SegmentationOptions) -> list[Annotation]:
        if self.decoding == "everymask":
            return self._annotations(self.model(image, **self._wishes(options)), options)
        task = self._task(options)
        limits = {} if task == "semantic" else _limits(options)
        return [self._annotation(*each) for each in decode_like_transformers(self.model, image, task, limits)]

    def _answer_all(
        self, images: Iterable[Any], options: SegmentationOptions, batch_size: int
    ) -> Iterator[list[Annotation]]:
        if self.decoding == "everymask":
            found = results(self.model, images, options.timeout, batch_size=batch_size, **self._wishes(options))
            return (self._annotations(result, options) for result in found)
        return (self._answer_one(image, options) for image in images)

    def _task(self, options: SegmentationOptions) -> Task:
        for task in self.model.tasks:
            if options.subtask in (None, task):
                return task
        choice = " or ".join(self.model.tasks)
        raise OptionError(f"subtask {options.subtask!r} is not supported for {self.model.name}: choose {choice}")

    def _wishes(self, options: SegmentationOptions) -> dict[str, Any]:
        """The options of a call as a Segmenter takes them."""
        task = self._task(options)
        if task == "semantic":
            return {"task": task}
        limits = _limits(options)
        # Beyond 0..1, which everymask refuses, a limit means what the nearest end means.
        wishes = {name: min(max(limit, 0.0), 1.0) for name, limit in limits.items()}
        overlap_threshold = wishes.pop("overlap_mask_area_threshold")
        return {"task": task, **wishes, **({"overlap_threshold": overlap_threshold} if task == "panoptic" else {})}

    def _annotations(self, result: Segmentation, options: SegmentationOptions) -> list[Annotation]:
        segments = result.segments
        if result.task == "instance" and options.overlap_mask_area_threshold is not None:
            segments = _visible(segments, options.overlap_mask_area_threshold)
        ordered = sorted(segments, key=lambda each: each.label_id if each.query is None else each.query)
        return [self._annotation(each.score, each.label_id, each.mask) for each in ordered]

    def _annotation(self, score: float | None, label_id: int, mask: NDArray[np.bool_]) -> Annotation:
        return {
            "score": None if score is None else round(score, 6),
            "label": self._names[label_id],
            "mask": Image.fromarray(mask.astype(np.uint8) * np.uint8(255)),
        }


def _limits(options: SegmentationOptions) -> dict[str, float]:
    overlap = options.overlap_mask_area_threshold
    limits = {
        "threshold": options.threshold,
        "mask_threshold": options.mask_threshold,
        "overlap_mask_area_threshold": 0.5 if overlap is None else overlap,
    }
    for name, limit in limits.items():
        if not isinstance(limit, Real):
            raise ArgumentTypeError(f"{name} is {limit!r}: give a number from 0 to 1")
    return {name: float(limit) for name, limit in limits.items()}


def _visible(segments: Sequence[Segment], least: float) -> tuple[Segment, ...]:
    """Those instances, by falling score, of whose masks the ones before leave more than the share ``least``."""
    kept: list[Segment] = []
    covered: NDArray[np.bool_] | None = None
    for segment in segments:
        mask = segment.mask
        if covered is None:
            covered = np.zeros_like(mask)
        if (mask & ~covered).sum() > least * segment.area:
            kept.append(segment)
            covered |= mask
    return tuple(kept)
