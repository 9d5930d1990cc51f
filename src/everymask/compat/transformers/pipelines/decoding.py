"""transformers' reading of a network's output, for those who want its results to the pixel."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from everymask.compat.transformers.post_process import (
    post_process_instance_segmentation,
    post_process_panoptic_segmentation,
    post_process_semantic_segmentation,
)
from everymask.engines.engine import Inputs
from everymask.errors import OptionError
from everymask.geometry import Geometry
from everymask.images import read_image
from everymask.networks.detr import Detr
from everymask.networks.eomt import EoMT
from everymask.networks.mask2former import Mask2Former
from everymask.networks.maskformer import MaskFormer
from everymask.networks.oneformer import OneFormer
from everymask.networks.outputs import MaskQueries, PixelsAndDepth
from everymask.preprocessing import Preprocessing, ShortestEdge, prepare
from everymask.segmentation import Task
from everymask.segmenter import Segmenter

Found = tuple[float | None, int, NDArray[np.bool_]]
"""A segment: its score (None for semantic ones), the index of its class, and its mask (H, W)."""

_FAMILIES = {Detr: "detr", EoMT: "eomt", Mask2Former: "mask2former", MaskFormer: "maskformer", OneFormer: "oneformer"}


def decode_like_transformers(model: Segmenter, image: Any, task: Task, limits: dict[str, Any]) -> list[Found]:
    """What transformers' pipeline would find in an image: segments in its order, its scores, its masks.

    ``image`` is anything ``read_image`` takes. ``limits``: ``threshold``, ``mask_threshold`` and
    ``overlap_mask_area_threshold``, empty for the semantic task.
    Raises OptionError for a network with queries that transformers does not have.
    """
    prepared = prepare(read_image(image), _rounding_like_transformers(model.preprocessing))
    windows = torch.cat(list(prepared.windows()))  # (n, 3, h, w)
    tokens = None if model.task_tokens is None else model.task_tokens[task].expand(len(windows), -1)
    output: object = model.engine(Inputs(windows, tokens))
    if isinstance(output, PixelsAndDepth):
        output = output.pixels
    geometry = prepared.geometry
    options: dict[str, Any] = {"target_sizes": [geometry.original]}
    if isinstance(output, MaskQueries):
        if type(model.network) not in _FAMILIES:
            raise OptionError(f'transformers has no {type(model.network).__name__}: use decoding="everymask"')
        options["family"] = _FAMILIES[type(model.network)]
        if isinstance(model.network, EoMT):
            options["size"] = _edges(model.preprocessing)
    if task == "semantic":
        offsets = _patch_offsets(geometry) if model.preprocessing.tiling else None
        [class_map] = post_process_semantic_segmentation(output, patch_offsets=offsets, **options)
        assert isinstance(class_map, Tensor)
        classes = class_map.cpu().numpy()
        return [(None, int(label_id), classes == label_id) for label_id in np.unique(classes)]
    read = post_process_panoptic_segmentation if task == "panoptic" else post_process_instance_segmentation
    [found] = read(output, **options, **limits)
    id_map = found["segmentation"].cpu().numpy()
    return [(each["score"], each["label_id"], id_map == each["id"]) for each in found["segments_info"]]


def _rounding_like_transformers(preprocessing: Preprocessing) -> Preprocessing:
    """EoMT's longer side is rounded as published; transformers rounds it downwards, and relies on it afterwards."""
    if isinstance(preprocessing.resize, ShortestEdge) and preprocessing.resize.round_longer:
        return replace(preprocessing, resize=replace(preprocessing.resize, round_longer=False))
    return preprocessing


def _edges(preprocessing: Preprocessing) -> dict[str, int | None] | None:
    """The ``size`` of EoMT's processor."""
    rule = preprocessing.resize
    if not isinstance(rule, ShortestEdge):
        return None
    return {"shortest_edge": rule.shortest, "longest_edge": rule.longest}


def _patch_offsets(geometry: Geometry) -> list[tuple[int, int, int]]:
    """Where EoMT's windows, squares in a row, start and end along the longer side of image 0."""
    side = geometry.padded.height
    return [(0, max(corner), max(corner) + side) for corner in geometry.windows]
