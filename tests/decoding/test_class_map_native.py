"""The compiled search for the best class of every pixel: equal to resizing everything, whatever the layout."""

import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from everymask import native
from everymask.decoding.class_map_native import best_classes_natively
from everymask.decoding.resizing import make_grid
from everymask.geometry import Geometry, Size

pytestmark = pytest.mark.skipif(shutil.which(native.COMPILER) is None, reason="there is no C compiler")

sides = st.integers(1, 70)
CPU = torch.device("cpu")


def classes_of(scores: Tensor, original: tuple[int, int]) -> np.ndarray:
    size = Size(*scores.shape[1:])
    found = best_classes_natively(scores, make_grid(Geometry(Size(*original), size, size), size, CPU))
    assert found is not None
    return found


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    size=st.tuples(sides, sides),
    original=st.tuples(sides, sides),
    classes=st.integers(1, 40),
    layout=st.sampled_from(["dense", "part of a batch", "channels last"]),
    seed=st.integers(0, 1000),
)
def test_equal_to_resizing_everything(
    size: tuple[int, int], original: tuple[int, int], classes: int, layout: str, seed: int
) -> None:
    scores = torch.randn(2, classes, *size, generator=torch.Generator().manual_seed(seed))
    if layout == "part of a batch":
        scores = F.pad(scores, (3, 2))[..., 3:-2]
    elif layout == "channels last":
        scores = scores.contiguous(memory_format=torch.channels_last)
    resized = F.interpolate(scores[1:], original, mode="bilinear")[0]
    found = torch.from_numpy(classes_of(scores[1], original))
    assert found.shape == original
    chosen = resized.gather(0, found.long()[None])[0]
    torch.testing.assert_close(chosen, resized.amax(0), rtol=0, atol=1e-5)


def test_of_equal_scores_the_first_class_wins() -> None:
    scores = torch.ones(21, 6, 7)
    assert not classes_of(scores, (20, 30)).any()
    assert not classes_of(scores.permute(1, 2, 0).contiguous().permute(2, 0, 1), (20, 30)).any()
    scores[3], scores[18], scores[19] = 2, 2, 2
    assert (classes_of(scores.permute(1, 2, 0).contiguous().permute(2, 0, 1), (20, 30)) == 3).all()


def test_threads_share_the_rows() -> None:
    scores = torch.randn(40, 30, 50, generator=torch.Generator().manual_seed(0))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(classes_of(scores, (300, 400)))  # 4.8 million values: several bands in each thread
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(*found)


def test_without_a_compiler_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("everymask.decoding.class_map_native.compiled", lambda source: None)
    grid = make_grid(Geometry(Size(4, 4), Size(4, 4), Size(4, 4)), Size(2, 2), CPU)
    assert best_classes_natively(torch.randn(3, 2, 2), grid) is None


def test_other_number_types_are_left_to_torch() -> None:
    grid = make_grid(Geometry(Size(4, 4), Size(4, 4), Size(4, 4)), Size(2, 2), CPU)
    assert best_classes_natively(torch.randn(3, 2, 2).bfloat16(), grid) is None
