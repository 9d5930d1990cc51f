"""Random views: image and labels move together, as a dense reference says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from everymask.errors import OptionError
from everymask.geometry import Size
from everymask.training.augmentation import (
    Augmentation,
    View,
    draw_view,
    random_pixel,
    recolored,
    view_of_image,
    view_of_map,
)

sides = st.integers(33, 90)
examples = settings(max_examples=40, deadline=None, derandomize=True)


def source_places(start: float, end: float, count: int) -> NDArray[np.float64]:
    """Where the centres of ``count`` pixels lie between two edges, in pixels of the source."""
    return start + (np.arange(count) + 0.5) * (end - start) / count


@st.composite
def views(draw: st.DrawFn) -> tuple[Size, Size, Augmentation, View]:
    size, crop = Size(draw(sides), draw(sides)), Size(draw(sides), draw(sides))
    low = draw(st.floats(0.4, 2.5))
    augmentation = Augmentation(
        scale=(low, low * draw(st.floats(1, 1.5))),
        fit=draw(st.sampled_from(("inside", "cover"))),
        stretch=draw(st.sampled_from((0.0, 0.2))),
    )
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    return size, crop, augmentation, draw_view(augmentation, size, crop, rng)


@examples
@given(views())
def test_ids_equal_the_nearest_pixels(drawn: tuple[Size, Size, Augmentation, View]) -> None:
    size, _, _, view = drawn
    id_map = np.random.default_rng(0).integers(-1, 100, size).astype(np.int32)
    left, top, right, bottom = view.box
    rows, columns = source_places(top, bottom, view.size.height), source_places(left, right, view.size.width)
    seen = view_of_map(id_map, view)
    seen = seen[:, ::-1] if view.flipped else seen
    # A place on the border between two pixels may go to either.
    one_row, one_column = (np.abs(each - each.round()) > 1e-6 for each in (rows, columns))
    expected = id_map[rows.astype(int)[one_row]][:, columns.astype(int)[one_column]]
    np.testing.assert_array_equal(seen[one_row][:, one_column], expected)


@examples
@given(views())
def test_image_and_ids_show_the_same_part(drawn: tuple[Size, Size, Augmentation, View]) -> None:
    size, _, _, view = drawn
    colors = np.random.default_rng(1).integers(0, 256, (30, 3), np.uint8)
    coarse = np.random.default_rng(2).integers(0, 30, (6, 6)).astype(np.int32)
    id_map = coarse.repeat(15, 0).repeat(15, 1)[: size.height, : size.width]
    seen, ids = view_of_image(colors[id_map], view), view_of_map(id_map, view)
    assert seen.shape == (*view.size, 3)
    assert ids.shape == view.size
    # Away from the borders of blocks, by as far as the filter reaches, a pixel has the colour of its id.
    left, top, right, bottom = view.box
    inner = []
    for start, end, count in ((top, bottom, view.size.height), (left, right, view.size.width)):
        reach = max(1.0, (end - start) / count) + 0.51
        places = source_places(start, end, count)
        inner.append(((places - reach) // 15 == (places + reach) // 15) & (places > reach))
    inside = np.outer(*inner)
    if view.flipped:
        inside = inside[:, ::-1]
    np.testing.assert_array_equal(seen[inside], colors[ids[inside]])


@examples
@given(views())
def test_views_lie_inside_the_image_and_the_crop(drawn: tuple[Size, Size, Augmentation, View]) -> None:
    size, crop, augmentation, view = drawn
    left, top, right, bottom = view.box
    assert 0 <= left < right <= size.width
    assert 0 <= top < bottom <= size.height
    assert view.size.height <= crop.height
    assert view.size.width <= crop.width
    # Where a side is smaller than the crop's, all of it is shown.
    assert view.size.height == crop.height or (top, bottom) == (0, size.height)
    assert view.size.width == crop.width or (left, right) == (0, size.width)
    if augmentation.stretch == 0 and (view.size.height, view.size.width) == crop:
        np.testing.assert_allclose((bottom - top) / crop.height, (right - left) / crop.width, rtol=0.03)
    if augmentation.fit == "inside" and augmentation.scale[1] <= 1 and augmentation.stretch == 0:
        assert view.box == (0, 0, size.width, size.height)


@examples
@given(size=st.tuples(sides, sides), seed=st.integers(0, 1000), share=st.floats(0, 0.999))
def test_a_wanted_pixel_is_shown(size: tuple[int, int], seed: int, share: float) -> None:
    pixel = int(share * size[0]), int(share * size[1])
    augmentation = Augmentation(scale=(1.0, 4.0), stretch=0.1)
    view = draw_view(augmentation, Size(*size), Size(33, 40), np.random.default_rng(seed), pixel)
    left, top, right, bottom = view.box
    assert left <= pixel[1] + 0.5 <= right
    assert top <= pixel[0] + 0.5 <= bottom


def test_small_segments_are_drawn_as_often_as_large_ones() -> None:
    id_map = np.zeros((50, 60), np.int32)
    id_map[7, 9] = 1
    rng = np.random.default_rng(0)
    drawn = [random_pixel(id_map, 2, rng) for _ in range(200)]
    assert 70 < drawn.count((7, 9)) < 130
    assert random_pixel(id_map, 0, rng) is None


def test_half_of_the_views_are_mirror_images() -> None:
    rng = np.random.default_rng(0)
    flips = [draw_view(Augmentation(), Size(40, 40), Size(40, 40), rng).flipped for _ in range(200)]
    assert 70 < sum(flips) < 130
    never = Augmentation(flip=0.0)
    assert not any(draw_view(never, Size(40, 40), Size(40, 40), rng).flipped for _ in range(20))


def photograph() -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (20, 30, 3), np.uint8)


def test_no_strength_changes_no_colour() -> None:
    np.testing.assert_array_equal(recolored(photograph(), Augmentation(), np.random.default_rng(0)), photograph())


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue", "gamma", "blur", "noise"])
def test_every_strength_changes_something_and_stays_in_range(name: str) -> None:
    augmentation = Augmentation(**{name: 0.5})
    changed = [recolored(photograph(), augmentation, np.random.default_rng(seed)) for seed in range(20)]
    assert any(np.abs(each - photograph()).max() > 1 for each in changed)
    assert all(each.dtype == np.float32 and each.min() >= 0 and each.max() <= 255 for each in changed)


def test_grey_has_no_colour_to_change() -> None:
    grey = np.arange(0, 240, dtype=np.uint8).reshape(12, 20, 1).repeat(3, 2)
    for seed in range(8):
        changed = recolored(grey, Augmentation(saturation=1.0, hue=0.5), np.random.default_rng(seed))
        np.testing.assert_allclose(changed, grey, atol=1e-3)


def test_a_third_of_a_turn_permutes_the_colours() -> None:
    class Third(np.random.Generator):
        """Draws the middle of every range but the hue's."""

        def uniform(self, low: float = 0.0, high: float = 1.0, size: None = None) -> float:  # type: ignore[override]
            return 1 / 3 if high == 0.5 else (low + high) / 2

    changed = recolored(photograph(), Augmentation(hue=0.5), Third(np.random.PCG64(0)))
    np.testing.assert_allclose(changed, photograph()[..., [2, 0, 1]], atol=1e-3)


def test_brightness_and_contrast_are_factors() -> None:
    photo = photograph() // 4 + 90  # far from the ends of the range, where values are cut
    brighter = recolored(photo, Augmentation(brightness=0.2), np.random.default_rng(1))
    factors = brighter / photo
    np.testing.assert_allclose(factors, factors[0, 0, 0], rtol=1e-5)
    assert 0.8 <= factors[0, 0, 0] <= 1.2
    flatter = recolored(photo, Augmentation(contrast=0.5), np.random.default_rng(1))
    slope = np.polyfit(photo.ravel(), flatter.ravel(), 1)[0]
    assert 0.5 <= slope <= 1.5
    assert slope != pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(flatter.mean(), photo.mean(), atol=1)


@pytest.mark.parametrize(
    "settings",
    [
        {"scale": (0.0, 1.0)},
        {"scale": (2.0, 1.0)},
        {"flip": 1.5},
        {"paste": 2.0},
        {"hue": 0.6},
        {"blur": -1},
        {"fit": "stretch"},
    ],
)
def test_impossible_strengths_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(OptionError, match=next(iter(settings))):
        Augmentation(**settings)  # type: ignore[arg-type]
