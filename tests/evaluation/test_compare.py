"""Prediction and truth drawn side by side."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from color_model import LABELS, color_checkpoint, picture
from eager import eager_segmenter
from everymask.drawing.colors import label_color
from everymask.drawing.comparison import side_by_side
from everymask.evaluation.drawing import compare, truth_segmentation
from memory_dataset import class_truth, map_truth, mask_truth


def facts(result):
    return [(each.id, each.label, each.area, each.box, each.is_thing) for each in result.segments]


def test_a_semantic_truth_has_a_segment_a_class_without_what_is_ignored():
    id_map = [[1, 1, 2, 0], [3, 1, 4, 0]]
    result = truth_segmentation(map_truth(id_map, [0, 2, 0, 3], crowds=[4]), LABELS, "semantic")
    assert result.task == "semantic"
    assert facts(result) == [(1, "red", 4, (0, 0, 2, 2), True), (3, "blue", 1, (2, 0, 1, 1), False)]
    assert result.label_map.tolist() == [[0, 0, 2, -1], [0, 0, -1, -1]]
    assert [each.mask.sum() for each in result.segments] == [4, 1]


def test_a_panoptic_truth_has_its_segments():
    result = truth_segmentation(map_truth([[1, 1, 2, 0], [3, 1, 2, 0]], [0, 2, 0, 1]), LABELS, "panoptic")
    assert facts(result) == [
        (1, "red", 3, (0, 0, 2, 2), True),
        (2, "blue", 2, (2, 0, 1, 2), False),
        (3, "red", 1, (0, 1, 1, 1), True),
    ]
    assert result.label_map.tolist() == [[0, 0, 2, -1], [0, 0, 2, -1]]


@pytest.mark.parametrize("overlapping", [False, True])
def test_an_instance_truth_has_the_things_smaller_ones_first(overlapping):
    id_map = np.array([[1, 1, 2, 0], [3, 1, 2, 0]])
    masks = [id_map == id for id in (1, 2, 3, 9)]  # the last is empty
    truth = mask_truth(masks, [0, 2, 1, 0]) if overlapping else map_truth(id_map, [0, 2, 1, 0])
    result = truth_segmentation(truth, LABELS, "instance")
    assert result.id_map is None
    assert [fact[1:] for fact in facts(result)] == [("green", 1, (0, 1, 1, 1), True), ("red", 3, (0, 0, 2, 2), True)]
    assert (result.segments[1].mask == masks[0]).all()


def test_a_perfect_prediction_looks_like_the_truth():
    model = eager_segmenter(color_checkpoint())
    result = model(picture(300, 200), task="semantic")
    drawn = np.asarray(
        compare(result, class_truth(np.where(np.arange(300) < 150, 0, 2)[None].repeat(200, 0)), "a title")
    )
    width = 300
    gap = (drawn.shape[1] - 3 * width) // 4
    lefts = [gap + place * (width + gap) for place in range(3)]
    # the photo's first row: the left half pure red
    top = int(np.flatnonzero((drawn[:, lefts[0]] == (255, 0, 0)).all(-1))[0])
    photo, prediction, truth = (drawn[top : top + 200, left : left + width] for left in lefts)
    assert (photo == np.asarray(picture(300, 200))).all()
    assert (prediction == truth).all()
    assert (prediction == np.asarray(result.draw())).all()
    below = drawn[top + 200 :].reshape(-1, 3).tolist()
    assert list(label_color(LABELS, 0)) in below
    assert list(label_color(LABELS, 2)) in below
    assert list(label_color(LABELS, 1)) not in below


def test_instances_of_low_scores_are_not_drawn():
    model = eager_segmenter(color_checkpoint())
    result = model(picture(300, 200), task="instance")
    doubtful = replace(result, segments=tuple(replace(each, score=0.4) for each in result.segments))
    truth = mask_truth([result.segments[0].mask], [0])
    assert result.segments
    assert compare(doubtful, truth, "").tobytes() == compare(replace(result, segments=()), truth, "").tobytes()
    assert compare(result, truth, "").tobytes() != compare(doubtful, truth, "").tobytes()


@pytest.mark.parametrize(
    ("size", "panel"), [((4, 2), (240, 120)), ((500, 300), (500, 300)), ((4000, 1000), (800, 200))]
)
def test_panels_have_a_size_to_look_at(size, panel):
    drawn = side_by_side([("a", Image.new("RGB", size, "red"))] * 2, title="t", legend=[])
    red = (np.asarray(drawn) == (255, 0, 0)).all(-1)
    assert int(red.any(0).sum()) == 2 * panel[0]
    assert int(red.any(1).sum()) == panel[1]


def test_many_and_long_labels_wrap_and_stay_inside():
    panel = [("a", Image.new("RGB", (300, 200)))]
    few = side_by_side(panel, title="t", legend=[("label", (0, 200, 0))])
    many = side_by_side(panel, title="t" * 500, legend=[("a rather long label\n" * 9, (0, 200, 0))] * 12)
    assert many.width == few.width
    assert many.height > few.height
    assert (np.asarray(many)[:, -8:] == (250, 250, 250)).all()
    assert int((np.asarray(many)[:, 11] == (0, 200, 0)).all(-1).sum()) > 12
