"""Segments of one scene over another: whole ones, at their place, known by what they are."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from everymask.training.pasting import Scene, pasted
from everymask.training.segments import Segments

MERGED = frozenset({0, 1})  # of the classes 0..3


def scene(id_map: NDArray[np.int32], classes: tuple[int, ...], color: float) -> Scene:
    """Pixels tell their scene and segment: (color, id, 0)."""
    pixels = np.zeros((*id_map.shape, 3), np.float32)
    pixels[..., 0], pixels[..., 1] = color, id_map
    return Scene(pixels, Segments(id_map, classes))


def random_scene(seed: int, size: tuple[int, int], segments: int, color: float) -> Scene:
    rng = np.random.default_rng(seed)
    id_map = rng.integers(-1, segments, size).astype(np.int32)
    # At most one segment of a merged class, as segments_of gives them.
    return scene(id_map, tuple(index if index in MERGED else 2 + index % 2 for index in range(segments)), color)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 999),
    below_size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    above_size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    counts=st.tuples(st.integers(0, 5), st.integers(0, 5)),
)
def test_every_pixel_is_of_one_scene_and_keeps_its_class(
    seed: int, below_size: tuple[int, int], above_size: tuple[int, int], counts: tuple[int, int]
) -> None:
    below, above = random_scene(seed, below_size, counts[0], 10), random_scene(seed + 1, above_size, counts[1], 20)
    before = below.pixels.copy()
    found = pasted(below, above, MERGED, np.random.default_rng(seed))
    assert np.array_equal(below.pixels, before)
    assert below.segments is not None
    assert above.segments is not None
    assert found.segments is not None
    assert found.pixels.shape == below.pixels.shape
    segments = found.segments
    taken: set[int] = set()
    for place in np.ndindex(*below_size):
        color, id, _ = found.pixels[place]
        source = below if color == 10 else above
        assert source.segments is not None
        assert np.array_equal(source.pixels[place], found.pixels[place])
        classes, number = source.segments.classes, int(segments.id_map[place])
        assert (segments.classes[number] if number >= 0 else -1) == (classes[int(id)] if id >= 0 else -1)
        if color == 20:
            taken.add(int(id))
    height, width = np.minimum(below_size, above_size)
    for id in taken:  # wholly: wherever it is in what both scenes show
        assert id >= 0
        shown = above.segments.id_map[:height, :width] == id
        assert (found.pixels[:height, :width, 0][shown] == 20).all()
    present = [segments.classes[number] for number in np.unique(segments.id_map[segments.id_map >= 0])]
    assert all(present.count(index) <= 1 for index in MERGED)
    merged = sum(index in MERGED for index in segments.classes)
    assert merged == len({index for index in segments.classes if index in MERGED})


def test_things_stay_apart_and_about_half_of_them_come() -> None:
    ids = np.arange(400, dtype=np.int32).reshape(20, 20)
    thing = scene(ids, (3,) * 400, 20)
    empty = scene(np.full((20, 20), -1, np.int32), (), 10)
    found = pasted(empty, thing, MERGED, np.random.default_rng(0))
    assert found.segments is not None
    covered = found.segments.id_map >= 0
    assert 150 < covered.sum() < 250
    assert len(found.segments.classes) == covered.sum() == len(np.unique(found.segments.id_map[covered]))
