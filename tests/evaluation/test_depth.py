"""The evaluation of depth, of networks whose depths are known: they read them off the colours."""

import io
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from color_model import color_checkpoint
from eager import eager_segmenter
from everymask.datasets.dataset import Conventions, Truth
from everymask.drawing.legend import SMALLEST_TEXT
from everymask.errors import DataError, OptionError
from everymask.evaluation import Report, evaluate
from everymask.evaluation.depth_drawing import UNKNOWN
from everymask.evaluation.figures import figure_text, measure_for
from everymask.geometry import Size
from everymask.labels import LabelSet
from everymask.metrics.depth import DepthErrors, DepthScores
from everymask.networks.outputs import DepthMap, PixelLogits, PixelsAndDepth
from everymask.segmentation import DepthKind, Task
from everymask.segmenter import Segmenter

NO_LABELS, TWO = LabelSet((), (), ()), LabelSet(("road", "car"), (False, True), (None, None))
SIZE = Size(6, 8)
KINDS: tuple[DepthKind, ...] = ("metric", "relative")


class RedDepth(nn.Module):
    """Depth is what the red of a pixel says, 0..255; with classes beside it where ``both``."""

    def __init__(self, *, both: bool) -> None:
        super().__init__()
        self.both = both

    def forward(self, pixel_values: Tensor) -> DepthMap | PixelsAndDepth:
        depth = DepthMap(pixel_values[:, 0] * 255)
        return PixelsAndDepth(PixelLogits(pixel_values[:, :2]), depth) if self.both else depth


def segmenter(kind: DepthKind, *, both: bool = False) -> Segmenter:
    tasks: tuple[Task, ...] = ("semantic",) if both else ("depth",)
    labels = TWO if both else NO_LABELS
    network = RedDepth(both=both)
    checkpoint = replace(color_checkpoint(), network=network, labels=labels, tasks=tasks, depth_kind=kind)
    return eager_segmenter(checkpoint)


@dataclass(frozen=True)
class RedData:
    """Photographs whose red is random, and depths made of it."""

    depths: list[NDArray[np.float32] | None]
    depth_kind: DepthKind = "metric"
    name: str = "red"
    labels: LabelSet = NO_LABELS
    tasks: tuple[Task, ...] = ("depth",)
    conventions: Conventions = field(default_factory=lambda: Conventions((), 0, "none"))

    @property
    def names(self) -> list[str]:
        return [f"image-{index}" for index in range(len(self.depths))]

    def read_image(self, index: int) -> NDArray[np.uint8]:
        image = np.zeros((*SIZE, 3), np.uint8)
        image[..., 0] = red(index)
        return image

    def read_truth(self, index: int) -> Truth:
        raise AssertionError("depth needs no segments")

    def read_depth(self, index: int) -> NDArray[np.float32]:
        depth = self.depths[index]
        if depth is None:
            raise DataError("depth is damaged: get a fresh copy")
        return depth

    def source(self, index: int) -> str:
        return self.names[index]


def red(index: int) -> NDArray[np.uint8]:
    return np.random.default_rng(index).integers(1, 80, SIZE, np.uint8)


def noisy(index: int, amount: float) -> NDArray[np.float32]:
    """The red, more or less, and nothing known of the first row."""
    rng = np.random.default_rng(100 + index)
    depth = (red(index) * rng.uniform(1 - amount, 1, SIZE)).astype(np.float32)
    depth[0] = 0
    return depth


def scores_of(report: Report) -> DepthScores:
    assert isinstance(report.figures.scores, DepthScores)
    return report.figures.scores


def test_metres_are_measured_as_they_are() -> None:
    data = RedData([noisy(index, 0.4) for index in range(3)])
    report = evaluate(segmenter("metric"), data, batch_size=2)
    errors = DepthErrors("metric")
    for index, truth in enumerate(data.depths):
        assert truth is not None
        errors.add(red(index).astype(np.float32), truth)
    expected = errors.scores()
    assert (report.task, report.images, report.labels.names) == ("depth", 3, ())
    assert list(report.figures.headline) == ["AbsRel", "SqRel", "RMSE", "log RMSE", "delta1", "delta2", "delta3"]
    assert list(report.figures.headline.values()) == pytest.approx(
        [getattr(expected, name) for name in list(DepthScores.__slots__)[:7]], rel=1e-5
    )
    assert report.to_json()["classes"] == []
    assert report.to_json()["RMSE"] == pytest.approx(expected.rmse)


def test_relative_depth_is_fitted_to_each_image_by_scale_and_shift() -> None:
    truths: list[NDArray[np.float32] | None] = [(1 / (k * red(k) + 0.01)).astype(np.float32) for k in (1, 2)]
    data = RedData([np.ones(SIZE, np.float32), *truths])
    report = evaluate(segmenter("relative"), data)
    assert scores_of(report).abs_rel == pytest.approx(0, abs=1e-4)
    assert scores_of(report).delta1 == 1
    assert evaluate(segmenter("metric"), data).figures.headline["delta1"] < 0.5  # type: ignore[operator]


def test_depth_beside_classes_can_be_measured() -> None:
    data = RedData([noisy(0, 0.3)], labels=TWO, tasks=("semantic", "depth"))
    report = evaluate(segmenter("metric", both=True), data, "depth")
    alone = evaluate(segmenter("metric"), data, "depth")
    assert report.figures.headline == alone.figures.headline
    assert evaluate(segmenter("metric", both=True), RedData([noisy(0, 0.3)])).task == "depth"


def test_an_image_without_a_fresh_truth_fails_alone() -> None:
    wrong = np.ones((3, 3), np.float32)
    report = evaluate(segmenter("metric"), RedData([None, noisy(1, 0.2), wrong]))
    assert report.images == 1
    assert [each.name for each in report.failures] == ["image-0", "image-2"]
    assert "get a fresh copy" in str(report.failures[0].error)


def test_the_worst_has_the_largest_error_and_is_drawn_in_the_colours_of_its_truth() -> None:
    unknown = np.zeros(SIZE, np.float32)
    data = RedData([noisy(0, 0.1), noisy(1, 0.9), unknown, noisy(3, 0.5)])
    report = evaluate(segmenter("metric"), data, worst=2)
    assert [each.name for each in report.worst] == ["image-1", "image-3"]
    assert report.worst[0].score > report.worst[1].score > 0
    everything = evaluate(segmenter("metric"), data, worst=9).worst
    assert [each.name for each in everything] == ["image-1", "image-3", "image-0"]  # nothing is known of image-2
    photo, predicted, true = panels(everything[-1].picture)
    assert (true[:30] == UNKNOWN).all()
    assert not (true[31:] == UNKNOWN).all(2).any()
    assert not (predicted == UNKNOWN).all(2).any()
    assert np.array_equal(photo[::30, ::30], data.read_image(0))
    exact = RedData([red(0).astype(np.float32)])
    _, predicted, true = panels(evaluate(segmenter("metric"), exact, worst=1).worst[0].picture)
    assert np.array_equal(predicted, true)


def panels(picture: bytes) -> list[NDArray[np.uint8]]:
    """Photo, prediction and truth of a drawing, 30 pixels a side for each of theirs."""
    gap, line = round(0.8 * SMALLEST_TEXT), round(1.7 * SMALLEST_TEXT)
    pixels, top = np.asarray(Image.open(io.BytesIO(picture))), gap + 2 * line
    return [pixels[top : top + 180, left : left + 240] for left in (gap + place * (240 + gap) for place in range(3))]


def test_a_truth_that_is_not_known_anywhere_is_drawn_grey() -> None:
    data = RedData([np.zeros(SIZE, np.float32)])
    for kind in KINDS:
        model, measure = segmenter(kind), measure_for("depth", NO_LABELS, kind)
        picture = io.BytesIO()
        measure.draw(model(data.read_image(0)), measure.read(data, 0), "unknown").save(picture, "PNG")
        _, predicted, true = panels(picture.getvalue())
        assert (true == UNKNOWN).all()
        assert len(np.unique(predicted.reshape(-1, 3), axis=0)) > 20


def test_relative_truth_cannot_be_measured() -> None:
    with pytest.raises(OptionError, match=r"the depth of red is relative, .* measured in metres"):
        evaluate(segmenter("relative"), RedData([noisy(0, 0.1)], depth_kind="relative"))


def test_data_without_a_known_depth_has_no_figures() -> None:
    with pytest.raises(DataError, match="no depth was compared"):
        evaluate(segmenter("metric"), RedData([np.zeros(SIZE, np.float32)]))


def test_figures_for_people() -> None:
    given = {"AbsRel": 0.0712, "SqRel": 0.2, "RMSE": 0.41, "log RMSE": 0.1, "delta1": 0.9541, "AP": None}
    assert [figure_text(name, value) for name, value in given.items()] == [
        "AbsRel 0.0712",
        "SqRel 0.2000 m",
        "RMSE 0.4100 m",
        "log RMSE 0.1000",
        "delta1 95.41%",
        "AP -",
    ]
