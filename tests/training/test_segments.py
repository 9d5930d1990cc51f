"""Segments of a task from annotations, against a dense reference."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from everymask.datasets.dataset import Truth, TruthSegment
from everymask.geometry import Size
from everymask.runs import Runs
from everymask.segmentation import Region, Task
from everymask.training.instances import targets_of
from everymask.training.segments import Segments, segments_of
from painted_data import LABELS

ROAD, SKY, CAR, PERSON = range(4)


def from_ids(id_map: NDArray[np.int32], segments: list[tuple[int, bool]]) -> Truth:
    areas = np.bincount(id_map.ravel(), minlength=len(segments) + 1)[1:]
    parts = [
        TruthSegment(label, Region(id_map, number), int(area), crowd)
        for number, ((label, crowd), area) in enumerate(zip(segments, areas, strict=True), 1)
    ]
    return Truth(Size(*id_map.shape), tuple(parts), id_map)


def from_masks(masks: list[NDArray[np.bool_]], labels: list[int], crowds: list[bool]) -> Truth:
    parts = [
        TruthSegment(label, Runs.from_mask(mask), int(mask.sum()), crowd)
        for mask, label, crowd in zip(masks, labels, crowds, strict=True)
    ]
    return Truth(Size(*masks[0].shape), tuple(parts), None)


def dense(segments: Segments) -> set[tuple[int, bytes]]:
    """Every segment's class and mask."""
    return {(label, (segments.id_map == number).tobytes()) for number, label in enumerate(segments.classes)}


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    labels=st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=8),
    task=st.sampled_from(("panoptic", "instance", "semantic")),
)
def test_segments_equal_a_dense_reference(seed: int, labels: list[tuple[int, bool]], task: Task) -> None:
    id_map = np.random.default_rng(seed).integers(0, len(labels) + 1, (7, 9)).astype(np.int32)
    expected: list[tuple[int, NDArray[np.bool_]]] = []
    for number, (label, crowd) in enumerate(labels, 1):
        mask = id_map == number
        merged = [place for place, (other, _) in enumerate(expected) if other == label]
        if crowd or (task == "instance" and label in (ROAD, SKY)):
            continue
        if merged and (task == "semantic" or label in (ROAD, SKY)):
            expected[merged[0]] = (label, expected[merged[0]][1] | mask)
        else:
            expected.append((label, mask))
    found = segments_of(from_ids(id_map, labels), LABELS, task, "annotations")
    assert found.id_map.dtype == np.int32
    assert [found.classes.count(label) for label in range(4)] == [[c for c, _ in expected].count(k) for k in range(4)]
    assert dense(found) == {(label, mask.tobytes()) for label, mask in expected}


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 6), overlapping=st.booleans())
def test_semantic_segments_say_what_the_class_map_says(seed: int, count: int, overlapping: bool) -> None:
    rng = np.random.default_rng(seed)
    labels, crowds = rng.integers(0, 4, count).tolist(), (rng.random(count) < 0.3).tolist()
    if overlapping:
        truth = from_masks([rng.random((6, 8)) < 0.5 for _ in range(count)], labels, crowds)
    else:
        ids = rng.integers(0, count + 1, (6, 8)).astype(np.int32)
        truth = from_ids(ids, list(zip(labels, crowds, strict=True)))
    segments = segments_of(truth, LABELS, "semantic", "annotations")
    classes = np.array([*segments.classes, -1])[segments.id_map]
    np.testing.assert_array_equal(classes, truth.class_map())
    targets = targets_of(segments.id_map, list(segments.classes))
    assert len(set(targets.labels.tolist())) == len(targets.labels)
    np.testing.assert_array_equal(np.array([*targets.labels.tolist(), -1])[targets.id_map.numpy()], truth.class_map())


def rectangle(top: int, left: int, bottom: int, right: int) -> NDArray[np.bool_]:
    mask = np.zeros((10, 12), np.bool_)
    mask[top:bottom, left:right] = True
    return mask


def test_overlapping_things_leave_pixels_to_the_smallest_and_crowds_lie_under_all() -> None:
    small, large, crowd = rectangle(2, 2, 5, 5), rectangle(1, 1, 9, 8), rectangle(4, 4, 6, 12)
    truth = from_masks([small, crowd, large], [CAR, PERSON, PERSON], [False, True, False])
    segments = segments_of(truth, LABELS, "instance", "annotations")
    assert segments.classes == (CAR, PERSON)
    np.testing.assert_array_equal(segments.id_map == 0, small)
    np.testing.assert_array_equal(segments.id_map == 1, large & ~small)
    np.testing.assert_array_equal(segments.id_map == -1, ~(small | large))


def test_connected_parts_stand_for_instances_where_asked() -> None:
    id_map = np.ones((20, 30), np.int32)
    id_map[2:8, 2:8] = id_map[2:8, 15:22] = 2
    truth = from_ids(id_map, [(ROAD, False), (CAR, False)])
    assert segments_of(truth, LABELS, "panoptic", "annotations").classes == (ROAD, CAR)
    parts = segments_of(truth, LABELS, "panoptic", "components")
    assert parts.classes == (ROAD, CAR, CAR)
    things = segments_of(truth, LABELS, "instance", "components")
    assert things.classes == (CAR, CAR)
    np.testing.assert_array_equal(things.id_map >= 0, id_map == 2)
    assert things.id_map[4, 4] != things.id_map[4, 18]
    assert segments_of(truth, LABELS, "semantic", "components").classes == (ROAD, CAR)


@pytest.mark.parametrize("kind", ["ids", "runs"])
def test_memory_does_not_depend_on_the_number_of_segments(kind: str) -> None:
    def peak(across: int) -> int:
        rows, columns = np.arange(480) * across // 480, np.arange(640) * across // 640
        ids = (rows[:, None] * across + columns + 1).astype(np.int32)
        if kind == "ids":
            truth = from_ids(ids, [(CAR, False)] * across**2)
        else:
            parts = [TruthSegment(CAR, Runs.from_mask(ids == each), 1) for each in range(1, across**2 + 1)]
            truth = Truth(Size(480, 640), tuple(parts), None)
        tracemalloc.start()
        segments = segments_of(truth, LABELS, "instance", "annotations")
        targets = targets_of(segments.id_map, list(segments.classes))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(targets.labels) == across**2
        return most

    few, many = peak(2), peak(20)  # 4 and 400 segments; 400 masks of a byte a pixel would be 123 MB
    assert many < few + 2_000_000
