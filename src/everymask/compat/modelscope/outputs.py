"""What ModelScope's segmentation pipelines answer with, as ``modelscope.outputs`` names it."""

from typing import Any

import numpy as np

from everymask.segmentation import Segment, Segmentation

SCORE = 0.999
"""The score of every mask: a placeholder, in ModelScope as here."""


class OutputKeys:
    """The keys of a result of ``pipeline``."""

    SCORES = "scores"
    LABELS = "labels"
    MASKS = "masks"


def as_modelscope(result: Segmentation) -> dict[str, Any]:
    """A semantic or panoptic result in ModelScope's form, three lists of one length.

    ``masks``: (H, W) arrays of 0 and 1, int64 for the semantic task, int32 for the panoptic one. ``labels``: their
    names. ``scores``: ``SCORE`` for each. Semantic segments come by falling label index, panoptic ones as ModelScope
    numbers them: things first, the network's last query before its first, then stuff by falling label index.
    """
    semantic = result.task == "semantic"
    segments = sorted(result.segments, key=_by_label if semantic else _things_first)
    return {
        OutputKeys.MASKS: [segment.mask.astype(np.int64 if semantic else np.int32) for segment in segments],
        OutputKeys.LABELS: [segment.label for segment in segments],
        OutputKeys.SCORES: [SCORE] * len(segments),
    }


def _by_label(segment: Segment) -> tuple[int, ...]:
    return (-segment.label_id,)


def _things_first(segment: Segment) -> tuple[int, ...]:
    assert segment.query is not None
    return (0, -segment.query) if segment.is_thing else (1, -segment.label_id)
