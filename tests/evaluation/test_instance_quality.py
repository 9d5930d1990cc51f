"""The quality of one image's instances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from color_model import LABELS
from everymask.evaluation.instance_quality import instance_quality
from everymask.geometry import Size
from everymask.labels import LabelSet
from everymask.metrics.panoptic import PanopticQuality
from everymask.runs import Runs
from everymask.segmentation import Region, Segment, Segmentation
from memory_dataset import map_truth, mask_truth


def found(*masks, label_ids=None, scores=None):
    """An instance result of masks (H, W); class 0 and a score of 0.9 where nothing else is said."""
    segments = []
    for index, mask in enumerate(masks):
        runs = Runs.from_mask(np.asarray(mask, bool))
        label_id, score = (label_ids or [0] * 9)[index], (scores or [0.9] * 9)[index]
        segments.append(Segment(index + 1, "", label_id, score, runs.area, runs.box, True, runs))
    return Segmentation("instance", Size(1, 8), tuple(segments), None, LABELS)


def row(text):
    return np.array([[character == "#" for character in text]])


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        (found(row("####....")), 1.0),
        (found(row("###.....")), 0.75),
        (found(row("##......")), 0.0),  # IoU 1/2 is no match
        (found(), 0.0),
        (found(row("####...."), label_ids=[1]), 0.0),
        (found(row("####...."), scores=[0.4]), 0.0),
        (found(row("####...."), row("....####")), 1 / 1.5),
        (found(row("####...."), row("###.....")), 1 / 1.5),  # twice the same
        (found(row("###....."), row("####...."), scores=[0.6, 0.5]), 0.75 / 1.5),  # the better score chooses first
    ],
)
def test_worked_examples(prediction, expected):
    assert instance_quality(prediction, mask_truth([row("####....")], [0]), LABELS) == pytest.approx(expected)


def test_a_crowd_excuses_but_is_not_missed():
    crowd, single = row("....####"), row("###.....")
    truth = mask_truth([crowd, single], [0, 0], crowds=[0])
    assert instance_quality(found(single), truth, LABELS) == 1
    assert instance_quality(found(single, row("....##..")), truth, LABELS) == 1
    assert instance_quality(found(single, row("..##....")), truth, LABELS) == pytest.approx(1 / 1.5)
    assert instance_quality(found(single, row("....##.."), label_ids=[0, 1]), truth, LABELS) == pytest.approx(1 / 1.5)


def test_nothing_annotated_has_no_quality():
    assert instance_quality(found(row("##......")), mask_truth([row("#.......")], [2]), LABELS) is None  # stuff
    assert instance_quality(found(), mask_truth([row("#.......")], [0], crowds=[0]), LABELS) is None


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_masks_of_one_class_that_do_not_overlap_have_their_panoptic_quality(seed):
    rng = np.random.default_rng(seed)
    one = LabelSet(("thing",), (True,), (None,))
    true_map = np.sort(rng.integers(1, 4, 24)).reshape(4, 6).astype(np.int32)
    id_map = np.where(rng.random((4, 6)) < 0.8, true_map, rng.integers(0, 4, (4, 6))).astype(np.int32)
    true_map, id_map = (
        np.unique(each, return_inverse=True)[1].reshape(4, 6).astype(np.int32) + 1 for each in (true_map, id_map)
    )
    truth = map_truth(true_map, [0] * true_map.max())
    segments = tuple(
        Segment(id, "thing", 0, 0.9, int((id_map == id).sum()), (0, 0, 6, 4), True, Region(id_map, id))
        for id in range(1, id_map.max() + 1)
    )
    prediction = Segmentation("panoptic", Size(4, 6), segments, id_map, one)
    quality = PanopticQuality(one)
    quality.add(prediction, truth)
    assert instance_quality(prediction, truth, one) == pytest.approx(quality.scores().all.pq)
