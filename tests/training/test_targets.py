"""Targets: instances from class maps, and masks read at points."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from everymask.labels import LabelSet
from everymask.training.instances import components, targets_of
from everymask.training.matcher import sample_logits
from everymask.training.targets import Targets, sample_masks

LABELS = LabelSet(("road", "car"), (False, True), (None, None))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(height=st.integers(1, 20), width=st.integers(1, 20), count=st.integers(1, 5), seed=st.integers(0, 1000))
def test_masks_at_points_equal_dense_bilinear_sampling(height: int, width: int, count: int, seed: int) -> None:
    torch.manual_seed(seed)
    targets = Targets(torch.zeros(count, dtype=torch.int64), torch.randint(-1, count, (height, width)))
    points = torch.rand(count, 50, 2)
    dense = torch.stack([(targets.id_map == index).float() for index in range(count)])
    sampled = sample_masks(targets, torch.arange(count), points)
    torch.testing.assert_close(sampled, sample_logits(dense[:, None], points), rtol=0, atol=2e-5)


def test_things_are_components_and_stuff_is_whole() -> None:
    classes = np.array(
        [
            [0, 1, 1, 0, 0, 9],
            [0, 1, 1, 0, 1, 9],
            [0, 0, 0, 0, 1, 1],
            [0, 0, 0, 0, 0, 0],
        ]
    )
    id_map, segment_classes = components(classes, LABELS, min_area=2)
    assert segment_classes == [0, 1, 1]
    assert (id_map[classes == 0] == 0).all()
    assert (id_map[classes == 9] == -1).all()
    assert len(np.unique(id_map[:2, 1:3])) == 1
    assert len({int(id_map[0, 1]), int(id_map[1, 4])}) == 2


def test_specks_join_the_largest_component() -> None:
    classes = np.zeros((6, 6), int)
    classes[0:3, 0:3] = 1
    classes[5, 5] = 1
    id_map, segment_classes = components(classes, LABELS, min_area=4)
    assert segment_classes == [0, 1]
    assert id_map[5, 5] == id_map[0, 0] == 1


def test_a_lone_speck_stays() -> None:
    classes = np.zeros((6, 6), int)
    classes[5, 5] = 1
    id_map, segment_classes = components(classes, LABELS, min_area=4)
    assert segment_classes == [0, 1]
    assert id_map[5, 5] == 1


def test_diagonal_neighbours_are_one_component() -> None:
    _, segment_classes = components(np.eye(4, dtype=int), LABELS, min_area=1)
    assert segment_classes == [0, 1]


def test_a_crop_keeps_only_what_it_shows() -> None:
    id_map = np.array([[0, 0, 3], [-1, 3, 3]], np.int32)
    targets = targets_of(id_map, [7, 8, 9, 5])
    assert targets.labels.tolist() == [7, 5]
    assert targets.id_map.tolist() == [[0, 0, 1], [-1, 1, 1]]
