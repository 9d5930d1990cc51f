"""metrics.boundary against the erosions of the paper's authors' code."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everymask.errors import DataError
from everymask.metrics.boundary import BoundaryIoU


def eroded_boundary(mask, ratio):
    """What d erosions by 3 x 3 pixels remove from a mask (H, W) bool, with nothing beyond the image."""
    width = max(1, round(ratio * np.hypot(*mask.shape)))
    padded = np.pad(mask, 1).astype(np.uint8)
    kept = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=width)[1:-1, 1:-1]
    return mask & (kept == 0)


def dense_boundary_iou(pairs, num_classes, ratio):
    iou = []
    for c in range(num_classes):
        both = either = 0
        for prediction, truth in pairs:
            masks = [(each == c) & (truth != 255) for each in (prediction, truth)]
            p, t = (eroded_boundary(mask, ratio) for mask in masks)
            both, either = both + (p & t).sum(), either + (p | t).sum()
        iou.append(both / either if either else None)
    return iou


@settings(derandomize=True, deadline=None, max_examples=50)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 5),
    st.sampled_from([0.02, 0.05, 0.3]),
)
def test_equals_erosion_class_by_class_and_merging_changes_nothing(seed, height, width, num_classes, ratio):
    rng = np.random.default_rng(seed)
    pairs = []
    for step in (1, 3, 8, 40):  # the smaller the size of a patch, the more contours
        rows, columns = np.arange(height) // step, np.arange(width) // step
        truth = rng.integers(0, num_classes, (height, width))[rows][:, columns]
        prediction = np.where(rng.random(truth.shape) < 0.97, np.roll(truth, 1, 1), 0)
        truth[(rng.random(truth.shape) < 0.1)[rows][:, columns]] = 255
        pairs.append((prediction, truth))
    together, first, second = (BoundaryIoU(num_classes, ratio) for _ in range(3))
    for number, pair in enumerate(pairs):
        together.add(*pair, ignore=(255,))
        (first, second)[number % 2].add(*pair, ignore=(255,))
    if all((truth == 255).all() for _, truth in pairs):
        return
    first.merge(second)
    assert first.scores() == together.scores()
    expected = dense_boundary_iou(pairs, num_classes, ratio)
    assert list(together.scores().iou) == pytest.approx(expected, abs=1e-12)
    assert together.scores().mean_iou == pytest.approx(np.mean([v for v in expected if v is not None]), abs=1e-12)


def test_a_shift_of_a_large_square_costs_its_boundary_more_than_its_area():
    truth = np.zeros((300, 400), np.uint8)
    truth[50:250, 100:300] = 1
    metric = BoundaryIoU(2)
    metric.add(np.roll(truth, 5, 1), truth)
    # Boundaries are 10 = 0.02 * 500 pixels wide. Shifted by 5, the square's upright sides share 2 * 5 * 180 pixels, and
    # the level ones 2 * 10 * 195.
    ring = 200**2 - 180**2
    assert metric.scores().iou[1] == pytest.approx(
        (2 * 10 * 195 + 2 * 5 * 180) / (2 * ring - 2 * 10 * 195 - 2 * 5 * 180)
    )


@pytest.mark.parametrize(
    ("prediction", "truth", "message"),
    [
        (np.zeros((2, 3), int), np.zeros((3, 2), int), "2 x 3 pixels and the truth 3 x 2"),
        (np.full((2, 2), 3), np.zeros((2, 2), int), "prediction holds the value 3"),
        (np.zeros((2, 2), int), np.full((2, 2), 7), "truth holds the value 7.*classes 0 to 2"),
        (np.zeros((2, 2)), np.zeros((2, 2), int), "prediction holds float64"),
    ],
)
def test_impossible_input_is_refused_and_counts_nothing(prediction, truth, message):
    metric = BoundaryIoU(3)
    with pytest.raises(DataError, match=message):
        metric.add(prediction, truth, ignore=(255,))
    with pytest.raises(DataError, match="no pixel was compared"):
        metric.scores()


def test_other_boundaries_do_not_merge():
    with pytest.raises(DataError, match=r"2 classes and a dilation ratio of 0\.1 into those of 2 and 0\.02"):
        BoundaryIoU(2).merge(BoundaryIoU(2, 0.1))
