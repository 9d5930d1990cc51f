"""From what a network says about an image to a Segmentation of the original image."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from everymask.decoding.instance import decode_instance
from everymask.decoding.options import DecodingOptions, decoding_options
from everymask.decoding.panoptic import decode_panoptic
from everymask.decoding.relevance import class_probabilities, relevant_queries
from everymask.decoding.resizing import make_grid
from everymask.decoding.semantic import decode_semantic
from everymask.decoding.windows import decode_semantic_windows
from everymask.errors import OptionError
from everymask.geometry import Geometry, Size
from everymask.labels import LabelSet
from everymask.networks.outputs import MaskQueries
from everymask.segmentation import Segmentation

__all__ = ["DecodingOptions", "decode", "decoding_options", "relevant_queries"]


def decode(
    queries: MaskQueries,
    index: int,
    geometry: Geometry,
    labels: LabelSet,
    options: DecodingOptions,
    image: NDArray[np.uint8] | None,
) -> Segmentation:
    """Reads image ``index`` of a batch of queries as a segmentation of the original image.

    An image in several windows takes up as many places of the batch, from ``index`` on; it has a semantic reading only.
    The tensors may be of any floating dtype (all is computed in float32) and on any device; the result is on the CPU.
    ``image`` (H, W, 3) uint8 travels along in the result. Memory does not grow with the number of queries times the
    image.

    Raises CheckpointError when the queries have another number of classes than the label set, and OptionError for
    another task than semantic of an image in several windows.
    """
    if len(geometry.windows) > 1:
        result = _decode_windows(queries, slice(index, index + len(geometry.windows)), geometry, labels, options)
    else:
        result = _decode_whole(queries, index, geometry, labels, options)
    indices = labels.classes
    segments = tuple(replace(each, label_id=indices[each.label_id]) for each in result.segments)
    return replace(result, segments=segments, labels=labels, image=image)


def _decode_whole(
    queries: MaskQueries, index: int, geometry: Geometry, labels: LabelSet, options: DecodingOptions
) -> Segmentation:
    probabilities = class_probabilities(queries.class_logits[index], labels)  # (Q, classes + 1)
    logits = queries.mask_logits[index].detach().float()  # (Q, h, w)
    classes = _without_holes(labels)
    size = Size(*geometry.original)
    grid = make_grid(geometry, Size(*logits.shape[1:]), logits.device)
    if options.task == "panoptic":
        return decode_panoptic(probabilities, logits, grid, size, classes, options)
    if options.task == "instance":
        return decode_instance(probabilities, logits, grid, size, classes, options)
    return decode_semantic(probabilities, logits, grid, size, classes)


def _decode_windows(
    queries: MaskQueries, places: slice, geometry: Geometry, labels: LabelSet, options: DecodingOptions
) -> Segmentation:
    if options.task != "semantic":
        raise OptionError(
            f"this image goes through the network in {len(geometry.windows)} windows, and queries of different windows "
            f"cannot be joined into {options.task} segments: choose the task semantic"
        )
    probabilities = class_probabilities(queries.class_logits[places], labels)  # (n, Q, classes + 1)
    logits = queries.mask_logits[places].detach().float()  # (n, Q, h, w)
    return decode_semantic_windows(probabilities, logits, geometry, _without_holes(labels))


def _without_holes(labels: LabelSet) -> LabelSet:
    """The classes alone, numbered from 0 without gaps: with them no decoder can choose what is no class."""
    indices = labels.classes
    return LabelSet(
        tuple(labels.names[index] for index in indices),
        tuple(labels.things[index] for index in indices),
        tuple(labels.colors[index] for index in indices),
    )
