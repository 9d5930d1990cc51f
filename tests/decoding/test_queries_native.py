"""The compiled contest for pixels: equal to the one in torch, whatever sizes, paddings and thresholds."""

import math
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from everymask import native
from everymask.decoding import panoptic
from everymask.decoding.contest_native import compete_natively
from everymask.decoding.resizing import Grid, make_grid
from everymask.geometry import Geometry, Size

pytestmark = pytest.mark.skipif(shutil.which(native.COMPILER) is None, reason="there is no C compiler")

CPU = torch.device("cpu")


def grid_of(logits: Tensor, original: tuple[int, int]) -> Grid:
    size = Size(*logits.shape[1:])
    return make_grid(Geometry(Size(*original), size, size), size, CPU)


def compete(
    logits: Tensor, scores: Tensor, original: tuple[int, int], mask_logit: float = 0.0
) -> tuple[NDArray[np.int32], list[int], list[int]]:
    found = compete_natively(logits, scores, grid_of(logits, original), mask_logit)
    assert found is not None
    return found


# The float32 values that decide come from another order of the same steps, so a pixel on a border may move.
@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    original=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    queries=st.integers(1, 12),
    mask_logit=st.sampled_from([0.0, -1.5, 2.0, math.inf, -math.inf]),
    contrast=st.sampled_from([0.1, 4.0, 60.0]),
    smooth=st.booleans(),
    layout=st.sampled_from(["dense", "part of a wider one", "transposed"]),
    seed=st.integers(0, 1000),
)
def test_equal_to_torch(
    size: tuple[int, int],
    original: tuple[int, int],
    queries: int,
    mask_logit: float,
    contrast: float,
    smooth: bool,
    layout: str,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(queries, *size, generator=generator) * contrast
    if smooth:  # most tiles are settled
        logits = torch.nn.functional.interpolate(logits[None, :, :3, :3], size, mode="bilinear")[0]
    if layout == "part of a wider one":
        logits = torch.nn.functional.pad(logits, (3, 2))[..., 3:-2]
    elif layout == "transposed":
        logits = logits.mT.contiguous().mT
    scores = torch.rand(queries, generator=generator)
    grid = grid_of(logits, original)
    expected = panoptic._compete_in_cells(logits, scores, grid, Size(*original), mask_logit)
    id_map, won, claimed = compete(logits, scores, original, mask_logit)
    assert id_map.shape == original
    assert id_map.dtype == np.int32
    few = 2 + 1e-3 * id_map.size
    assert (id_map != expected.id_map).sum() <= few
    assert np.abs(np.subtract(won, expected.won)).max() <= few
    assert np.abs(np.subtract(claimed, expected.claimed)).max() <= few


def test_of_equal_queries_the_first_wins_every_pixel() -> None:
    logits = torch.randn(1, 20, 30, generator=torch.Generator().manual_seed(0)).expand(4, 20, 30)
    id_map, won, claimed = compete(logits, torch.full((4,), 0.5), (70, 90))
    assert set(np.unique(id_map)) == {0, 1}
    assert won == [70 * 90, 0, 0, 0]
    assert claimed == [int((id_map == 1).sum())] * 4


# What no float32 probability tells apart from 0 goes to the first, as in torch.
def test_masks_that_are_nowhere() -> None:
    logits, scores = torch.full((3, 6, 8), -200.0), torch.tensor([0.2, 0.9, 0.5])
    for mask_logit, winner, claimed in ((0.0, 0, 0), (-math.inf, 1, 40 * 50)):
        found = compete(logits, scores, (40, 50), mask_logit)
        assert (found[0] == winner).all()
        assert found[1:] == ([40 * 50, 0, 0], [claimed] * 3)


def test_what_is_not_a_number_wins_nothing() -> None:
    generator = torch.Generator().manual_seed(1)
    logits, scores = torch.randn(5, 12, 16, generator=generator) * 4, torch.rand(5, generator=generator)
    without = compete(logits[[0, 1, 3, 4]], scores[[0, 1, 3, 4]], (60, 70))
    logits[2] = torch.nan
    id_map, won, claimed = compete(logits, scores, (60, 70))
    assert won[2] == claimed[2] == 0
    assert np.array_equal(np.array([0, 1, 2, 2, 3, 4])[id_map], without[0])
    nobody, won, claimed = compete(logits[2:3], scores[2:3], (60, 70))
    assert (nobody.any(), won, claimed) == (False, [0], [0])


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 3e38, -3e38])
def test_wild_numbers_do_no_harm(value: float) -> None:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(6, 30, 40, generator=generator)
    logits[torch.rand(logits.shape, generator=generator) < 0.2] = value
    id_map, won, _ = compete(logits, torch.rand(6, generator=generator), (100, 120))
    assert 0 <= id_map.min() <= id_map.max() <= 6
    assert sum(won) <= id_map.size


def test_threads_share_the_rows() -> None:
    generator = torch.Generator().manual_seed(3)
    logits, scores = torch.randn(20, 30, 50, generator=generator), torch.rand(20, generator=generator)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(compete(logits, scores, (301, 400)))  # 2.4 million values: tiles are cut at other rows
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(found[0][0], found[1][0])
    assert found[0][1:] == found[1][1:]
    assert sum(found[0][1]) == 301 * 400


def test_without_a_compiler_torch_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, scores = torch.randn(3, 6, 7, generator=torch.Generator().manual_seed(4)), torch.tensor([0.9, 0.8, 0.7])
    with_compiler = panoptic._compete(logits, scores, grid_of(logits, (40, 50)), Size(40, 50), 0.0)
    monkeypatch.setattr("everymask.decoding.contest_native.compiled", lambda source: None)
    assert compete_natively(logits, scores, grid_of(logits, (40, 50)), 0.0) is None
    without = panoptic._compete(logits, scores, grid_of(logits, (40, 50)), Size(40, 50), 0.0)
    assert np.array_equal(with_compiler.id_map, without.id_map)
    assert (with_compiler.won, with_compiler.claimed) == (without.won, without.claimed)
