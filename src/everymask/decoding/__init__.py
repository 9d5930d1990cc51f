"""From what a network says about an image to a Segmentation of the original image."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from everymask.decoding.instance import decode_instance
from everymask.decoding.options import DecodingOptions, decoding_options
from everymask.decoding.panoptic import decode_panoptic
from everymask.decoding.relevance import class_probabilities, relevant_queries
from everymask.decoding.resizing import make_grid
from everymask.decoding.semantic import class_scores, decode_pixels, decode_semantic
from everymask.decoding.windows import PixelWindow, QueryWindow, Window, decode_semantic_windows
from everymask.errors import CheckpointError, OptionError
from everymask.geometry import Geometry, Size
from everymask.labels import LabelSet
from everymask.networks.outputs import MaskQueries, PixelLogits
from everymask.segmentation import Segmentation

__all__ = ["DecodingOptions", "class_scores", "decode", "decode_windows", "decoding_options", "relevant_queries"]


def decode(
    output: MaskQueries | PixelLogits,
    index: int,
    geometry: Geometry,
    labels: LabelSet,
    options: DecodingOptions,
    image: NDArray[np.uint8] | None,
) -> Segmentation:
    """Reads image ``index`` of a batch of queries or pixel logits as a segmentation of the original image.

    The tensors may be of any floating dtype (all is computed in float32) and on any device; the result is on the CPU.
    ``image`` (H, W, 3) uint8 travels along in the result. Memory does not grow with the number of queries or classes
    times the image.

    Raises CheckpointError when the network has another number of classes than the label set.
    """
    classes = _without_holes(labels)
    size = Size(*geometry.original)
    if isinstance(output, PixelLogits):
        logits = _pixel_logits(output, index, labels)
        grid = make_grid(geometry, Size(*logits.shape[1:]), logits.device)
        return _complete(decode_pixels(logits, grid, size, classes), labels, image)
    probabilities = class_probabilities(output.class_logits[index], labels)  # (Q, classes + 1)
    masks = output.mask_logits[index].detach()  # (Q, h, w)
    grid = make_grid(geometry, Size(*masks.shape[1:]), masks.device)
    if options.task == "panoptic":
        result = decode_panoptic(probabilities, masks, grid, size, classes, options)
    elif options.task == "instance":
        result = decode_instance(probabilities, masks, grid, size, classes, options)
    else:
        result = decode_semantic(probabilities, masks.float(), grid, size, classes)
    return _complete(result, labels, image)


def decode_windows(
    outputs: Iterable[MaskQueries | PixelLogits],
    geometry: Geometry,
    labels: LabelSet,
    options: DecodingOptions,
    image: NDArray[np.uint8] | None,
) -> Segmentation:
    """The same for one image in several windows, whose ``outputs`` come in batches, in the windows' order.

    They are asked for one after another, when their rows are decoded, and forgotten after that.

    Raises CheckpointError as ``decode`` does, and OptionError for another task than semantic.
    """
    if options.task != "semantic":
        raise OptionError(
            f"this image goes through the network in {len(geometry.windows)} windows, and queries of different windows "
            f"cannot be joined into {options.task} segments: choose the task semantic"
        )
    return _complete(
        decode_semantic_windows(_windows(outputs, labels), geometry, _without_holes(labels)), labels, image
    )


def _windows(outputs: Iterable[MaskQueries | PixelLogits], labels: LabelSet) -> Iterator[Window]:
    for output in outputs:
        if isinstance(output, PixelLogits):
            for index in range(len(output.logits)):
                yield PixelWindow(_pixel_logits(output, index, labels))
        else:
            weights = class_probabilities(output.class_logits, labels)[..., :-1].mT.contiguous()  # (n, C, Q)
            for weight, masks in zip(weights, output.mask_logits.detach().float(), strict=True):
                yield QueryWindow(weight, masks)


def _pixel_logits(output: PixelLogits, index: int, labels: LabelSet) -> Tensor:
    """The logits of the label set's classes, (classes, h, w) float32."""
    logits = output.logits[index].detach().float()
    if len(logits) != len(labels):
        raise CheckpointError(
            f"the network tells {len(logits)} classes apart but the label set names {len(labels)}: "
            "use the label set that belongs to the checkpoint"
        )
    return logits[labels.classes] if labels.holes else logits


def _complete(result: Segmentation, labels: LabelSet, image: NDArray[np.uint8] | None) -> Segmentation:
    indices = labels.classes
    segments = tuple(replace(each, label_id=indices[each.label_id]) for each in result.segments)
    return replace(result, segments=segments, labels=labels, image=image)


def _without_holes(labels: LabelSet) -> LabelSet:
    """The classes alone, numbered from 0 without gaps: with them no decoder can choose what is no class."""
    indices = labels.classes
    return LabelSet(
        tuple(labels.names[index] for index in indices),
        tuple(labels.things[index] for index in indices),
        tuple(labels.colors[index] for index in indices),
    )
