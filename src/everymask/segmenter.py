"""The way of an image from start to end: read, prepare, network, decode; for one image or a stream of them."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from everymask.checkpoints import Checkpoint
from everymask.decoding import (
    DecodingOptions,
    class_scores,
    decode,
    decode_windows,
    decoding_options,
    relevant_queries,
)
from everymask.decoding.depth import decode_depth, with_depth
from everymask.description import describe
from everymask.engines.engine import Engine, Inputs
from everymask.errors import EverymaskError, OptionError
from everymask.geometry import Size
from everymask.images import read_image
from everymask.labels import LabelSet
from everymask.networks.outputs import DepthMap, MaskQueries, Output, PixelLogits, PixelsAndDepth
from everymask.preprocessing import Prepared, Preprocessing, prepare
from everymask.segmentation import DepthKind, Segmentation, Task
from everymask.stopwatch import Stopwatch, timed
from everymask.streaming import read_ahead

# How many batches' worth of images a stream holds at most while it looks for companions of equal size.
_WINDOW_BATCHES = 4
# How many images are read ahead at least: one that waits for the network, one that is being read.
_LEAST_AHEAD = 2


@dataclass(frozen=True, slots=True)
class Failure:
    """What a stream yields in the place of a result: the source as it was given, and the error it caused."""

    source: Any
    error: EverymaskError


class Segmenter:
    """A loaded model; calling it segments an image.

    ``name`` is what was loaded, ``tasks`` what it can do (the first is the default), ``labels`` its classes,
    ``license`` that of its weights where known, ``network`` the nn.Module and ``engine`` what runs it.
    ``depth_kind`` says what the depth in its results means, None where they have none. ``description`` is what else a
    user should know of the network, None for most; ``describe()`` tells it all. ``preprocessing`` is how an image
    becomes the network's input.
    ``task_tokens`` (length,) int64 for each task are what a network that is told its task takes
    beside the image; None for all others.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        engine: Engine,
        depth_model: "Segmenter | None" = None,
    ) -> None:
        """``engine`` runs the checkpoint's network."""
        self.name: str = checkpoint.name
        self.tasks: tuple[Task, ...] = checkpoint.tasks
        self.labels: LabelSet = checkpoint.labels
        self.license: str | None = checkpoint.license
        self.network: nn.Module = checkpoint.network
        self.engine: Engine = engine
        self.task_tokens = checkpoint.task_tokens
        self.depth_kind: DepthKind | None = depth_model.depth_kind if depth_model else checkpoint.depth_kind
        self._depth_model = depth_model
        self._scores_at_mask_size = checkpoint.scores_at_mask_size
        self.preprocessing: Preprocessing = checkpoint.preprocessing
        self.description: str | None = checkpoint.description

    def describe(self) -> dict[str, str]:
        """The facts about the model by what they are about: tasks, network, classes, depth, input, licence."""
        return describe(self)

    def prepare(self, image: Any) -> Prepared:
        """The network's input for an image: ``pixel_values`` (1, 3, h, w) float32 on the CPU, and its Geometry.

        Where the geometry has several windows, the network takes the windows of the result one after another.

        ``image`` is anything ``read_image`` takes. Raises ImageError where it cannot be read.
        """
        return prepare(read_image(image), self.preprocessing)

    def __call__(
        self,
        image: Any,
        *,
        task: str | None = None,
        threshold: float | None = None,
        mask_threshold: float | None = None,
        overlap_threshold: float | None = None,
        explain: bool = False,
        stopwatch: Stopwatch | None = None,
    ) -> Segmentation:
        """Segments one image: a path, URL, bytes, binary file, PIL image, array or tensor.

        ``task`` is "panoptic", "instance", "semantic" or "depth"; None means the first of ``tasks``. The thresholds are
        in 0..1 and None means the task's default: ``threshold`` is what a query's score must exceed, ``mask_threshold``
        the probability from which a pixel is in a mask, ``overlap_threshold`` the share of its mask a panoptic segment
        must keep. ``explain=True`` fills the result's ``dropped``. ``stopwatch`` is told how long reading, preparing,
        the network and decoding take. Raises ImageError for a bad image, OptionError for a task the model cannot do, a
        value out of range or an option without meaning for the task.
        """
        options = self._options(task, threshold, mask_threshold, overlap_threshold, explain)
        [result] = self._segment([self._read(image, stopwatch)], options, stopwatch)
        return result

    def stream(
        self,
        sources: Iterable[Any],
        *,
        batch_size: int = 1,
        task: str | None = None,
        threshold: float | None = None,
        mask_threshold: float | None = None,
        overlap_threshold: float | None = None,
        explain: bool = False,
        stopwatch: Stopwatch | None = None,
    ) -> Iterator[Segmentation | Failure]:
        """Segments image after image, in the order of ``sources``.

        While the network is at work, threads read and prepare the next images, ``batch_size`` of them and two at least:
        ``sources`` is asked for no more than these and what a batch needs, always in the thread that asks for results.
        A source that cannot be read or prepared, or whose size the engine does not take, yields a Failure in its place;
        the others are not affected.
        Up to ``batch_size`` images go through the network together, only images whose network input has the same
        size, so that no result depends on its companions; to find such images, up to 4 batches of them are held in
        memory. ``stopwatch`` is told how long reading, preparing, the network and decoding take, each in its own
        thread, but not of waiting for a reader; on a GPU it waits for the network. The other options are those of a
        call; wrong ones raise OptionError here, before anything is read.
        """
        if isinstance(sources, str | bytes | os.PathLike) or not isinstance(sources, Iterable):
            raise OptionError("stream takes an iterable of images: wrap a single image in a list, or call the model")
        if batch_size < 1:
            raise OptionError(f"batch_size is {batch_size}: it must be at least 1")
        options = self._options(task, threshold, mask_threshold, overlap_threshold, explain)
        return self._stream(iter(sources), batch_size, options, stopwatch)

    def _stream(
        self, sources: Iterator[Any], batch_size: int, options: DecodingOptions, stopwatch: Stopwatch | None
    ) -> Iterator[Segmentation | Failure]:
        def read(source: Any) -> Callable[[], _Slot]:
            return self._reading(source, stopwatch)

        window: deque[_Slot] = deque()
        with closing(read_ahead(sources, read, max(_LEAST_AHEAD, batch_size))) as slots:
            while True:
                while window and (ready := window[0].result) is not None:
                    window.popleft()
                    yield ready
                batch = _batch_of_first(window, batch_size)
                wants_more = len(batch) < batch_size and len(window) < _WINDOW_BATCHES * batch_size
                if wants_more and (slot := next(slots, None)) is not None:
                    window.append(slot)
                elif batch:
                    self._fill(batch, options, stopwatch)
                else:
                    return

    def _fill(self, batch: "Sequence[_Slot]", options: DecodingOptions, stopwatch: Stopwatch | None) -> None:
        """Puts results in the place of images that wait, or Failures where the engine takes none of their size."""
        images = [waiting for slot in batch if (waiting := slot.waiting) is not None]
        try:
            results: Sequence[Segmentation | EverymaskError] = self._segment(images, options, stopwatch)
        except EverymaskError as error:
            results = [error] * len(images)
        for slot, result in zip(batch, results, strict=True):
            slot.waiting = None
            slot.result = Failure(slot.source, result) if isinstance(result, EverymaskError) else result

    def _reading(self, source: Any, stopwatch: Stopwatch | None) -> "Callable[[], _Slot]":
        """What is left to do with a source in a thread: pixels that its owner may change or read on are read here."""
        if isinstance(source, str | bytes | os.PathLike):
            return lambda: _slot(source, lambda: self._read(source, stopwatch))
        try:
            image = _pixels(source, stopwatch)
        except EverymaskError as error:
            failed = _Slot(source, result=Failure(source, error))
            return lambda: failed
        return lambda: _slot(source, lambda: self._prepare(image, stopwatch))

    def _read(self, source: Any, stopwatch: Stopwatch | None = None) -> "_Waiting":
        return self._prepare(_pixels(source, stopwatch), stopwatch)

    def _prepare(self, image: NDArray[np.uint8], stopwatch: Stopwatch | None) -> "_Waiting":
        with timed(stopwatch, "prepare"):
            for_depth = None if self._depth_model is None else prepare(image, self._depth_model.preprocessing)
            return _Waiting(image, prepare(image, self.preprocessing), for_depth)

    def _segment(
        self, images: Sequence["_Waiting"], options: DecodingOptions, stopwatch: Stopwatch | None = None
    ) -> list[Segmentation]:
        """The results of images whose network inputs have the same size."""
        with torch.inference_mode(), timed(stopwatch, "decode"):
            if len(images[0].prepared.geometry.windows) > 1:
                results = [self._segment_in_windows(image, options, len(images), stopwatch) for image in images]
            else:
                results = self._segment_whole(images, options, stopwatch)
            inputs = [image.for_depth for image in images if image.for_depth is not None]
            if self._depth_model is None or self.depth_kind is None or not inputs:
                return results
            depths = self._depth_model._depths(inputs, stopwatch)
            kind = self.depth_kind
            return [with_depth(result, depth, kind) for result, depth in zip(results, depths, strict=True)]

    def _segment_whole(
        self, images: Sequence["_Waiting"], options: DecodingOptions, stopwatch: Stopwatch | None
    ) -> list[Segmentation]:
        output = self._run([image.prepared.pixel_values for image in images], options, stopwatch)
        results = []
        for index, image in enumerate(images):
            geometry = image.prepared.geometry
            if isinstance(output, DepthMap):
                result = Segmentation("depth", geometry.original, (), None, self.labels, image.pixels)
            else:
                classes = output.pixels if isinstance(output, PixelsAndDepth) else output
                result = decode(classes, index, geometry, self.labels, options, image.pixels)
            depth = _depth_of(output)
            if depth is not None and self.depth_kind is not None:
                result = with_depth(result, decode_depth(depth[index], geometry), self.depth_kind)
            results.append(result)
        return results

    def _segment_in_windows(
        self, image: "_Waiting", options: DecodingOptions, at_once: int, stopwatch: Stopwatch | None
    ) -> Segmentation:
        """``at_once``: how many windows go through the network together."""
        windows = image.prepared.windows()

        def outputs() -> Iterator[MaskQueries | PixelLogits]:
            while batch := list(islice(windows, at_once)):
                output = self._run(batch, options, stopwatch)
                if isinstance(output, PixelsAndDepth):
                    output = output.pixels
                if not isinstance(output, DepthMap):
                    yield output

        return decode_windows(outputs(), image.prepared.geometry, self.labels, options, image.pixels)

    def _depths(self, inputs: Sequence[Prepared], stopwatch: Stopwatch | None) -> list[NDArray[np.float32]]:
        """The depth of every pixel of the original images."""
        output = self._run([each.pixel_values for each in inputs], decoding_options("depth"), stopwatch)
        depth = _depth_of(output)
        assert depth is not None
        return [decode_depth(each, prepared.geometry) for each, prepared in zip(depth, inputs, strict=True)]

    def _run(self, inputs: Sequence[torch.Tensor], options: DecodingOptions, stopwatch: Stopwatch | None) -> Output:
        """What the network says about ``inputs``, (1, 3, h, w) each, of one size."""
        with timed(stopwatch, "network"):
            output = self._forward(torch.cat(tuple(inputs)), options)
            if stopwatch is not None and self.engine.device.type != "cpu":
                torch.accelerator.synchronize(self.engine.device)  # it is still at work when the network returns
            return output

    def _forward(self, pixel_values: torch.Tensor, options: DecodingOptions) -> Output:
        """What the network says about a batch (B, 3, h, w); masks that decoding will not read may be left out."""
        tokens = None
        if self.task_tokens is not None:
            tokens = self.task_tokens[options.task].expand(len(pixel_values), -1)  # (B, length)
        output = self.engine(Inputs(pixel_values, tokens, relevant_queries(options, self.labels)))
        if self._scores_at_mask_size and isinstance(output, MaskQueries) and options.task == "semantic":
            return PixelLogits(class_scores(output.class_logits, output.mask_logits))
        return output

    def _options(
        self,
        task: str | None,
        threshold: float | None,
        mask_threshold: float | None,
        overlap_threshold: float | None,
        explain: bool,
    ) -> DecodingOptions:
        chosen = self.tasks[0] if task is None else next((each for each in self.tasks if each == task), None)
        if chosen is None:
            raise OptionError(f"{self.name} cannot do the task {task!r}: choose {' or '.join(self.tasks)}")
        return decoding_options(
            chosen,
            threshold=threshold,
            mask_threshold=mask_threshold,
            overlap_threshold=overlap_threshold,
            explain=explain,
        )


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An image on its way to the network: ``pixels`` (H, W, 3) uint8 as read, and prepared, also for a depth model."""

    pixels: NDArray[np.uint8]
    prepared: Prepared
    for_depth: Prepared | None

    @property
    def sizes(self) -> tuple[Size, ...]:
        """The sizes of all network inputs that come from the image."""
        inputs = (self.prepared, self.for_depth)
        return tuple(size for each in inputs if each for size in (each.geometry.padded, each.geometry.canvas))


@dataclass(slots=True)
class _Slot:
    """A place in a stream's order: the source, first with an image that waits, then with what came of it."""

    source: Any
    waiting: _Waiting | None = None
    result: Segmentation | Failure | None = None


def _pixels(source: Any, stopwatch: Stopwatch | None) -> NDArray[np.uint8]:
    with timed(stopwatch, "read"):
        return read_image(source)


def _slot(source: Any, read: Callable[[], _Waiting]) -> _Slot:
    try:
        return _Slot(source, waiting=read())
    except EverymaskError as error:
        return _Slot(source, result=Failure(source, error))


def _depth_of(output: Output) -> torch.Tensor | None:
    """The depth (B, h, w) in what a network says, if there is one."""
    if isinstance(output, PixelsAndDepth):
        return output.depth.depth
    return output.depth if isinstance(output, DepthMap) else None


def _batch_of_first(window: Iterable[_Slot], batch_size: int) -> list[_Slot]:
    """The first waiting image and those after it with the same network input sizes, ``batch_size`` at most."""
    waiting = [(slot, slot.waiting.sizes) for slot in window if slot.waiting is not None]
    return [slot for slot, sizes in waiting if sizes == waiting[0][1]][:batch_size]
