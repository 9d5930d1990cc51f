"""From what a network says about an image to a Segmentation of the original image."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from everymask.decoding.instance import decode_instance
from everymask.decoding.options import DecodingOptions, decoding_options
from everymask.decoding.panoptic import decode_panoptic
from everymask.decoding.resizing import make_grid
from everymask.decoding.semantic import decode_semantic
from everymask.errors import CheckpointError
from everymask.geometry import Geometry, Size
from everymask.labels import LabelSet
from everymask.networks.outputs import MaskQueries
from everymask.segmentation import Segmentation

__all__ = ["DecodingOptions", "decode", "decoding_options"]


def decode(
    queries: MaskQueries,
    index: int,
    geometry: Geometry,
    labels: LabelSet,
    options: DecodingOptions,
    image: NDArray[np.uint8] | None,
) -> Segmentation:
    """Reads image ``index`` of a batch of queries as a segmentation of the original image.

    The tensors may be of any floating dtype (all is computed in float32) and on any device; the result is on the CPU.
    ``image`` (H, W, 3) uint8 travels along in the result. Memory does not grow with the number of queries times the
    image.

    Raises CheckpointError when the queries have another number of classes than the label set.
    """
    probabilities = queries.class_logits[index].detach().float().softmax(-1)  # (Q, C + 1)
    logits = queries.mask_logits[index].detach().float()  # (Q, h, w)
    if probabilities.shape[1] != len(labels) + 1:
        raise CheckpointError(
            f"the network tells {probabilities.shape[1] - 1} classes apart but the label set names {len(labels)}: "
            "use the label set that belongs to the checkpoint"
        )
    size = Size(*geometry.original)
    grid = make_grid(geometry, Size(*logits.shape[1:]), logits.device)
    if options.task == "panoptic":
        result = decode_panoptic(probabilities, logits, grid, size, labels, options)
    elif options.task == "instance":
        result = decode_instance(probabilities, logits, grid, size, labels, options)
    else:
        result = decode_semantic(probabilities, logits, grid, size, labels)
    return replace(result, image=image)
