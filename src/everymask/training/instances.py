"""Targets from class maps, whose instances nobody has marked."""

import numpy as np
import torch
from numpy.typing import NDArray

from everymask.errors import MissingExtraError
from everymask.labels import LabelSet
from everymask.training.targets import Targets


def components(classes: NDArray[np.integer], labels: LabelSet, min_area: int) -> tuple[NDArray[np.int32], list[int]]:
    """Cuts a class map into segments: stuff is one segment a class, things are their connected components.

    ``classes`` (H, W) holds class indices; other values belong to no segment. Neighbours touch at sides or corners.
    A component of fewer than ``min_area`` pixels joins the largest one of its class, if there is a larger one.

    Returns the id map (H, W) int32, -1 where no segment is, and each segment's class.
    """
    try:
        from scipy import ndimage
    except ImportError as error:
        raise MissingExtraError("training needs SciPy: pip install 'everymask[train]'") from error
    id_map = np.full(classes.shape, -1, np.int32)
    segment_classes: list[int] = []
    for index, is_thing in enumerate(labels.things):
        mask = classes == index
        if not mask.any():
            continue
        if not is_thing:
            id_map[mask] = len(segment_classes)
            segment_classes.append(index)
            continue
        parts, count = ndimage.label(mask, structure=np.ones((3, 3)))
        areas = np.bincount(parts.ravel(), minlength=count + 1)[1:]
        kept = areas >= min(min_area, areas.max())
        new_ids = np.where(kept, np.cumsum(kept) - 1, np.cumsum(kept)[areas.argmax()] - 1) + len(segment_classes)
        id_map[mask] = new_ids[parts[mask] - 1]
        segment_classes.extend([index] * int(kept.sum()))
    return id_map, segment_classes


def targets_of(id_map: NDArray[np.int32], segment_classes: list[int]) -> Targets:
    """Targets from (a crop of) an id map; segments that the crop misses are left out."""
    present = np.unique(id_map[id_map >= 0])
    renumber = np.full(len(segment_classes) + 1, -1, np.int64)  # the last entry is for -1, "no segment"
    renumber[present] = np.arange(len(present))
    return Targets(
        labels=torch.tensor([segment_classes[each] for each in present], dtype=torch.int64),
        id_map=torch.from_numpy(renumber[id_map]),
    )
