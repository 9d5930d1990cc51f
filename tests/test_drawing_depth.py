"""Drawing depth: near is bright, outliers do not darken the rest, and segments are shaded and ordered by it."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from everymask.decoding.depth import with_depth
from everymask.drawing.colors import outline_color, to_oklch
from everymask.drawing.depth import (
    DepthScale,
    brightness,
    depth_colors,
    depth_scale,
    greys,
    outline_shades,
    shades,
)
from everymask.drawing.depth_bar import depth_labels
from everymask.drawing.overlay import OPACITY
from everymask.errors import OptionError
from everymask.geometry import Size
from everymask.labels import Color, LabelSet
from everymask.runs import Runs
from everymask.segmentation import DepthKind, Region, Segment, Segmentation

RED, BLUE = (200, 30, 20), (10, 60, 220)
LABELS = LabelSet(("car", "dog"), (True, True), (RED, BLUE))
KINDS: tuple[DepthKind, ...] = ("metric", "relative")


def depth_result(depth: NDArray[np.float32], kind: DepthKind) -> Segmentation:
    return Segmentation("depth", Size(*depth.shape), (), None, LabelSet((), (), ()), depth=depth, depth_kind=kind)


def ramp(height: int, width: int, near: float, far: float) -> NDArray[np.float32]:
    """Far at the top."""
    return np.linspace(far, near, height, dtype=np.float32)[:, None].repeat(width, axis=1)


def two_masks(kind: DepthKind | None = None) -> Segmentation:
    """Two squares that overlap: the first has the higher score, the second is nearer, by ``kind``."""
    size = Size(20, 20)
    masks = [np.zeros(size, np.bool_) for _ in range(2)]
    masks[0][2:12, 2:12] = True
    masks[1][6:18, 6:18] = True
    segments = []
    for id, mask in enumerate(masks, 1):
        runs = Runs.from_mask(mask)
        segments.append(Segment(id, LABELS.names[id - 1], id - 1, 1 / id, runs.area, runs.box, True, runs))
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    result = Segmentation("instance", size, tuple(segments), None, LABELS, image)
    if kind is None:
        return result
    depth = ramp(20, 20, 1, 9) if kind == "metric" else ramp(20, 20, 9, 1)
    return with_depth(result, depth, kind)


def one_map(depth: NDArray[np.float32], kind: DepthKind) -> Segmentation:
    """A panoptic result with one segment everywhere."""
    size = Size(*depth.shape)
    id_map = np.ones(size, np.int32)
    segment = Segment(1, "car", 0, 0.9, id_map.size, (0, 0, size.width, size.height), True, Region(id_map, 1))
    image = np.full((*size, 3), 90, np.uint8)
    return with_depth(Segmentation("panoptic", size, (segment,), id_map, LABELS, image), depth, kind)


def test_the_colours_are_those_of_inferno() -> None:
    """A few of the 256 published colours that are not in the table."""
    colors = depth_colors().astype(int)
    published = {0: (0, 0, 4), 60: (81, 14, 108), 100: (144, 37, 104), 200: (251, 157, 7), 255: (252, 255, 164)}
    for index, color in published.items():
        assert np.abs(colors[index] - color).max() <= 6


@pytest.mark.parametrize("colors", [depth_colors(), greys(), shades(RED), shades(BLUE), outline_shades(BLUE)])
def test_nearer_is_lighter(colors: NDArray[np.uint8]) -> None:
    assert colors.shape == (256, 3)
    lightness = np.array([to_oklch((int(r), int(g), int(b)))[0] for r, g, b in colors[::5]])
    assert (np.diff(lightness) > 0).all()


def test_shades_keep_the_hue_and_say_depth_by_lightness_alone() -> None:
    for color in (RED, BLUE):
        for level in (80, 128, 200):
            shade: Color = tuple(shades(color)[level].tolist())  # type: ignore[assignment]
            assert to_oklch(shade)[2] == pytest.approx(to_oklch(color)[2], abs=4)
            assert to_oklch(shade)[0] == pytest.approx(to_oklch(tuple(greys()[level].tolist()))[0], abs=0.03)


@pytest.mark.parametrize("kind", KINDS)
def test_the_map_is_bright_where_it_is_near(kind: DepthKind) -> None:
    depth = ramp(40, 30, 2, 50) if kind == "metric" else ramp(40, 30, 1, 0)
    drawn = depth_result(depth, kind).draw()
    assert (drawn.mode, drawn.size) == ("RGB", (30, 40))
    pixels = np.asarray(drawn)
    assert (pixels[0] == depth_colors()[0]).all()
    assert (pixels[-1] == depth_colors()[255]).all()
    assert np.array_equal(pixels, np.asarray(depth_result(depth, kind).draw(depth="map")))


def test_metric_brightness_follows_the_logarithm_and_relative_brightness_the_number() -> None:
    metric = brightness(np.array([[1, 10, 100, 0.01, 1000]], np.float32), DepthScale(1, 100, "metric"))
    assert metric.tolist() == [[255, 128, 0, 255, 0]]
    relative = brightness(np.array([[10, 5, 0, 99, -99]], np.float32), DepthScale(10, 0, "relative"))
    assert relative.tolist() == [[255, 128, 0, 255, 0]]


@pytest.mark.parametrize("kind", KINDS)
def test_outliers_do_not_change_the_scale(kind: DepthKind) -> None:
    depth = ramp(1000, 100, 2, 50)
    calm = depth_scale(depth, kind)
    depth[300:310], depth[600:610] = 1e6, -1e6  # a percent each
    scale = depth_scale(depth, kind)
    assert (scale.near, scale.far) == pytest.approx((calm.near, calm.far), rel=0.25)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    st.sampled_from([-1e9, -1.0, 0.0, 1e-6, 1.0, 1e9]),
    st.sampled_from([0.0, 1e-6, 1.0, 1e6]),
    st.sampled_from(KINDS),
    st.integers(1, 9),
    st.integers(1, 9),
)
def test_any_finite_depth_can_be_drawn(start: float, span: float, kind: DepthKind, height: int, width: int) -> None:
    noise = np.random.default_rng(height).random((height, width))
    result = depth_result((start + span * noise).astype(np.float32), kind)
    assert result.draw().size == (width, height)
    assert result.draw(legend=True).height > height


def test_a_map_without_depth_to_tell_apart_is_of_one_colour() -> None:
    for kind in KINDS:
        drawn = np.asarray(depth_result(np.full((6, 8), 3, np.float32), kind).draw())
        assert (drawn == depth_colors()[128]).all()


def test_the_percentiles_of_a_large_depth_come_from_a_part_of_it() -> None:
    depth = np.random.default_rng(0).random((3000, 2000), dtype=np.float32)
    scale = depth_scale(depth, "relative")
    assert (scale.far, scale.near) == pytest.approx((0.02, 0.98), abs=0.002)


@pytest.mark.parametrize(
    ("near", "far", "expected"),
    [
        (1, 80, ["1 m", "2 m", "5 m", "10 m", "20 m", "50 m"]),
        (0.7, 9.5, ["1 m", "2 m", "5 m"]),
        (2, 4, ["2 m", "2.5 m", "3 m", "3.5 m", "4 m"]),
        (3, 3, ["3 m"]),
    ],
)
def test_metric_ticks_are_round_and_rise_from_near_to_far(near: float, far: float, expected: list[str]) -> None:
    labels = depth_labels(DepthScale(near, far, "metric"), 0.08)
    assert [label for _, label in labels] == expected
    assert all(0 <= place <= 1 for place, _ in labels)
    assert [place for place, _ in labels] == sorted((place for place, _ in labels), reverse=True)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.floats(2**-10, 1e6, width=32), st.floats(1, 100, width=32))
def test_ticks_stand_where_their_depth_is_drawn_and_do_not_touch(near: float, ratio: float) -> None:
    scale = DepthScale(near, float(np.float32(near * ratio)), "metric")
    labels = depth_labels(scale, 0.1)
    assert labels
    places = np.array([place for place, _ in labels])
    assert (np.diff(places) <= -0.1 + 1e-9).all()
    for place, label in labels:
        depth = np.full((1, 1), float(label.removesuffix(" m")), np.float32)
        if scale.far > 1.01 * scale.near:
            assert brightness(depth, scale)[0, 0] == pytest.approx(255 * place, abs=1.1)


def test_relative_depth_has_no_numbers() -> None:
    assert depth_labels(DepthScale(3, 1, "relative"), 0.1) == [(1.0, "near"), (0.0, "far")]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (64, 64), (360, 480), (800, 300), (40, 1500), (1500, 40)])
@pytest.mark.parametrize("kind", KINDS)
def test_the_bar_leaves_the_picture_as_it_is(height: int, width: int, kind: DepthKind) -> None:
    result = depth_result(ramp(height, width, 1, 30), kind)
    plain, with_bar = result.draw(), result.draw(legend=True)
    assert with_bar.width > width
    assert (np.asarray(with_bar)[:height, :width] == np.asarray(plain)).all()
    panel = np.asarray(with_bar)[:, width:]
    column = panel[:, panel.shape[1] // 3 if width < 100 else 20]
    inside = (column != 250).any(axis=-1)
    bar = column[inside]
    assert np.array_equal(bar[0], depth_colors()[255]), "the nearest is at the top"
    assert np.array_equal(bar[-1], depth_colors()[0])
    assert (panel.max(axis=-1) < 60).sum() > 20, "there is dark text"


@pytest.mark.parametrize("kind", KINDS)
def test_shade_makes_a_segment_lighter_where_it_is_nearer(kind: DepthKind) -> None:
    depth = ramp(60, 10, 1, 20) if kind == "metric" else ramp(60, 10, 20, 1)
    result = one_map(depth, kind)
    drawn = np.asarray(result.draw(depth="shade"))
    levels = brightness(depth, depth_scale(depth, kind))
    exact = (90.0 * (256 - OPACITY) + shades(RED)[levels].astype(float) * OPACITY) / 256
    assert np.array_equal(drawn, np.floor(exact + 0.5).astype(np.uint8))
    assert drawn[0].mean() + 40 < drawn[-1].mean()


def test_shade_leaves_what_no_segment_has_and_shades_outlines() -> None:
    result = two_masks("metric")
    assert result.image is not None
    assert result.depth is not None
    drawn = np.asarray(result.draw(depth="shade"))
    outside = ~(result.segments[0].mask | result.segments[1].mask)
    assert np.array_equal(drawn[outside], result.image[outside])
    level = brightness(result.depth, depth_scale(result.depth, "metric"))[2, 5]
    assert np.array_equal(drawn[2, 5], outline_shades(RED)[level])
    assert outline_color(RED) != tuple(drawn[2, 5])


def test_the_legend_of_shade_has_labels_and_a_bar_of_greys() -> None:
    result = two_masks("metric")
    drawn = np.asarray(result.draw(depth="shade", legend=True))
    assert np.array_equal(drawn[:20, :20], np.asarray(result.draw(depth="shade")))
    panel = drawn.copy()
    panel[:20, :20] = 250
    for color in (RED, BLUE):
        assert (panel == color).all(axis=-1).sum() >= 14 * 14
    for level in (0, 255):
        assert (panel == greys()[level]).all(axis=-1).sum() > 10


@pytest.mark.parametrize("kind", KINDS)
def test_order_puts_the_nearer_mask_on_top(kind: DepthKind) -> None:
    result = two_masks(kind)
    assert result.image is not None
    by_score, by_depth = np.asarray(result.draw()), np.asarray(result.draw(depth="order"))
    both = np.zeros(result.size, np.bool_)
    both[7:11, 7:11] = True  # in both masks, on no outline
    for drawn, color in ((by_score, RED), (by_depth, BLUE)):
        exact = (result.image * float(256 - OPACITY) + np.array(color, float) * OPACITY) / 256
        assert np.array_equal(drawn[both], np.floor(exact + 0.5).astype(np.uint8)[both])
    one = result.segments[0].mask ^ result.segments[1].mask
    assert np.array_equal(by_score[one], by_depth[one])
    assert np.array_equal(by_depth, np.asarray(result.draw(depth="order", legend=True))[:20, :20])


def test_depth_beside_segments_does_not_change_their_drawing() -> None:
    assert np.array_equal(np.asarray(two_masks("metric").draw()), np.asarray(two_masks().draw()))
    assert np.array_equal(
        np.asarray(two_masks("metric").draw(depth="map")), np.asarray(depth_result(ramp(20, 20, 1, 9), "metric").draw())
    )


@pytest.mark.parametrize("drawing", ["shade", "order", "map"])
def test_without_depth_it_is_refused_with_the_cure(drawing: str) -> None:
    with pytest.raises(OptionError, match=r"this result has none: load a model that gives depth"):
        two_masks().draw(depth=drawing)  # type: ignore[arg-type]


@pytest.mark.parametrize("drawing", ["shade", "order"])
def test_depth_alone_has_no_segments_to_shade_or_order(drawing: str) -> None:
    with pytest.raises(OptionError, match=rf'no segments to {drawing}: draw it with depth="map"'):
        depth_result(ramp(5, 5, 1, 9), "metric").draw(depth=drawing)  # type: ignore[arg-type]


def test_segments_that_cannot_overlap_have_no_order() -> None:
    with pytest.raises(OptionError, match=r'panoptic result do not overlap.*depth="shade"'):
        one_map(ramp(5, 5, 1, 9), "metric").draw(depth="order")


def test_an_unknown_drawing_is_refused_with_the_known_ones() -> None:
    with pytest.raises(OptionError, match="choose from shade, order, map"):
        two_masks("metric").draw(depth="fog")  # type: ignore[arg-type]


def test_the_map_needs_no_image_and_the_others_do() -> None:
    result = dataclasses.replace(two_masks("metric"), image=None)
    assert result.draw(depth="map").size == (20, 20)
    for drawing in ("shade", "order"):
        with pytest.raises(OptionError, match=r"dataclasses\.replace\(result, image="):
            result.draw(depth=drawing)  # type: ignore[arg-type]
