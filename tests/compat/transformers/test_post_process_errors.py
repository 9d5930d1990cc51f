"""What post-processing does not take is refused, with the cure."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from everymask.compat.transformers.post_process import (
    post_process_instance_segmentation,
    post_process_panoptic_segmentation,
    post_process_semantic_segmentation,
)
from everymask.errors import OptionError
from everymask.networks.outputs import DepthMap, MaskQueries, PixelLogits

QUERIES = MaskQueries(torch.zeros(2, 3, 4), torch.zeros(2, 3, 5, 5))
PIXELS = PixelLogits(torch.zeros(2, 3, 5, 5))
ALL = (post_process_panoptic_segmentation, post_process_instance_segmentation, post_process_semantic_segmentation)


@pytest.mark.parametrize("post_process", ALL)
@pytest.mark.parametrize(
    ("outputs", "options", "cure"),
    [
        (QUERIES, {}, "MaskQueries does not tell whose they are: give the family, detr or eomt"),
        (QUERIES, {"family": "vit_adapter"}, "no family 'vit_adapter' .* choose detr or eomt"),
        (QUERIES, {"family": "segformer"}, "no family 'segformer' .* are queries: choose detr"),
        (DepthMap(torch.zeros(1, 4, 4)), {}, "DepthMap holds no logits"),
        (SimpleNamespace(logits=torch.zeros(2, 9)), {}, "SimpleNamespace holds no logits"),
        ({"class_queries_logits": torch.zeros(2, 3, 4)}, {"family": "detr"}, "dict holds no logits"),
        (QUERIES, {"family": "detr", "target_sizes": [(9, 9)]}, "1 target sizes for 2 images"),
        (QUERIES, {"family": "detr", "target_sizes": [(9, 9)] * 3}, "3 target sizes for 2 images"),
        (QUERIES, {"family": "detr", "target_sizes": [(9, 0), (9, 9)]}, r"\(9, 0\) is not a height and a width"),
        (QUERIES, {"family": "detr", "target_sizes": [(9,), (9, 9)]}, r"\(9,\) is not a height and a width"),
        (QUERIES, {"family": "detr", "size": {"shortest_edge": 9}}, "only EoMT's processor has a size"),
        (QUERIES, {"family": "eomt"}, "give the target_sizes"),
        (QUERIES, {"family": "eomt", "target_sizes": [(9, 9)] * 2, "size": {"height": 9}}, "give the shortest_edge"),
    ],
)
def test_refused_by_all(post_process: Callable[..., Any], outputs: Any, options: dict[str, Any], cure: str) -> None:
    with pytest.raises(OptionError, match=cure):
        post_process(outputs, **options)


@pytest.mark.parametrize(
    ("post_process", "outputs", "options", "cure"),
    [
        (ALL[0], PIXELS, {}, "use post_process_semantic_segmentation"),
        (ALL[1], PIXELS, {"family": "segformer"}, "use post_process_semantic_segmentation"),
        (ALL[2], PIXELS, {"family": "detr"}, "score pixels: choose beit or dpt or segformer or upernet"),
        (ALL[0], QUERIES, {"family": "detr", "stuff_classes": {1}}, "give label_ids_to_fuse"),
        (ALL[0], QUERIES, {"family": "eomt", "target_sizes": [(9, 9)] * 2, "label_ids_to_fuse": {1}}, "stuff_classes"),
        (ALL[1], QUERIES, {"family": "detr", "return_binary_maps": True}, "return_binary_maps: leave it out"),
        (
            ALL[1],
            QUERIES,
            {"family": "eomt", "target_sizes": [(9, 9)] * 2, "return_coco_annotation": True},
            "return_coco_annotation: leave it out",
        ),
        (
            ALL[1],
            QUERIES,
            {"family": "maskformer", "return_binary_maps": True, "return_coco_annotation": True},
            "exclude each other",
        ),
        (ALL[2], QUERIES, {"family": "detr", "patch_offsets": [(0, 0, 5)] * 2}, "only EoMT's processor has patch"),
        (ALL[2], PIXELS, {"patch_offsets": [(0, 0, 5)] * 2}, "only EoMT's processor has patch"),
        (
            ALL[2],
            QUERIES,
            {"family": "eomt", "target_sizes": [(9, 9)], "patch_offsets": [(0, 0, 5)]},
            "patch_offsets for 1 of 2 patches",
        ),
    ],
)
def test_refused(post_process: Callable[..., Any], outputs: Any, options: dict[str, Any], cure: str) -> None:
    with pytest.raises(OptionError, match=cure):
        post_process(outputs, **options)
