"""Drawing: exact pixels on small pictures, stable colours, and legends at any size."""

import dataclasses
import math
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from everymask.drawing.colors import (
    from_oklch,
    instance_color,
    label_color,
    outline_color,
    segment_colors,
    to_oklch,
)
from everymask.drawing.legend import legend_entries, text_size
from everymask.drawing.overlay import OPACITY, borders, outline_thickness
from everymask.errors import OptionError
from everymask.geometry import Size
from everymask.labels import Color, LabelSet
from everymask.runs import Runs
from everymask.segmentation import Region, Segment, Segmentation

RED, BLUE = (200, 30, 20), (10, 60, 220)
LABELS = LabelSet(("sky", "car", "dog"), (False, True, True), (RED, BLUE, None))
PALETTELESS = LabelSet(tuple(f"class {i}" for i in range(200)), (True,) * 200, (None,) * 200)


def picture(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def map_result(id_map: NDArray[np.int32], label_ids: list[int], labels: LabelSet = LABELS) -> Segmentation:
    """A panoptic result with segment i + 1 of label ``label_ids[i]``."""
    segments = []
    for id, label_id in enumerate(label_ids, 1):
        runs = Runs.from_mask(id_map == id)
        name, thing = labels.names[label_id], labels.things[label_id]
        segments.append(Segment(id, name, label_id, 1 - id / 1000, runs.area, runs.box, thing, Region(id_map, id)))
    image = picture(*id_map.shape)
    return Segmentation("panoptic", Size(*id_map.shape), tuple(segments), id_map, labels, image)


def mask_result(masks: list[NDArray[np.bool_]], label_ids: list[int], size: Size) -> Segmentation:
    """An instance result, best mask first."""
    segments = []
    for id, (mask, label_id) in enumerate(zip(masks, label_ids, strict=True), 1):
        runs = Runs.from_mask(mask)
        segments.append(Segment(id, LABELS.names[label_id], label_id, 1 - id / 1000, runs.area, runs.box, True, runs))
    return Segmentation("instance", size, tuple(segments), None, LABELS, picture(*size))


def square(size: Size, top: int, left: int, bottom: int, right: int) -> NDArray[np.bool_]:
    mask = np.zeros(size, np.bool_)
    mask[top:bottom, left:right] = True
    return mask


def filled(image: NDArray[np.uint8], color: Color) -> NDArray[np.uint8]:
    """What a pixel under a fill becomes, rounded to nearest."""
    exact = (image.astype(float) * (256 - OPACITY) + np.array(color, float) * OPACITY) / 256
    return np.floor(exact + 0.5).astype(np.uint8)


def test_a_segment_is_filled_and_outlined_inside_its_mask_and_the_rest_is_untouched() -> None:
    id_map = square(Size(12, 14), 3, 4, 9, 11).astype(np.int32)
    result = map_result(id_map, [1])
    assert result.image is not None
    drawn = np.asarray(result.draw())

    inner = square(Size(12, 14), 4, 5, 8, 10)
    outline = (id_map == 1) & ~inner
    assert (drawn[id_map == 0] == result.image[id_map == 0]).all()
    assert (drawn[inner] == filled(result.image, BLUE)[inner]).all()
    assert (drawn[outline] == outline_color(BLUE)).all()


def test_the_edge_of_the_image_is_no_outline() -> None:
    result = map_result(np.ones((9, 9), np.int32), [0])
    assert result.image is not None
    assert (np.asarray(result.draw()) == filled(result.image, RED)).all()


def test_the_image_of_the_result_is_not_changed() -> None:
    result = map_result(square(Size(8, 8), 2, 2, 6, 6).astype(np.int32), [1])
    assert result.image is not None
    before = result.image.copy()
    result.draw(legend=True)
    assert (result.image == before).all()


def test_overlapping_masks_show_the_higher_score_and_all_outlines() -> None:
    size = Size(20, 20)
    best, worst = square(size, 2, 2, 12, 12), square(size, 7, 7, 17, 17)
    result = mask_result([best, worst], [1, 2], size)
    assert result.image is not None
    drawn = np.asarray(result.draw())

    def outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return mask & borders(mask, 1)

    dog = label_color(LABELS, 2)
    assert (drawn[outline(best)] == outline_color(BLUE)).all()
    assert (drawn[outline(worst) & ~outline(best)] == outline_color(dog)).all()
    inside = ~outline(best) & ~outline(worst)
    assert (drawn[best & inside] == filled(result.image, BLUE)[best & inside]).all()
    assert (drawn[worst & ~best & inside] == filled(result.image, dog)[worst & ~best & inside]).all()
    assert (drawn[~best & ~worst] == result.image[~best & ~worst]).all()


def test_disjoint_masks_look_the_same_as_runs_and_as_an_id_map() -> None:
    rng = np.random.default_rng(3)
    id_map = rng.integers(0, 4, (6, 7)).repeat(5, axis=0).repeat(4, axis=1).astype(np.int32)
    from_map = map_result(id_map, [1, 1, 2])
    from_runs = mask_result([id_map == id for id in (1, 2, 3)], [1, 1, 2], from_map.size)
    assert (np.asarray(from_map.draw()) == np.asarray(from_runs.draw())).all()


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 4), st.integers(0, 10_000))
def test_borders_equal_a_plain_search(height: int, width: int, thickness: int, seed: int) -> None:
    regions = np.random.default_rng(seed).integers(0, 2, (height, width)).astype(np.int32)
    touching = np.zeros(regions.shape, np.bool_)
    for y in range(height):
        for x in range(width):
            for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                if 0 <= y + down < height and 0 <= x + right < width:
                    touching[y, x] |= regions[y + down, x + right] != regions[y, x]
    expected = np.zeros(regions.shape, np.bool_)
    reach = thickness - 1
    for y, x in np.argwhere(touching):
        expected[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1] = True
    assert (borders(regions, thickness) == expected).all()


def test_outlines_grow_with_the_image() -> None:
    assert outline_thickness(Size(64, 64)) == 1
    assert outline_thickness(Size(360, 480)) == 1
    assert outline_thickness(Size(3000, 4000)) == 4
    id_map = square(Size(2000, 2000), 500, 500, 1500, 1500).astype(np.int32)
    drawn = np.asarray(map_result(id_map, [1]).draw())
    assert (drawn[1000, 500:502] == outline_color(BLUE)).all()
    assert (drawn[1000, 502] != outline_color(BLUE)).any()


def test_a_label_has_the_same_colour_in_every_image() -> None:
    one = map_result(np.array([[1, 2], [3, 0]], np.int32), [2, 1, 0])
    other = map_result(np.array([[2, 2], [0, 1]], np.int32), [0, 2])
    assert segment_colors(one)[1] == segment_colors(other)[2] == label_color(LABELS, 2)
    assert segment_colors(one)[3] == segment_colors(other)[1] == RED


def test_published_colours_are_used_and_repeated_ones_only_once() -> None:
    labels = LabelSet(("a", "b", "c"), (True,) * 3, (RED, RED, BLUE))
    assert label_color(labels, 0) == RED
    assert label_color(labels, 2) == BLUE
    assert label_color(labels, 1) not in {RED, BLUE}


def distance(one: Color, other: Color) -> float:
    """Distance in OKLab, where 0.02 is about the least that an eye tells apart side by side."""
    (l1, c1, h1), (l2, c2, h2) = to_oklch(one), to_oklch(other)
    h1, h2 = math.radians(h1), math.radians(h2)
    return math.dist((l1, c1 * math.cos(h1), c1 * math.sin(h1)), (l2, c2 * math.cos(h2), c2 * math.sin(h2)))


def closest(colors: list[Color]) -> float:
    return min(distance(one, other) for i, one in enumerate(colors) for other in colors[:i])


def test_generated_colours_are_distinct() -> None:
    colors = [label_color(PALETTELESS, i) for i in range(200)]
    assert len(set(colors)) == 200
    assert closest(colors[:11]) > 0.14
    assert closest(colors[:20]) > 0.1
    assert closest(colors) > 0.02


@pytest.mark.parametrize("base", [RED, BLUE, (0, 0, 142), (128, 128, 128), (0, 0, 0), (255, 255, 255), (64, 64, 0)])
def test_instances_of_a_label_are_told_apart_and_none_is_black_or_white(base: Color) -> None:
    colors = [instance_color(base, rank) for rank in range(12)]
    assert colors[0] == base
    assert len(set(colors)) == 12
    assert closest(colors[:6]) > 0.025
    assert all(0.45 < to_oklch(color)[0] < 0.87 for color in colors[1:])


@settings(derandomize=True, deadline=None)
@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_oklch_comes_back(color: Color) -> None:
    assert from_oklch(*to_oklch(color)) == pytest.approx(color, abs=1)


def test_oklch_of_known_colours() -> None:
    """Values of the paper's reference implementation, as CSS Color 4 prints them."""
    assert to_oklch((255, 255, 255))[:2] == pytest.approx((1, 0), abs=1e-3)
    assert to_oklch((255, 0, 0)) == pytest.approx((0.62796, 0.25768, 29.234), rel=1e-3)
    assert to_oklch((0, 0, 255)) == pytest.approx((0.45201, 0.31321, 264.052), rel=1e-3)


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (64, 64), (360, 480), (800, 300), (40, 1500), (1500, 40)], ids=str
)
def test_a_legend_leaves_the_image_as_it_is_and_adds_a_panel(height: int, width: int) -> None:
    id_map = np.zeros((height, width), np.int32)
    id_map[: max(1, height // 2)] = 1
    result = map_result(id_map, [1])
    plain, with_legend = result.draw(), result.draw(legend=True)
    assert plain.size == (width, height)
    assert plain.mode == with_legend.mode == "RGB"
    assert with_legend.width > width or with_legend.height > height
    assert (np.asarray(with_legend)[:height, :width] == np.asarray(plain)).all()
    panel = np.asarray(with_legend).copy()
    panel[:height, :width] = 255
    assert (panel == BLUE).all(axis=-1).sum() >= 14 * 14, "the swatch has the label's own colour"
    assert (panel.max(axis=-1) < 60).sum() > 20, "there is dark text"


def test_a_swatch_shows_the_colours_of_the_instances() -> None:
    id_map = np.array([[1, 2, 3]], np.int32).repeat(30, axis=0).repeat(30, axis=1)
    result = map_result(id_map, [1, 1, 1])
    panel = np.asarray(result.draw(legend=True)).copy()
    panel[:30, :90] = 255
    for color in segment_colors(result).values():
        assert (panel == color).all(axis=-1).sum() > 40


def test_legend_entries_count_segments_and_measure_the_union() -> None:
    size = Size(10, 10)
    masks = [square(size, 0, 0, 5, 10), square(size, 4, 0, 6, 10), square(size, 9, 0, 10, 10)]
    result = mask_result(masks, [1, 1, 2], size)
    cars, dogs = legend_entries(result, segment_colors(result))
    assert (cars.label, len(cars.colors), cars.share, cars.note) == ("car", 2, 0.6, "2 x")
    assert (dogs.label, len(dogs.colors), dogs.share, dogs.note) == ("dog", 1, 0.1, "1 x")


def test_instances_are_named_by_label_and_number_and_all_else_by_label() -> None:
    result = map_result(np.array([[1, 2, 3, 4, 5]], np.int32), [1, 0, 2, 1, 1])
    assert result.names == ("car-0", "sky", "dog-0", "car-1", "car-2")
    semantic = map_result(np.array([[1, 2, 3]], np.int32), [1, 0, 2])
    assert dataclasses.replace(semantic, task="semantic").names == ("car", "sky", "dog")
    assert map_result(np.zeros((3, 3), np.int32), []).names == ()


def test_a_legend_of_segments_keeps_those_of_a_label_together() -> None:
    id_map = np.array([[1, 2, 2, 2, 2, 3, 3, 3, 4, 0]], np.int32).repeat(10, axis=0)
    result = map_result(id_map, [1, 0, 2, 1])
    colors = segment_colors(result)
    rows = legend_entries(result, colors, "segments")
    assert [(row.label, row.colors, row.share, row.note) for row in rows] == [
        ("sky", (RED,), 0.4, "1.00"),
        ("dog-0", (colors[3],), 0.3, "1.00"),
        ("car-0", (BLUE,), 0.1, "1.00"),
        ("car-1", (colors[4],), 0.1, "1.00"),
    ]
    assert colors[4] != BLUE
    without_scores = tuple(dataclasses.replace(each, score=None) for each in result.segments)
    unscored = dataclasses.replace(result, segments=without_scores)
    assert {row.note for row in legend_entries(unscored, colors, "segments")} == {""}


def test_a_legend_of_segments_has_a_swatch_a_segment() -> None:
    id_map = np.array([[1, 2, 3]], np.int32).repeat(30, axis=0).repeat(30, axis=1)
    result = map_result(id_map, [1, 1, 1])
    drawn = result.draw(legend="segments")
    assert drawn.size != result.draw(legend=True).size
    assert (np.asarray(result.draw(legend=True)) == np.asarray(result.draw(legend="labels"))).all()
    panel = np.asarray(drawn).copy()
    panel[:30, :90] = 255
    for color in segment_colors(result).values():
        assert (panel == color).all(axis=-1).sum() >= 14 * 14, "a whole swatch"


@pytest.mark.parametrize("legend", ["segment", 2, None])
def test_an_unknown_legend_is_refused(legend: object) -> None:
    with pytest.raises(OptionError, match="a legend cannot be of"):
        map_result(np.ones((4, 4), np.int32), [0]).draw(legend=legend)  # type: ignore[arg-type]


def test_text_grows_with_the_image_and_shrinks_with_the_number_of_rows() -> None:
    assert text_size((64, 64), 3) == 14
    assert text_size((4000, 3000), 3) > 100
    assert 14 < text_size((4000, 3000), 60) < text_size((4000, 3000), 30) < text_size((4000, 3000), 3)


def test_an_empty_result_is_the_image_and_its_legend_says_so() -> None:
    for result in (
        map_result(np.zeros((50, 60), np.int32), []),
        mask_result([], [], Size(50, 60)),
    ):
        assert result.image is not None
        assert (np.asarray(result.draw()) == result.image).all()
        panel = np.asarray(result.draw(legend=True)).copy()
        panel[:50, :60] = 255
        assert (panel.max(axis=-1) < 60).any()


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.text(max_size=40))
def test_any_label_can_be_drawn(name: str) -> None:
    labels = LabelSet((name,), (True,), (None,))
    assert map_result(np.ones((20, 20), np.int32), [0], labels).draw(legend=True).width > 20


@pytest.mark.parametrize(
    "name", ["", "\ud800", "a\nb\tc\x00", "犬と猫", "سيارة", "🚗" * 9, "e" + "\u0301" * 50, "W" * 5000]
)
def test_odd_labels_can_be_drawn_and_stay_on_one_line(name: str) -> None:
    labels = LabelSet((name,), (True,), (None,))
    drawn = map_result(np.ones((20, 20), np.int32), [0], labels).draw(legend=True)
    assert drawn.width < 500, unicodedata.name(name[:1] or "?", "control")
    assert drawn.height < 60


def test_many_segments() -> None:
    id_map = np.arange(1, 41, dtype=np.int32).reshape(5, 8).repeat(20, axis=0).repeat(20, axis=1)
    result = map_result(id_map, list(range(40)), PALETTELESS)
    drawn = np.asarray(result.draw())
    centers = drawn[10::20, 10::20].reshape(-1, 3)
    assert len(np.unique(centers, axis=0)) == 40
    legend = result.draw(legend=True)
    assert legend.width * legend.height < 20 * 100 * 160


def test_without_an_image_the_error_names_the_cure() -> None:
    result = dataclasses.replace(map_result(np.ones((4, 4), np.int32), [0]), image=None)
    with pytest.raises(OptionError, match=r"dataclasses\.replace\(result, image="):
        result.draw()


def test_draw_gives_a_pillow_image() -> None:
    assert isinstance(map_result(np.ones((4, 4), np.int32), [0]).draw(), Image.Image)
