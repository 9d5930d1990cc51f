"""Windows cover an image: each of its pixels, with no more of them than needed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.image_utils import SizeDict
from transformers.models.eomt.image_processing_pil_eomt import EomtImageProcessorPil

from everymask.geometry import Size
from everymask.tiling import Tiling

lengths = st.integers(1, 200)


@settings(deadline=None, derandomize=True)
@given(height=lengths, width=lengths, window_height=st.integers(8, 90), window_width=st.integers(8, 90))
def test_every_pixel_is_covered_by_the_fewest_windows(
    height: int, width: int, window_height: int, window_width: int
) -> None:
    corners = Tiling(Size(window_height, window_width)).corners(Size(height, width))
    covered = np.zeros((height, width), int)
    for top, left in corners:
        assert 0 <= top <= max(0, height - window_height)
        assert 0 <= left <= max(0, width - window_width)
        covered[top : top + window_height, left : left + window_width] += 1
    assert covered.all()
    assert len(corners) == -(-height // window_height) * -(-width // window_width)
    assert len(set(corners)) == len(corners)
    tops, lefts = (len(set(places)) for places in zip(*corners, strict=True))
    line_by_line = sorted(corners) if tops >= lefts else sorted(corners, key=lambda corner: corner[::-1])
    assert list(corners) == line_by_line


@settings(deadline=None, derandomize=True)
@given(
    size=st.tuples(lengths, lengths),
    window=st.tuples(st.integers(8, 90), st.integers(8, 90)),
    stride=st.tuples(st.integers(4, 90), st.integers(4, 90)),
)
def test_strides_are_kept_and_the_last_window_is_moved_back_inside(
    size: tuple[int, int], window: tuple[int, int], stride: tuple[int, int]
) -> None:
    """As mmsegmentation slides (ViT-Adapter's recipe): r * stride, moved back by what would stick out."""
    expected = set()
    rows, columns = (max(s - w + step - 1, 0) // step + 1 for s, w, step in zip(size, window, stride, strict=True))
    for row in range(rows):
        for column in range(columns):
            bottom, right = min(row * stride[0] + window[0], size[0]), min(column * stride[1] + window[1], size[1])
            expected.add((max(bottom - window[0], 0), max(right - window[1], 0)))
    corners = Tiling(Size(*window), Size(*stride)).corners(Size(*size))
    assert set(corners) == expected
    assert len(corners) == len(expected)


@pytest.mark.parametrize(("width", "starts"), [(896, [0]), (1216, [0, 320]), (1344, [0, 448]), (1600, [0, 512, 704])])
def test_the_public_windows_of_vit_adapter(width: int, starts: list[int]) -> None:
    corners = Tiling(Size(896, 896), Size(512, 512)).corners(Size(896, width))
    assert [left for _, left in corners] == starts


@pytest.mark.parametrize("shape", [(512, 512), (512, 683), (512, 1024), (512, 1025), (1365, 512), (512, 3000)])
def test_the_windows_are_those_of_transformers(shape: tuple[int, int]) -> None:
    image = np.zeros((3, *shape), np.uint8)
    _, offsets = EomtImageProcessorPil()._split_image(image, SizeDict(shortest_edge=512), 0)
    starts = [max(corner) for corner in Tiling(Size(512, 512)).corners(Size(*shape))]
    assert starts == [start for _, start, _ in offsets]
