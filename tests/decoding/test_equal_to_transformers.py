"""The official post-processing where it computes the same: for 384 x 384 logits and image it does not resize."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from everymask.decoding import decode, decoding_options
from everymask.geometry import Geometry, Size
from everymask.labels import LabelSet
from everymask.networks.outputs import MaskQueries

CLASSES = 7
LABELS = LabelSet(tuple(f"class {index}" for index in range(CLASSES)), (True,) * CLASSES, (None,) * CLASSES)
SIZE = Size(384, 384)
GEOMETRY = Geometry(SIZE, SIZE, SIZE)


@pytest.fixture(scope="module")
def processor():
    module = pytest.importorskip("transformers.models.mask2former.image_processing_pil_mask2former")
    return module.Mask2FormerImageProcessorPil()


@pytest.fixture(scope="module")
def queries() -> MaskQueries:
    generator = torch.Generator().manual_seed(5)
    coarse = torch.randn(1, 20, 9, 9, generator=generator) * 5
    masks = torch.nn.functional.interpolate(coarse, SIZE, mode="bicubic", align_corners=False)
    return MaskQueries(torch.randn(1, 20, CLASSES + 1, generator=generator) * 4, masks)


@pytest.fixture(scope="module")
def outputs(queries: MaskQueries) -> SimpleNamespace:
    return SimpleNamespace(class_queries_logits=queries.class_logits, masks_queries_logits=queries.mask_logits)


def test_semantic(processor, queries: MaskQueries, outputs: SimpleNamespace) -> None:
    (expected,) = processor.post_process_semantic_segmentation(outputs, target_sizes=[SIZE])
    result = decode(queries, 0, GEOMETRY, LABELS, decoding_options("semantic"), None)
    assert (result.label_map != expected.numpy()).sum() <= 2  # float ties


def test_instance(processor, queries: MaskQueries, outputs: SimpleNamespace) -> None:
    (expected,) = processor.post_process_instance_segmentation(
        outputs, threshold=0.4, target_sizes=[SIZE], return_binary_maps=True
    )
    result = decode(queries, 0, GEOMETRY, LABELS, decoding_options("instance", threshold=0.4), None)
    order = sorted(range(len(expected["segments_info"])), key=lambda i: -expected["segments_info"][i]["score"])
    assert len(result.segments) == len(order) > 3
    for segment, index in zip(result.segments, order, strict=True):
        assert segment.label_id == expected["segments_info"][index]["label_id"]
        assert segment.score == pytest.approx(expected["segments_info"][index]["score"], abs=1e-5)
        assert np.array_equal(segment.mask, expected["segmentation"][index].numpy() == 1)


def test_panoptic(processor, queries: MaskQueries, outputs: SimpleNamespace) -> None:
    """With thresholds of 0: above that, transformers compares masks already multiplied by the score.

    Without stuff: when transformers fuses, it gives ids twice.
    """
    (expected,) = processor.post_process_panoptic_segmentation(
        outputs, threshold=0.5, mask_threshold=0, overlap_mask_area_threshold=0, target_sizes=[SIZE]
    )
    options = decoding_options("panoptic", threshold=0.5, mask_threshold=0, overlap_threshold=0)
    result = decode(queries, 0, GEOMETRY, LABELS, options, None)
    assert result.id_map is not None
    assert len(result.segments) == len(expected["segments_info"]) > 3
    same = np.zeros(SIZE, bool)
    order = sorted(expected["segments_info"], key=lambda info: -info["score"])
    for segment, info in zip(result.segments, order, strict=True):
        assert (segment.label_id, segment.score) == (info["label_id"], pytest.approx(info["score"], abs=1e-5))
        same |= (result.id_map == segment.id) & (expected["segmentation"].numpy() == info["id"])
    assert (~same).sum() <= 2  # float ties
