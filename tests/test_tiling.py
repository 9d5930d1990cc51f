"""Windows cover an image: each of its pixels, with no more of them than needed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.image_utils import SizeDict
from transformers.models.eomt.image_processing_pil_eomt import EomtImageProcessorPil

from everymask.geometry import Size
from everymask.tiling import cover

lengths = st.integers(1, 200)


@settings(deadline=None, derandomize=True)
@given(height=lengths, width=lengths, window_height=st.integers(8, 90), window_width=st.integers(8, 90))
def test_every_pixel_is_covered_by_the_fewest_windows(
    height: int, width: int, window_height: int, window_width: int
) -> None:
    corners = cover(Size(height, width), Size(window_height, window_width))
    covered = np.zeros((height, width), int)
    for top, left in corners:
        assert 0 <= top <= max(0, height - window_height)
        assert 0 <= left <= max(0, width - window_width)
        covered[top : top + window_height, left : left + window_width] += 1
    assert covered.all()
    assert len(corners) == -(-height // window_height) * -(-width // window_width)
    assert corners == tuple(sorted(set(corners)))


@pytest.mark.parametrize("shape", [(512, 512), (512, 683), (512, 1024), (512, 1025), (1365, 512), (512, 3000)])
def test_the_windows_are_those_of_transformers(shape: tuple[int, int]) -> None:
    image = np.zeros((3, *shape), np.uint8)
    _, offsets = EomtImageProcessorPil()._split_image(image, SizeDict(shortest_edge=512), 0)
    starts = [max(corner) for corner in cover(Size(*shape), Size(512, 512))]
    assert starts == [start for _, start, _ in offsets]
