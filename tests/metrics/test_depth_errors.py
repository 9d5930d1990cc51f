"""metrics.depth against the formulas, pixel by pixel, and least squares of numpy."""

import math
from statistics import fmean, median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everymask.errors import DataError, OptionError
from everymask.metrics.depth import DepthErrors

FIGURES = ("abs_rel", "sq_rel", "rmse", "log_rmse", "delta1", "delta2", "delta3")


def slow_errors(pairs):
    """The seven errors of [(predicted, true)] metres of one image."""
    ratios = [max(p / t, t / p) for p, t in pairs]
    return [
        fmean(abs(p - t) / t for p, t in pairs),
        fmean((p - t) ** 2 / t for p, t in pairs),
        math.sqrt(fmean((p - t) ** 2 for p, t in pairs)),
        math.sqrt(fmean((math.log(p) - math.log(t)) ** 2 for p, t in pairs)),
        *(fmean(r < 1.25**k for r in ratios) for k in (1, 2, 3)),
    ]


def slow_align(predicted, true, kind, alignment):
    if alignment == "scale-and-shift":
        target = [1 / t for t in true] if kind == "relative" else true
        columns = np.stack((predicted, np.ones(len(predicted))), 1)
        scale, shift = np.linalg.lstsq(columns, np.array(target), rcond=None)[0]
        predicted = [scale * p + shift for p in predicted]
    if kind == "relative":
        predicted = [1 / p if p > 0 else math.inf for p in predicted]
    if alignment == "median":
        factor = median(true) / median(predicted)
        predicted = [factor * p for p in predicted]
    return predicted


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(
        [
            ("metric", "none"),
            ("metric", "median"),
            ("metric", "scale-and-shift"),
            ("relative", "median"),
            ("relative", "scale-and-shift"),
        ]
    ),
    st.sampled_from([np.float32, np.float64]),
)
def test_equals_the_formulas_and_merging_changes_nothing(seed, protocol, dtype):
    rng = np.random.default_rng(seed)
    kind, alignment = protocol
    together, first, second = (DepthErrors(kind, alignment, min_depth=0.5, max_depth=10) for _ in range(3))
    expected = []
    for number in range(4):
        size = tuple(int(n) for n in rng.integers(2, 9, 2))
        truth = rng.uniform(0.3, 12, size).astype(dtype)
        truth[rng.random(size) < 0.2] = rng.choice([0, np.nan, np.inf])
        truth[0, :2] = 1, 2
        noisy = np.nan_to_num(truth, nan=1, posinf=1) * rng.uniform(0.7, 1.4, size) + 0.1
        prediction = (noisy if kind == "metric" else 30 / noisy + 2).astype(dtype)
        valid = rng.random(size) < 0.9
        valid[0, :2] = True
        valid &= np.isfinite(truth) & (truth > 0)
        given_mask = valid if number % 2 else None
        counted = (valid if number % 2 else truth > 0) & (truth >= 0.5) & (truth <= 10)
        for metric in (together, (first, second)[number // 2]):
            metric.add(prediction, truth, given_mask)
        true = truth[counted].astype(float).tolist()
        aligned = slow_align(prediction[counted].astype(float).tolist(), true, kind, alignment)
        expected.append(slow_errors([(min(max(p, 0.5), 10), t) for p, t in zip(aligned, true, strict=True)]))
    first.merge(second)
    for scores in (together.scores(), first.scores()):
        assert scores.images == 4
        found = [getattr(scores, name) for name in FIGURES]
        assert found == pytest.approx(np.mean(expected, axis=0), rel=1e-9, abs=1e-9)


def test_a_worked_example():
    metric = DepthErrors()
    metric.add(np.array([[1.0, 3.0, 5.0, 90.0]]), np.array([[1.0, 2.0, 0.0, 100.0]]))  # no truth, and too far
    scores = metric.scores()
    assert scores.abs_rel == pytest.approx((0 + 1 / 2) / 2)
    assert scores.sq_rel == pytest.approx((0 + 1 / 2) / 2)
    assert scores.rmse == pytest.approx(math.sqrt(1 / 2))
    assert scores.log_rmse == pytest.approx(math.sqrt(math.log(1.5) ** 2 / 2))
    assert (scores.delta1, scores.delta2, scores.delta3) == (0.5, 1.0, 1.0)  # 1.5 lies between 1.25 and 1.25^2


@pytest.mark.parametrize(
    ("kind", "alignment", "predict"),
    [
        ("metric", "median", lambda depth: 7 * depth),
        ("metric", "scale-and-shift", lambda depth: 7 * depth - 3),
        ("relative", None, lambda depth: 400 / depth + 25),
        ("relative", "median", lambda depth: 400 / depth),
    ],
)
def test_what_differs_only_by_the_alignment_has_no_error(kind, alignment, predict):
    truth = np.random.default_rng(0).uniform(1, 50, (9, 11))
    metric = DepthErrors(kind, alignment)
    metric.add(predict(truth), truth)
    scores = metric.scores()
    assert scores.rmse == pytest.approx(0, abs=1e-9)
    assert scores.delta1 == 1


@pytest.mark.parametrize(("kind", "predict"), [("metric", lambda d: d), ("relative", lambda d: 400 / d + 25)])
def test_a_fit_to_some_pixels_goes_for_all(kind, predict):
    truth = np.random.default_rng(0).uniform(1, 50, (9, 11)).astype(np.float32)
    prediction = predict(truth)
    truth_of_few = np.where(np.arange(11) < 3, truth, 0)
    aligned = DepthErrors(kind).aligned(prediction, truth_of_few)
    assert aligned.dtype == np.float32
    assert aligned == pytest.approx(truth, rel=1e-4)
    assert DepthErrors(kind, max_depth=20).aligned(prediction, truth_of_few).max() == 20
    assert DepthErrors(kind).aligned(prediction, np.zeros_like(truth)) is None


def test_a_constant_prediction_is_fitted_to_the_mean():
    truth = np.random.default_rng(0).uniform(1, 50, (9, 11))
    metric = DepthErrors("metric", "scale-and-shift")
    metric.add(np.full(truth.shape, 0.1), truth)
    assert metric.scores().rmse == pytest.approx(truth.std())


def test_predictions_are_limited_to_the_range():
    metric = DepthErrors(min_depth=1, max_depth=10)
    metric.add(np.array([[-3.0, 1e9]]), np.array([[2.0, 5.0]]))
    assert metric.scores().abs_rel == pytest.approx((1 / 2 + 5 / 5) / 2)


def test_inverse_depths_that_are_fitted_below_zero_are_as_far_as_can_be():
    truth = np.array([[1.0, 1.0, 1.0, 50.0]])
    metric = DepthErrors("relative", max_depth=60)
    metric.add(np.array([[3.0, 3.1, 2.9, -9.0]]), truth)
    assert metric.scores().abs_rel < 0.2


ONES = np.ones((2, 2))


@pytest.mark.parametrize(
    ("alignment", "prediction", "truth", "valid", "message"),
    [
        ("none", np.ones((2, 3)), np.ones((3, 2)), None, "2 x 3 pixels and the truth 3 x 2"),
        ("none", np.ones((2, 2)), np.ones((2, 2)), np.ones((1, 2), bool), "1 x 2 pixels and the truth 2 x 2"),
        ("none", np.ones((2, 2)), -np.ones((2, 2)), None, "not a positive number everywhere it is valid"),
        ("none", np.ones((2, 2)), np.zeros((2, 2)), np.ones((2, 2), bool), "store 0 where nothing was measured"),
        ("none", np.ones((2, 2)), np.full((2, 2), np.inf), np.ones((2, 2), bool), "not a positive number"),
        ("none", np.full((2, 2), np.nan), np.ones((2, 2)), None, "predicted depth is not finite"),
        ("none", -np.ones((2, 2)), np.ones((2, 2)), None, "no predicted depth is positive"),
        ("median", np.array([[-1.0, -1, -1, 1]]), np.ones((1, 4)), None, "median of the predicted depths"),
        ("none", ONES, ONES, None, "the prediction is the truth itself"),
    ],
)
def test_impossible_input_is_refused_and_counts_nothing(alignment, prediction, truth, valid, message):
    metric = DepthErrors("metric", alignment)
    with pytest.raises(DataError, match=message):
        metric.add(prediction, truth, valid)
    with pytest.raises(DataError, match="no depth was compared"):
        metric.scores()


def test_images_without_a_true_depth_in_range_do_not_count():
    metric = DepthErrors(max_depth=10)
    metric.add(np.ones((2, 2)), np.zeros((2, 2)))
    metric.add(np.ones((2, 2)), np.full((2, 2), 11.0))
    with pytest.raises(DataError, match=r"from 0\.001 to 10 m.*check the unit"):
        metric.scores()
    metric.add(np.ones((2, 2)), np.full((2, 2), 2.0))
    assert metric.scores().images == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "inverse"}, "not 'inverse'"),
        ({"alignment": "mean"}, "one of none, median, scale-and-shift, not 'mean'"),
        ({"kind": "relative", "alignment": "none"}, "relative depth has no unit"),
        ({"min_depth": 0}, "no range above 0"),
        ({"min_depth": 5, "max_depth": 5}, "no range above 0"),
    ],
)
def test_impossible_options_are_refused(arguments, message):
    with pytest.raises(OptionError, match=message):
        DepthErrors(**arguments)


def test_other_protocols_do_not_merge():
    with pytest.raises(DataError, match=r"relative depth \(alignment scale-and-shift, 0\.001 to 80 m\) into those"):
        DepthErrors().merge(DepthErrors("relative"))
