"""metrics.semantic against counting pixel by pixel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everymask.errors import DataError
from everymask.metrics.semantic import ConfusionMatrix


def slow_scores(pairs, num_classes):
    """mIoU, aAcc, mAcc, fwIoU and IoUs of [(prediction, truth)] from the definitions, ignoring truth 255."""
    pixels = [
        (p, t) for prediction, truth in pairs for p, t in zip(prediction.flat, truth.flat, strict=True) if t != 255
    ]
    ious, accuracies, weighted = [], [], 0
    for c in range(num_classes):
        both = sum(p == c and t == c for p, t in pixels)
        either = sum(p == c or t == c for p, t in pixels)
        in_truth = sum(t == c for _, t in pixels)
        ious.append(both / either if either else None)
        accuracies.append(both / in_truth if in_truth else None)
        weighted += in_truth / len(pixels) * both / either if in_truth else 0

    def mean(values):
        present = [value for value in values if value is not None]
        return sum(present) / len(present)

    return mean(ious), sum(p == t for p, t in pixels) / len(pixels), mean(accuracies), weighted, ious


@st.composite
def images(draw):
    num_classes = draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pairs = []
    for _ in range(draw(st.integers(1, 4))):
        size = (draw(st.integers(1, 7)), draw(st.integers(1, 7)))
        truth = rng.integers(0, num_classes, size)
        truth[rng.random(size) < 0.3] = 255
        pairs.append((rng.integers(0, num_classes, size), truth.astype(draw(st.sampled_from([np.uint8, np.int64])))))
    return num_classes, pairs


@settings(derandomize=True, deadline=None, max_examples=60)
@given(images())
def test_equals_counting_pixel_by_pixel_and_merging_changes_nothing(case):
    num_classes, pairs = case
    if all((truth == 255).all() for _, truth in pairs):
        return
    together, first, second = (ConfusionMatrix(num_classes) for _ in range(3))
    for number, (prediction, truth) in enumerate(pairs):
        together.add(prediction, truth, ignore=(255,))
        (first, second)[number % 2].add(prediction, truth, ignore=(255,))
    first.merge(second)
    assert (first.counts == together.counts).all()

    scores = together.scores()
    mean_iou, pixel_accuracy, mean_accuracy, weighted_iou, iou = slow_scores(pairs, num_classes)
    assert scores.mean_iou == pytest.approx(mean_iou, abs=1e-12)
    assert scores.pixel_accuracy == pytest.approx(pixel_accuracy, abs=1e-12)
    assert scores.mean_accuracy == pytest.approx(mean_accuracy, abs=1e-12)
    assert scores.frequency_weighted_iou == pytest.approx(weighted_iou, abs=1e-12)
    assert list(scores.iou) == pytest.approx(iou, abs=1e-12)


def test_a_worked_example():
    matrix = ConfusionMatrix(4)
    # class 0: 2 right, 1 predicted as 1; class 1: 1 right; class 2: never true, once predicted; class 3: nowhere
    matrix.add(np.array([[0, 0, 1], [1, 2, 0]]), np.array([[0, 0, 0], [1, 1, 9]]), ignore=(9,))
    scores = matrix.scores()
    assert scores.iou == (2 / 3, 1 / 3, 0.0, None)
    assert scores.accuracy == (2 / 3, 1 / 2, None, None)
    assert scores.mean_iou == pytest.approx(1 / 3)
    assert scores.mean_accuracy == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert scores.pixel_accuracy == 3 / 5
    assert scores.frequency_weighted_iou == pytest.approx(3 / 5 * 2 / 3 + 2 / 5 * 1 / 3)


def test_predictions_on_ignored_pixels_do_not_count():
    matrix = ConfusionMatrix(2)
    matrix.add(np.array([[0, 1, 1]]), np.array([[0, 255, 255]], np.uint8), ignore=(2, 255))
    assert matrix.scores().iou == (1.0, None)


@pytest.mark.parametrize(
    ("prediction", "truth", "message"),
    [
        (np.zeros((2, 3), int), np.zeros((3, 2), int), "2 x 3 pixels and the truth 3 x 2"),
        (np.full((2, 2), 3), np.zeros((2, 2), int), "prediction holds the value 3"),
        (np.full((2, 2), -1), np.zeros((2, 2), int), "prediction holds the value -1"),
        (np.zeros((2, 2), int), np.full((2, 2), 7), "truth holds the value 7.*classes 0 to 2"),
        (np.zeros((2, 2), int), np.full((2, 2), -1), "truth holds the value -1"),
        (np.zeros((2, 2)), np.zeros((2, 2), int), "prediction holds float64"),
    ],
)
def test_impossible_input_is_refused_and_counts_nothing(prediction, truth, message):
    matrix = ConfusionMatrix(3)
    with pytest.raises(DataError, match=message):
        matrix.add(prediction, truth, ignore=(255,))
    assert matrix.counts.sum() == 0


def test_the_truth_itself_is_no_prediction():
    truth = np.zeros((2, 2), int)
    for prediction in (truth, truth[:]):
        with pytest.raises(DataError, match="the prediction is the truth itself"):
            ConfusionMatrix(3).add(prediction, truth)


def test_nothing_compared_has_no_figures():
    matrix = ConfusionMatrix(3)
    with pytest.raises(DataError, match="no pixel was compared"):
        matrix.scores()
    matrix.add(np.zeros((2, 2), int), np.full((2, 2), 255), ignore=(255,))
    with pytest.raises(DataError, match="every label is ignored"):
        matrix.scores()


def test_matrices_of_other_label_sets_do_not_merge():
    with pytest.raises(DataError, match="2 classes into one of 3"):
        ConfusionMatrix(3).merge(ConfusionMatrix(2))
