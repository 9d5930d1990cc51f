"""metrics.instance against pycocotools."""

import contextlib
import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from everymask.datasets.dataset import Truth, TruthSegment
from everymask.errors import DataError
from everymask.geometry import Size
from everymask.labels import LabelSet
from everymask.metrics.instance import AveragePrecision
from everymask.runs import Runs
from everymask.segmentation import Region, Segment, Segmentation

# A stuff class before and a hole between the things: neither may shift or count.
LABELS = LabelSet(
    ("sky", "cat", "N/A", "dog", "cow"), (False, True, False, True, True), (None,) * 5, holes=frozenset({2})
)
THINGS = (1, 3, 4)
FIGURES = (
    *("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
    *("ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large"),
)


def make_segment(id, label_id, score, pixels, area):
    return Segment(id, LABELS.names[label_id], label_id, score, area, (0, 0, 1, 1), True, pixels)


def blob(rng, size, middle, radius):
    """A disc with a rough edge, (H, W) bool."""
    y, x = np.ogrid[: size[0], : size[1]]
    distance = np.hypot(y - middle[0], (x - middle[1]) * rng.uniform(0.6, 1.6))
    return distance < radius * (1 + 0.1 * rng.standard_normal(size))


def annotate(label_id, mask, score_or_crowd):
    return label_id, Runs.from_mask(mask), int(mask.sum()), score_or_crowd


def random_image(rng):
    """Overlapping objects of all sizes, some of them crowds, and predictions: shifted copies, and wrong ones.

    Returns the size, the truth [(class, runs, stated area, is crowd)] and the predictions [(class, runs, area, score)].
    """
    size = (int(rng.integers(90, 260)), int(rng.integers(90, 260)))
    truth, predicted = [], []
    for _ in range(int(rng.integers(0, 12))):
        middle, radius = rng.uniform(0, size), np.exp(rng.uniform(np.log(3), np.log(90)))
        mask = blob(rng, size, middle, radius)
        label_id = int(rng.choice([0, *THINGS]))
        if mask.any():
            label_id, runs, area, crowd = annotate(label_id, mask, bool(rng.random() < 0.15))
            # A polygon's area is not quite that of its pixels; here it often is of another size.
            truth.append((label_id, runs, area * float(rng.choice([1, 0.5, 1.7])), crowd))
        for _ in range(int(rng.integers(0, 4))):
            near = blob(rng, size, middle + rng.normal(0, radius * 0.15, 2), radius * rng.uniform(0.8, 1.2))
            label = label_id if rng.random() < 0.8 else int(rng.choice([0, *THINGS]))
            predicted.append(annotate(label, near, round(float(rng.random()), 1)))  # few scores: many are equal
    for _ in range(int(rng.choice([0, 30, 130]))):  # more of a class than the figures that allow ten, or a hundred
        top, left = (int(rng.integers(0, length - 20)) for length in size)
        mask = np.zeros(size, bool)
        mask[top : top + 20, left : left + 15] = True
        predicted.append(annotate(1, mask, float(rng.random())))
    return size, truth, predicted


def to_pair(image):
    size, truth, predicted = image
    return (
        Segmentation(
            "instance",
            Size(*size),
            tuple(
                make_segment(id, label_id, score, runs, area)
                for id, (label_id, runs, area, score) in enumerate(predicted, 1)
            ),
            None,
            LABELS,
        ),
        Truth(
            Size(*size),
            tuple(
                TruthSegment(label_id, runs, runs.area, crowd, None if area == runs.area else area)
                for label_id, runs, area, crowd in truth
            ),
            None,
        ),
    )


def official_figures(images):
    """What pycocotools says: its twelve figures, with None for its -1, and AP by class."""
    pictures, truth, results = [], [], []
    for number, (size, objects, predicted) in enumerate(images, 1):
        pictures.append({"id": number, "height": size[0], "width": size[1]})
        for label_id, runs, area, crowd in objects:
            annotation = {
                "id": len(truth) + 1,
                "image_id": number,
                "category_id": label_id + 1,
                "segmentation": runs.to_coco(),
                "area": area,
                "iscrowd": int(crowd),
            }
            truth.append(annotation)
        results += [
            {
                "image_id": number,
                "category_id": label_id + 1,
                "segmentation": runs.to_coco(),
                "score": score,
            }
            for label_id, runs, _, score in predicted
        ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "info": {},
            "images": pictures,
            "categories": [{"id": label_id + 1} for label_id in THINGS],
            "annotations": truth,
        }
        coco.createIndex()
        evaluator = COCOeval(coco, coco.loadRes(results), "segm")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    by_class = evaluator.eval["precision"][:, :, :, 0, 2]
    return [None if value == -1 else float(value) for value in evaluator.stats], [
        float(by_class[:, :, place].mean()) if (by_class[:, :, place] > -1).any() else None
        for place in range(len(THINGS))
    ]


@settings(derandomize=True, deadline=None, max_examples=8)
@given(st.integers(0, 2**32 - 1))
def test_equals_pycocotools(seed):
    rng = np.random.default_rng(seed)
    images = [random_image(rng) for _ in range(6)]
    if not any(not crowd and label_id in THINGS for _, truth, _ in images for label_id, _, _, crowd in truth):
        return
    images[0][2].append(annotate(1, np.ones(images[0][0], bool), 0.5))  # loadRes takes no empty list
    together, first, second = (AveragePrecision(LABELS) for _ in range(3))
    for number, image in enumerate(images):
        together.add(*to_pair(image))
        (first if number < 3 else second).add(*to_pair(image))
    first.merge(second)
    figures, per_class = official_figures(images)
    for scores in (together.scores(), together.scores(), first.scores()):  # making figures changes nothing
        assert [getattr(scores, name) for name in FIGURES] == pytest.approx(figures, abs=1e-12)
        assert [scores.per_class[label_id] for label_id in THINGS] == pytest.approx(per_class, abs=1e-12)
        assert scores.per_class[0] is scores.per_class[2] is None


def test_masks_in_an_id_map_count_as_their_runs():
    rng = np.random.default_rng(5)
    true_map, id_map = (np.repeat(np.repeat(rng.integers(0, 6, (7, 8)), 9, 0), 6, 1).astype(np.int32) for _ in "ab")
    id_map = np.where(rng.random(id_map.shape) < 0.9, true_map, id_map)
    classes, crowds = (1, 3, 4, 1, 3), (False, False, True, False, False)
    size = Size(*id_map.shape)

    def truth(pixels, id_map):
        segments = [
            TruthSegment(label_id, pixels(id), int((true_map == id).sum()), crowd)
            for id, (label_id, crowd) in enumerate(zip(classes, crowds, strict=True), 1)
        ]
        return Truth(size, tuple(segments), id_map)

    def prediction(pixels, id_map_or_none):
        segments = [
            make_segment(id, label_id, 1 / id, pixels(id), int((id_map == id).sum()))
            for id, label_id in enumerate(classes, 1)
        ]
        return Segmentation("panoptic", size, tuple(segments), id_map_or_none, LABELS)

    by_map, by_runs = AveragePrecision(LABELS), AveragePrecision(LABELS)
    by_map.add(
        prediction(lambda id: Region(id_map, id), id_map),
        truth(lambda id: Region(true_map, id), true_map),
    )
    by_runs.add(
        prediction(lambda id: Runs.from_mask(id_map == id), None),
        truth(lambda id: Runs.from_mask(true_map == id), None),
    )
    assert by_map.scores() == by_runs.scores()
    assert 0 < by_map.scores().ap < 1


def test_no_predictions_find_nothing():
    (_, truth), metric = (
        to_pair(((20, 20), [annotate(1, np.ones((20, 20), bool), False)], [])),
        AveragePrecision(LABELS),
    )
    metric.add(Segmentation("instance", Size(20, 20), (), None, LABELS), truth)
    scores = metric.scores()
    assert (scores.ap, scores.ar100, scores.ap_small, scores.ap_large) == (0.0, 0.0, 0.0, None)


MASK = np.eye(4, dtype=bool)
PAIR = to_pair(((4, 4), [annotate(1, MASK, False)], [annotate(1, MASK, 0.5)]))


def with_segment(**changes):
    return replace(PAIR[0], segments=(replace(PAIR[0].segments[0], **changes),))


@pytest.mark.parametrize(
    ("prediction", "truth", "message"),
    [
        (replace(PAIR[0], size=Size(4, 5)), PAIR[1], "prediction is 4 x 5 pixels and the truth 4 x 4"),
        (with_segment(label_id=2), PAIR[1], "prediction has a segment of class 2, which is none of the 4 classes"),
        (PAIR[0], replace(PAIR[1], segments=(replace(PAIR[1].segments[0], label_id=5),)), "truth has a segment of cla"),
        (with_segment(score=None), PAIR[1], '"cat" has the score None.*task="instance"'),
        (with_segment(score=float("nan")), PAIR[1], "score nan"),
        (with_segment(pixels=PAIR[1].segments[0].pixels), PAIR[1], "one of the truth's own"),
        (
            replace(PAIR[0], id_map=MASK.view(np.int8)),
            replace(PAIR[1], id_map=MASK.view(np.int8)),
            "the prediction is the truth itself",
        ),
    ],
)
def test_impossible_input_is_refused_and_collects_nothing(prediction, truth, message):
    metric = AveragePrecision(LABELS)
    with pytest.raises(DataError, match=message):
        metric.add(prediction, truth)
    with pytest.raises(DataError, match="no image was added"):
        metric.scores()


def test_only_crowds_and_stuff_have_no_figures():
    metric = AveragePrecision(LABELS)
    metric.add(*to_pair(((4, 4), [annotate(1, MASK, True), annotate(0, MASK, False)], [annotate(1, MASK, 0.5)])))
    with pytest.raises(DataError, match="all of them are crowds"):
        metric.scores()


def test_other_labels_do_not_merge():
    with pytest.raises(DataError, match="1 classes into those of 5"):
        AveragePrecision(LABELS).merge(AveragePrecision(LabelSet(("cat",), (True,), (None,))))
