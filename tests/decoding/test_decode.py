"""What one can say about decoding by hand: reasons, merging, dtypes, batches, errors."""

import numpy as np
import pytest
import torch

from everymask.decoding import decode, decoding_options
from everymask.errors import CheckpointError
from everymask.geometry import Geometry, Size
from everymask.labels import LabelSet
from everymask.networks.outputs import MaskQueries
from everymask.segmentation import Task

LABELS = LabelSet(("car", "person", "sky"), (True, True, False), (None, None, None))
GEOMETRY = Geometry(Size(4, 8), Size(4, 8), Size(4, 8))


def queries(*described: tuple[list[float], str]) -> MaskQueries:
    """Queries from class probabilities (no object last) and the columns of 4 x 8 logits: # 10, + 0.5, . -10."""
    value = {"#": 10.0, "+": 0.5, ".": -10.0}
    classes = torch.tensor([probabilities for probabilities, _ in described]).log()
    masks = torch.tensor([[[value[column] for column in columns]] * 4 for _, columns in described])
    return MaskQueries(classes[None], masks[None])


def test_panoptic_reasons() -> None:
    result = decode(
        queries(
            ([0.97, 0.01, 0.01, 0.01], "####...."),
            ([0.01, 0.01, 0.02, 0.96], "########"),
            ([0.60, 0.20, 0.10, 0.10], "########"),
            ([0.01, 0.95, 0.02, 0.02], "###....."),
            ([0.01, 0.90, 0.05, 0.04], "..######"),
            ([0.85, 0.05, 0.05, 0.05], "........"),
            ([0.01, 0.01, 0.96, 0.02], "....####"),
        ),
        0,
        GEOMETRY,
        LABELS,
        decoding_options("panoptic", explain=True),
        None,
    )
    assert [(s.label, round(s.score or 0, 2), s.area) for s in result.segments] == [
        ("car", 0.97, 16),
        ("sky", 0.96, 16),
    ]
    assert result.dropped is not None
    assert [(dropped.query, dropped.label, dropped.reason) for dropped in result.dropped] == [
        (1, "sky", "best class is no object (0.96)"),
        (2, "car", "score 0.6 is not above the threshold 0.8"),
        (3, "person", "wins no pixel"),
        (4, "person", "wins no pixel"),
        (5, "car", "no pixel of its mask reaches the mask threshold 0.5"),
    ]


def test_panoptic_overlap_counts_what_is_won_of_the_mask() -> None:
    covered = queries(([0.97, 0.01, 0.01, 0.01], "#####..."), ([0.01, 0.95, 0.02, 0.02], "########"))
    result = decode(covered, 0, GEOMETRY, LABELS, decoding_options("panoptic", explain=True), None)
    assert [segment.label for segment in result.segments] == ["car"]
    assert result.dropped is not None
    assert result.dropped[0].reason == "keeps 37.5 % of its mask, below the overlap threshold 0.8"
    assert result.id_map is not None
    assert (result.id_map[:, 5:] == 0).all()
    kept = decode(covered, 0, GEOMETRY, LABELS, decoding_options("panoptic", overlap_threshold=0.375), None)
    assert [(segment.label, segment.area) for segment in kept.segments] == [("car", 20), ("person", 12)]
    assert kept.dropped is None


def test_panoptic_stuff_of_one_class_is_one_segment_and_things_stay_apart() -> None:
    described = queries(
        ([0.01, 0.01, 0.90, 0.08], "##......"),
        ([0.95, 0.01, 0.02, 0.02], "..##...."),
        ([0.01, 0.01, 0.97, 0.01], "....##.."),
        ([0.93, 0.01, 0.02, 0.04], "......##"),
    )
    result = decode(described, 0, GEOMETRY, LABELS, decoding_options("panoptic"), None)
    assert [(s.id, s.label, round(s.score or 0, 2), s.area, s.box) for s in result.segments] == [
        (1, "sky", 0.97, 16, (0, 0, 6, 4)),
        (2, "car", 0.95, 8, (2, 0, 2, 4)),
        (3, "car", 0.93, 8, (6, 0, 2, 4)),
    ]
    assert result.id_map is not None
    assert result.id_map[0].tolist() == [1, 1, 2, 2, 1, 1, 3, 3]
    assert [segment.query for segment in result.segments] == [0, 1, 3]


def test_instance_reasons_scores_and_overlaps() -> None:
    result = decode(
        queries(
            ([0.97, 0.01, 0.01, 0.01], "#####..."),
            ([0.90, 0.05, 0.03, 0.02], "...#####"),
            ([0.30, 0.05, 0.60, 0.05], "########"),
            ([0.01, 0.80, 0.10, 0.09], "........"),
            ([0.01, 0.75, 0.10, 0.14], "++++++++"),
            ([0.01, 0.02, 0.90, 0.07], "########"),
        ),
        0,
        GEOMETRY,
        LABELS,
        decoding_options("instance", explain=True),
        None,
    )
    assert [(s.label, round(s.score or 0, 2), s.area, s.box) for s in result.segments] == [
        ("car", 0.97, 20, (0, 0, 5, 4)),
        ("car", 0.90, 20, (3, 0, 5, 4)),
    ]
    assert [segment.query for segment in result.segments] == [0, 1]
    assert result.dropped is not None
    assert [(dropped.query, dropped.label, dropped.reason) for dropped in result.dropped] == [
        (2, "car", "score 0.3 is not above the threshold 0.5"),
        (3, "person", "no pixel of its mask reaches the mask threshold 0.5"),
        (4, "person", "score 0.4668 (0.75 times mask confidence 0.6225) is not above the threshold 0.5"),
        (5, "person", "none of its classes is in the best 6 pairs of a query and a thing class"),
    ]


def test_instance_labels_by_pair() -> None:
    two_classes = queries(([0.5, 0.4, 0.05, 0.05], "####...."), ([0.02, 0.03, 0.05, 0.9], "########"))
    result = decode(two_classes, 0, GEOMETRY, LABELS, decoding_options("instance", threshold=0.2), None)
    assert [(segment.label, segment.area) for segment in result.segments] == [("car", 16), ("person", 16)]
    assert [segment.query for segment in result.segments] == [0, 0]


def test_instance_without_things_finds_nothing() -> None:
    stuff = LabelSet(("road", "sky"), (False, False), (None, None))
    described = queries(([0.9, 0.05, 0.05], "########"))
    result = decode(described, 0, GEOMETRY, stuff, decoding_options("instance", explain=True), None)
    assert result.segments == ()
    assert result.dropped is not None
    assert [dropped.query for dropped in result.dropped] == [0]


def test_semantic_ids_follow_the_area() -> None:
    described = queries(([0.9, 0.04, 0.03, 0.03], "###....."), ([0.02, 0.03, 0.9, 0.05], "...#####"))
    result = decode(described, 0, GEOMETRY, LABELS, decoding_options("semantic"), None)
    assert [(s.id, s.label, s.score, s.area) for s in result.segments] == [(1, "sky", None, 20), (2, "car", None, 12)]
    assert result.id_map is not None
    assert result.id_map[0].tolist() == [2, 2, 2, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("task", ["panoptic", "instance", "semantic"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_are_computed_in_float32(task: Task, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(3)
    classes, masks = torch.randn(1, 5, 4, generator=generator) * 5, torch.randn(1, 5, 8, 16, generator=generator) * 5
    half = MaskQueries(classes.to(dtype), masks.to(dtype).requires_grad_())
    full = MaskQueries(half.class_logits.float(), half.mask_logits.float())
    geometry = Geometry(Size(50, 90), Size(32, 64), Size(32, 64))
    results = [decode(each, 0, geometry, LABELS, decoding_options(task), None) for each in (half, full)]
    assert results[0].segments
    for one, other in zip(*(result.segments for result in results), strict=True):
        assert (one.label, one.score, one.area) == (other.label, other.score, other.area)
        assert np.array_equal(one.mask, other.mask)


@pytest.mark.parametrize("task", ["panoptic", "instance", "semantic"])
def test_an_image_is_read_out_of_its_batch(task: Task) -> None:
    generator = torch.Generator().manual_seed(4)
    batch = MaskQueries(torch.randn(3, 6, 4, generator=generator) * 5, torch.randn(3, 6, 8, 8, generator=generator) * 5)
    geometry = Geometry(Size(40, 30), Size(32, 24), Size(32, 32))
    alone = MaskQueries(batch.class_logits[1:2], batch.mask_logits[1:2])
    image = np.zeros((40, 30, 3), np.uint8)
    result = decode(batch, 1, geometry, LABELS, decoding_options(task), image)
    expected = decode(alone, 0, geometry, LABELS, decoding_options(task), image)
    assert result.image is image
    assert result.size == Size(40, 30)
    assert result.labels is LABELS
    assert [(s.label, s.area) for s in result.segments] == [(s.label, s.area) for s in expected.segments]
    assert np.array_equal(result.label_map, expected.label_map)


@pytest.mark.parametrize("task", ["panoptic", "instance"])
def test_nothing_found(task: Task) -> None:
    described = queries(([0.01, 0.01, 0.01, 0.97], "########"))
    result = decode(described, 0, GEOMETRY, LABELS, decoding_options(task), None)
    assert result.segments == ()
    assert (result.label_map == -1).all()


def test_a_label_set_of_another_size_is_refused() -> None:
    described = queries(([0.5, 0.5], "########"))
    with pytest.raises(CheckpointError, match="tells 1 classes apart but the label set names 3"):
        decode(described, 0, GEOMETRY, LABELS, decoding_options("semantic"), None)
