"""The evaluation of the model that segments by colour: the figures are known."""

import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

import everymask
from color_model import LABELS, ColorNetwork, color_checkpoint, picture
from eager import eager_segmenter
from everymask.errors import DataError, ImageError, OptionError
from everymask.evaluation import Evaluation, evaluate
from everymask.labels import LabelSet
from everymask.metrics.panoptic import PanopticScores
from everymask.networks.outputs import MaskQueries
from everymask.segmenter import Segmenter
from everymask.stopwatch import PHASES
from memory_dataset import MemoryDataSet, class_truth, map_truth, mask_truth

CPU = torch.device("cpu")


def color_segmenter(**changes):
    return eager_segmenter(color_checkpoint(**changes))


def pixels(left, width=4, height=2):
    """An image, its left half of one colour and its right half blue."""
    return np.asarray(picture(width, height, left=left)).copy()


@pytest.fixture
def semantic():
    """Three images; the second has a column of red called green and an ignored one."""
    truths = [class_truth([row] * 2) for row in ([0, 0, 2, 2], [1, 0, 2, 255], [0, 255, 2, 2])]
    return MemoryDataSet(LABELS, [pixels("red"), pixels("lime"), pixels("red")], truths, tasks=("semantic",))


def test_semantic_figures(semantic):
    report = evaluate(color_segmenter(), semantic)
    red, green, blue = 6 / 8, 2 / 4, 10 / 10
    headline = report.figures.headline
    assert (report.model, report.data, report.task, report.images) == ("colors", "memory", "semantic", 3)
    assert headline["mIoU"] == pytest.approx((red + green + blue) / 3)
    assert headline["aAcc"] == pytest.approx(18 / 20)
    assert headline["mAcc"] == pytest.approx((6 / 8 + 1 + 1) / 3)
    assert headline["fwIoU"] == pytest.approx((8 * red + 2 * green + 10 * blue) / 20)
    assert report.figures.columns == ("IoU", "accuracy", "boundary IoU")
    assert [row[0] for row in report.figures.classes] == [pytest.approx(red), pytest.approx(green), blue, None]
    assert report.failures == report.worst == ()


def test_the_classes_may_come_in_another_order(semantic):
    order = [2, 3, 0, 1]  # of the data's classes: the model's index
    place = np.array([order.index(c) for c in range(4)])
    truths = []
    for truth in semantic.truths:
        class_map = truth.class_map(255)
        truths.append(class_truth(np.where(class_map == 255, 255, place[class_map % 4])))
    labels = LabelSet(*(tuple(each[i] for i in order) for each in (LABELS.names, LABELS.things, LABELS.colors)))
    other = replace(semantic, labels=labels, truths=truths)
    report, expected = evaluate(color_segmenter(), other), evaluate(color_segmenter(), semantic)
    assert report.figures.headline == pytest.approx(expected.figures.headline)
    assert report.figures.classes == tuple(expected.figures.classes[i] for i in order)


def test_panoptic_figures():
    right = map_truth([[1, 1, 2, 2]] * 2, [0, 2])
    half = map_truth([[1, 0, 2, 3]] * 2, [0, 2, 0])  # a thing of one column is missed
    data = MemoryDataSet(LABELS, [pixels("red")] * 2, [right, half])
    report = evaluate(color_segmenter(), data)
    scores = report.figures.scores
    assert report.task == "panoptic"
    assert isinstance(scores, PanopticScores)
    # red: matches with IoU 1 and, its second column being nobody's, 1; one is missed. blue: IoU 1, and 1/2: no match.
    assert report.figures.headline["PQ"] == pytest.approx((2 / 2.5 + 1 / 2) / 2)
    assert report.figures.headline["PQ things"] == pytest.approx(2 / 2.5)
    assert report.figures.classes[0] == (pytest.approx(0.8), 1.0, pytest.approx(0.8), 2, 0, 1)
    assert report.figures.classes[3] == (None,) * 6


class Faint(ColorNetwork):
    """Sure of nothing: every class has a probability of about 0.4."""

    def forward(self, pixel_values):
        output = super().forward(pixel_values)
        return MaskQueries(output.class_logits / 10, output.mask_logits)


def test_average_precision_takes_instances_of_any_score():
    model = eager_segmenter(replace(color_checkpoint(), network=Faint().eval()))
    assert model(pixels("red"), task="instance").segments == ()
    data = MemoryDataSet(LABELS, [pixels("red")], [mask_truth([[[1, 1, 0, 0]] * 2], [0])], tasks=("instance",))
    report = evaluate(model, data)
    assert report.task == "instance"
    assert report.figures.headline["AP"] == pytest.approx(1)
    assert report.figures.headline["APl"] is None
    assert report.figures.classes == ((pytest.approx(1),), (None,), (None,), (None,))


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_what_cannot_be_read_is_left_out_and_the_others_go_on(semantic, batch_size):
    lost, damaged = ImageError("no such image"), DataError("no such truth")
    wrong_size = class_truth([[0, 0, 2, 2]] * 3)
    first, second, third = zip(semantic.images, semantic.truths, strict=True)
    pairs = [
        (lost, None),
        first,
        second,
        (pixels("red"), damaged),
        (lost, None),
        third,
        (pixels("red"), wrong_size),
        (lost, None),
    ]
    images, truths = zip(*pairs, strict=True)
    evaluation = Evaluation(color_segmenter(), replace(semantic, images=images, truths=truths), batch_size=batch_size)
    steps = list(evaluation.run())
    assert evaluation.total == 8
    assert steps == sorted(steps)
    report = evaluation.report()
    assert report.images == 3
    assert sorted(each.name for each in report.failures) == [f"image-{index}" for index in (0, 3, 4, 6, 7)]
    by_name = {each.name: each for each in report.failures}
    assert (by_name["image-4"].error, by_name["image-4"].source) == (lost, "memory/4")
    assert by_name["image-3"].error is damaged
    assert "3 x 4" in str(by_name["image-6"].error)
    assert report.figures.headline == evaluate(color_segmenter(), semantic).figures.headline


def test_nothing_evaluated_is_an_error(semantic):
    data = replace(semantic, images=[ImageError("first reason"), ImageError("second reason")], truths=[None, None])
    with pytest.raises(DataError, match="none of the 2 images could be evaluated; the first: first reason"):
        evaluate(color_segmenter(), data)
    with pytest.raises(DataError, match="none of the 0 images"):
        evaluate(color_segmenter(), replace(semantic, images=[], truths=[]))


def test_limit_takes_the_first(semantic):
    report = evaluate(color_segmenter(), semantic, limit=1)
    assert (report.images, report.figures.headline["mIoU"]) == (1, 1.0)
    assert evaluate(color_segmenter(), semantic, limit=9).images == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "depth"}, "colors cannot do the task 'depth'"),
        ({"task": "panoptic"}, "memory has no panoptic annotations: choose semantic"),
        ({"limit": 0}, "limit is 0"),
        ({"worst": -1}, "worst is -1"),
        ({"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_read(semantic, options, message):
    data = replace(semantic, images=[AssertionError("read")] * 3)
    with pytest.raises(OptionError, match=message):
        evaluate(color_segmenter(), data, **options)


def test_no_shared_task_is_refused(semantic):
    with pytest.raises(OptionError, match="share a task"):
        evaluate(color_segmenter(tasks=("instance",)), semantic)


def test_the_worst_images_come_first_with_a_picture(semantic):
    data = replace(semantic, truths=[semantic.truths[0], semantic.truths[1], class_truth([[3, 3, 3, 2]] * 2)])
    report = evaluate(color_segmenter(), data, worst=2)
    assert [each.name for each in report.worst] == ["image-2", "image-1"]
    assert report.worst[0].score == pytest.approx((0 + 0 + 1 / 2) / 3)
    assert report.worst[0].picture.startswith(b"\x89PNG")
    assert [each.name for each in evaluate(color_segmenter(), data, worst=9).worst] == ["image-2", "image-1", "image-0"]


@pytest.mark.parametrize("task", ["panoptic", "instance"])
def test_every_task_has_worst_images(task):
    truths = [map_truth([[1, 1, 2, 2]] * 2, [0, 2]), map_truth([[1, 2, 2, 2]] * 2, [0, 2])]
    data = MemoryDataSet(LABELS, [pixels("red")] * 2, truths)
    report = evaluate(color_segmenter(), data, task, worst=1)
    assert [each.name for each in report.worst] == ["image-1"]


def test_an_image_without_annotation_is_none_of_the_worst():
    nothing = map_truth([[0] * 4] * 2, [])
    for task in ("panoptic", "instance", "semantic"):
        data = MemoryDataSet(LABELS, [pixels("red")] * 2, [nothing, map_truth([[1, 1, 2, 2]] * 2, [0, 2])])
        report = evaluate(color_segmenter(), data, task, worst=2)
        assert [each.name for each in report.worst] == ["image-1"]
        assert report.images == 2


@pytest.mark.parametrize("task", ["semantic", "panoptic"])
def test_images_results_and_annotations_are_forgotten(task):
    held = []

    def watched(value, array):
        held.append(weakref.ref(array))
        return value

    class Watched(MemoryDataSet):
        def read_image(self, index):
            image = pixels("red", width=8 + index % 5)  # of unequal sizes, so that batches fill slowly
            return watched(image, image)

        def read_truth(self, index):
            width = 8 + index % 5
            truth = map_truth([[1] * (width // 2) + [2] * (width - width // 2)] * 2, [0, 2])
            return watched(truth, truth.id_map)

    class WatchedSegmenter(Segmenter):
        def stream(self, *arguments, **options):
            return (watched(result, result.image) for result in super().stream(*arguments, **options))

    model = eager_segmenter(color_checkpoint(), WatchedSegmenter)
    evaluation = Evaluation(model, Watched(LABELS, [None] * 60, [None] * 60), task, batch_size=2, worst=3)
    most = max(sum(reference() is not None for reference in held) for _ in evaluation.run())
    assert len(held) == 180
    # Four batches of 2 that wait, 3 images that are read ahead; and result and annotation of the image being counted.
    assert 0 < most <= 8 + 3 + 2


def test_every_phase_is_timed(semantic):
    seconds = evaluate(color_segmenter(), semantic).seconds
    assert tuple(seconds) == PHASES
    assert all(value > 0 for value in seconds.values())


def test_json_has_all_figures(semantic):
    told = evaluate(color_segmenter(), semantic, worst=1).to_json()
    assert told["classes"][0] == {"label": "red", "IoU": 0.75, "accuracy": 0.75, "boundary IoU": 0.75}
    assert told["mIoU"] == pytest.approx(0.75)
    assert told["worst"] == [{"image": "image-1", "score": pytest.approx((1 / 2 + 1 + 0) / 3)}]
    assert list(told["seconds"]) == list(PHASES)


def test_it_is_a_public_name():
    assert everymask.evaluate is evaluate
