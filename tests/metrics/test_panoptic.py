"""metrics.panoptic against panopticapi's published figures and counting mask by mask."""

import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everymask.datasets.dataset import Truth, TruthSegment
from everymask.datasets.opening import open_dataset
from everymask.errors import DataError
from everymask.geometry import Size
from everymask.labels import LabelSet
from everymask.metrics.panoptic import PanopticQuality
from everymask.segmentation import Region, Segment, Segmentation
from shared import SHARED, needs_shared

LABELS = LabelSet(("cat", "dog", "cow", "sky", "sea"), (True, True, True, False, False), (None,) * 5)


def make_truth(id_map, classes, crowds=()):
    """Truth of segments 1..n with these classes; ``crowds`` are ids."""
    id_map = np.asarray(id_map, np.int32)
    segments = tuple(
        TruthSegment(label_id, Region(id_map, id), int((id_map == id).sum()), id in crowds)
        for id, label_id in enumerate(classes, 1)
    )
    return Truth(Size(*id_map.shape), segments, id_map)


def make_prediction(id_map, class_of_id, labels=LABELS):
    """A panoptic result of segments with these ids and classes."""
    id_map = np.asarray(id_map, np.int32)
    segments = tuple(
        Segment(
            id=id,
            label=str(label_id),
            label_id=label_id,
            score=0.9,
            area=int((id_map == id).sum()),
            box=(0, 0, 1, 1),
            is_thing=True,
            pixels=Region(id_map, id),
        )
        for id, label_id in class_of_id.items()
    )
    return Segmentation("panoptic", Size(*id_map.shape), segments, id_map, labels)


def dense_quality(pairs, num_classes):
    """{class: (PQ, SQ, RQ, TP, FP, FN)} as exact fractions, from dense masks."""
    iou_sum = [Fraction(0)] * num_classes
    tp, fp, fn = [0] * num_classes, [0] * num_classes, [0] * num_classes
    for prediction, truth in pairs:
        void = truth.id_map == 0
        true = [(each, truth.id_map == number) for number, each in enumerate(truth.segments, 1)]
        predicted = [(each, prediction.id_map == each.id) for each in prediction.segments]
        matched = set()
        for segment, mask in true:
            if segment.is_crowd:
                continue
            hits = []
            for number, (other, other_mask) in enumerate(predicted):
                if other.label_id == segment.label_id and mask.any():
                    union = (mask | (other_mask & ~void)).sum()
                    iou = Fraction(int((mask & other_mask).sum()), int(union))
                    if iou > Fraction(1, 2):
                        hits.append((number, iou))
            assert len(hits) <= 1
            if hits:
                matched.add(hits[0][0])
                tp[segment.label_id] += 1
                iou_sum[segment.label_id] += hits[0][1]
            else:
                fn[segment.label_id] += 1
        for number, (segment, mask) in enumerate(predicted):
            if number in matched:
                continue
            excused = void.copy()
            crowds = [m for other, m in true if other.is_crowd and other.label_id == segment.label_id]
            if crowds:
                excused |= crowds[-1]
            if 2 * int((mask & excused).sum()) <= int(mask.sum()):
                fp[segment.label_id] += 1
    figures = {}
    for c in range(num_classes):
        if tp[c] + fp[c] + fn[c]:
            rq = Fraction(2 * tp[c], 2 * tp[c] + fp[c] + fn[c])
            sq = iou_sum[c] / tp[c] if tp[c] else Fraction(0)
            figures[c] = (float(sq * rq), float(sq), float(rq), tp[c], fp[c], fn[c])
    return figures


def boxes_on(rng, size, count, background):
    """An id map of rectangles 1..count, later ones on top, on void or on segment 1."""
    id_map = np.full(size, background, np.int32)
    for id in range(1 + background, count + 1):
        top, left = rng.integers(0, size[0]), rng.integers(0, size[1])
        id_map[top : top + rng.integers(2, 12), left : left + rng.integers(2, 12)] = id
    present = np.unique(id_map[id_map > 0])
    return np.searchsorted(np.append(0, present), id_map).astype(np.int32), len(present)


def random_pair(rng):
    size = tuple(int(n) for n in rng.integers(6, 24, 2))
    true_map, count = boxes_on(rng, size, int(rng.integers(1, 12)), int(rng.integers(0, 2)))
    classes = rng.integers(0, 5, count).tolist()
    crowds = {id for id in range(1, count + 1) if rng.random() < 0.25}
    # The prediction is the truth, shifted, some of it cut, merged or relabelled, and its ids shuffled with gaps.
    predicted = np.roll(true_map, rng.integers(-2, 3, 2), (0, 1))
    kind = rng.random(count + 1)
    predicted[(kind < 0.15)[predicted]] = 0
    predicted = np.where((kind > 0.9)[predicted] & (np.arange(size[1]) % 3 > 0), count + 1, predicted)
    class_of_place = [*(c if rng.random() < 0.8 else int(rng.integers(0, 5)) for c in classes), 2]
    ids = rng.permutation(np.arange(1, 2 * count + 3))[: count + 1]
    id_map = np.append(0, ids)[predicted]
    present = [place for place in range(1, count + 2) if (predicted == place).any()]
    return make_prediction(id_map, {int(ids[p - 1]): class_of_place[p - 1] for p in present}), make_truth(
        true_map, classes, crowds
    )


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.integers(0, 2**32 - 1))
def test_equals_counting_mask_by_mask_and_merging_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    pairs = [random_pair(rng) for _ in range(4)]
    together, first, second = (PanopticQuality(LABELS) for _ in range(3))
    for number, pair in enumerate(pairs):
        together.add(*pair)
        (first, second)[number % 2].add(*pair)
    first.merge(second)
    expected = dense_quality(pairs, len(LABELS))
    if not any(tp + fn for _, _, _, tp, _, fn in expected.values()):
        with pytest.raises(DataError, match="no annotated segment"):
            together.scores()
        return
    for scores in (together.scores(), first.scores()):
        assert {c for c, quality in enumerate(scores.per_class) if quality is not None} == set(expected)
        for c, (pq, sq, rq, *numbers) in expected.items():
            quality = scores.per_class[c]
            assert (quality.pq, quality.sq, quality.rq) == pytest.approx((pq, sq, rq), abs=1e-12)
            assert [quality.true_positives, quality.false_positives, quality.false_negatives] == numbers
        for mean, members in ((scores.all, range(5)), (scores.things, range(3)), (scores.stuff, range(3, 5))):
            figures = [expected[c][:3] for c in members if c in expected]
            if not figures:
                assert mean is None
                continue
            assert mean.classes == len(figures)
            assert (mean.pq, mean.sq, mean.rq) == pytest.approx(np.mean(figures, axis=0), abs=1e-12)


@needs_shared
@pytest.mark.parametrize("name", ["good", "bad"])
def test_equals_the_official_figures_of_the_coco_sample(name):
    folder = SHARED / "data" / "panoptic_sample"
    truths, predictions = (open_dataset(folder, split=split) for split in ("truth", f"prediction_{name}"))
    metric, from_file = PanopticQuality(truths.labels), PanopticQuality(truths.labels)
    for index in range(len(truths.names)):
        truth, read = truths.read_truth(index), predictions.read_truth(index)
        classes = {place: segment.label_id for place, segment in enumerate(read.segments, 1)}
        metric.add(make_prediction(read.id_map, classes, truths.labels), truth)
        from_file.add(read, truth)
    scores = metric.scores()
    assert from_file.scores() == scores
    official = json.loads((folder / f"official_{name}.json").read_text())
    for key, mean in (("All", scores.all), ("Things", scores.things), ("Stuff", scores.stuff)):
        expected = official[key]
        assert mean.classes == expected["n"]
        for figure in ("pq", "sq", "rq"):
            assert getattr(mean, figure) == pytest.approx(expected[figure], rel=1e-12, abs=1e-15)
    categories = [each["id"] for each in json.loads((folder / "truth.json").read_text())["categories"]]
    found = {
        str(category): quality
        for category, quality in zip(categories, scores.per_class, strict=True)
        if quality is not None and (quality.pq or quality.sq)
    }
    assert found.keys() == official["per_class"].keys()
    for category, quality in found.items():
        for figure, value in official["per_class"][category].items():
            assert getattr(quality, figure) == pytest.approx(value, rel=1e-12)


def test_more_segments_than_pixels_could_tabulate():
    size = (40, 50)
    true_map = np.arange(1, 2001, dtype=np.int32).reshape(size)  # every pixel is a segment
    metric = PanopticQuality(LABELS)
    metric.add(
        make_prediction(true_map[::-1], dict.fromkeys(range(1, 2001), 0)), make_truth(true_map.copy(), [0] * 2000)
    )
    quality = metric.scores().per_class[0]
    assert (quality.true_positives, quality.pq) == (2000, 1.0)


def test_an_overlap_of_exactly_half_does_not_match_and_is_not_excused():
    # IoU 2 / 4; and a prediction with half of its pixels in void is wrong.
    metric = PanopticQuality(LABELS)
    metric.add(make_prediction([[1, 1, 1, 1, 2, 2]], {1: 0, 2: 1}), make_truth([[1, 1, 2, 2, 2, 0]], [0, 3]))
    per_class = metric.scores().per_class
    assert (per_class[0].false_positives, per_class[0].false_negatives) == (1, 1)
    assert per_class[1].false_positives == 1


def test_things_or_stuff_without_any_have_no_figures():
    metric = PanopticQuality(LABELS)
    metric.add(make_prediction([[1]], {1: 4}), make_truth([[1]], [4]))
    scores = metric.scores()
    assert scores.things is None
    assert scores.stuff.pq == scores.all.pq == 1.0


TRUTH = make_truth([[1, 1, 0]], [0])
HOLED = LabelSet(("cat", "N/A"), (True, False), (None, None), frozenset({1}))


@pytest.mark.parametrize(
    ("labels", "prediction", "truth", "message"),
    [
        (LABELS, make_prediction([[1, 1]], {1: 0}), TRUTH, "prediction is 1 x 2 pixels and the truth 1 x 3"),
        (LABELS, make_prediction([[1, 1, 1]], {1: 5}), TRUTH, "prediction has a segment of class 5.*none of the 5"),
        (
            LABELS,
            make_prediction([[1, 1, 1]], {1: 0}),
            make_truth([[1, 1, 0]], [-1]),
            "truth has a segment of class -1",
        ),
        (HOLED, make_prediction([[1, 1, 1]], {1: 1}), TRUTH, "class 1, which is none of the 1 classes"),
        (LABELS, make_prediction([[1, 2, 1]], {1: 0}), TRUTH, "id map of the prediction holds an id that none"),
        (LABELS, make_prediction([[3, -7, 3]], {3: 0}), TRUTH, "id map of the prediction holds an id that none"),
        (LABELS, make_prediction([[3, 9, 3]], {3: 0}), TRUTH, "id map of the prediction holds an id that none"),
        (LABELS, make_prediction([[1, 1, 1]], {1: 0}), make_truth([[1, 2, 0]], [0]), "id map of the truth holds an id"),
        (LABELS, make_prediction([[1, 1, 1]], {1: 0, 2: 0}), TRUTH, "segment number 2 of the prediction has no pixel"),
        (LABELS, make_prediction([[4, 4, 4]], {4: 0, 0: 1}), TRUTH, "number them from 1"),
        (LABELS, replace(make_prediction([[1]], {1: 0}), id_map=None), TRUTH, 'may overlap.*task="panoptic"'),
        (LABELS, make_prediction([[1]], {1: 0}), replace(TRUTH, id_map=None), "the truth holds masks that may overlap"),
        (LABELS, TRUTH, TRUTH, "the prediction is the truth itself"),
        (LABELS, replace(make_prediction([[1, 1, 0]], {1: 0}), id_map=TRUTH.id_map), TRUTH, "the truth itself"),
    ],
)
def test_impossible_input_is_refused_and_counts_nothing(labels, prediction, truth, message):
    metric = PanopticQuality(labels)
    with pytest.raises(DataError, match=message):
        metric.add(prediction, truth)
    with pytest.raises(DataError, match="no annotated segment was compared"):
        metric.scores()


def test_only_crowds_and_void_have_no_figures():
    metric = PanopticQuality(LABELS)
    metric.add(make_prediction([[1, 1, 1]], {1: 1}), make_truth([[1, 1, 0]], [0], crowds={1}))
    with pytest.raises(DataError, match="crowds or ignored"):
        metric.scores()


def test_other_labels_do_not_merge():
    with pytest.raises(DataError, match="2 classes into those of 5"):
        PanopticQuality(LABELS).merge(PanopticQuality(HOLED))
