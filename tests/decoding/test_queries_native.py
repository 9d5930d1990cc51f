"""Queries read by compiled C: equal to what torch reads, whatever sizes, layouts and thresholds."""

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
from everymask.decoding import panoptic, semantic
from everymask.decoding.queries_native import classify_natively, compete_natively
from everymask.decoding.resizing import Grid, make_grid
from everymask.geometry import Geometry, Size

pytestmark = pytest.mark.skipif(shutil.which(native.COMPILER) is None, reason="there is no C compiler")

CPU = torch.device("cpu")
LAYOUTS = ("dense", "part of a wider one", "transposed")
sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))
originals = st.tuples(st.integers(1, 90), st.integers(1, 90))


def grid_of(logits: Tensor, original: tuple[int, int]) -> Grid:
    size = Size(*logits.shape[1:])
    return make_grid(Geometry(Size(*original), size, size), size, CPU)


def make_logits(
    shape: tuple[int, ...], contrast: float, smooth: bool, layout: str, generator: torch.Generator
) -> Tensor:
    """(queries, h, w); ``smooth`` ones settle most tiles."""
    logits = torch.randn(shape, generator=generator) * contrast
    if smooth:
        logits = torch.nn.functional.interpolate(logits[None, :, :3, :3], shape[1:], mode="bilinear")[0]
    if layout == "part of a wider one":
        return torch.nn.functional.pad(logits, (3, 2))[..., 3:-2]
    return logits.mT.contiguous().mT if layout == "transposed" else logits


def compete(
    logits: Tensor, scores: Tensor, original: tuple[int, int], mask_logit: float = 0.0
) -> tuple[NDArray[np.int32], list[int], list[int]]:
    found = compete_natively(logits, scores, grid_of(logits, original), mask_logit)
    assert found is not None
    return found


# The float32 values that decide come from another order of the same steps, so a pixel on a border may move.
@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    size=sizes,
    original=originals,
    queries=st.integers(1, 12),
    mask_logit=st.sampled_from([0.0, -1.5, 2.0, math.inf, -math.inf]),
    contrast=st.sampled_from([0.1, 4.0, 60.0]),
    smooth=st.booleans(),
    layout=st.sampled_from(LAYOUTS),
    seed=st.integers(0, 1000),
)
def test_the_contest_is_equal_to_that_in_torch(
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
    logits = make_logits((queries, *size), contrast, smooth, layout, generator)
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


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    size=sizes,
    original=originals,
    queries=st.integers(1, 12),
    classes=st.integers(1, 20),
    confidence=st.sampled_from([1.0, 10.0]),
    contrast=st.sampled_from([0.1, 4.0, 60.0]),
    smooth=st.booleans(),
    layout=st.sampled_from(LAYOUTS),
    seed=st.integers(0, 1000),
)
def test_classes_are_equal_to_those_in_torch(
    size: tuple[int, int],
    original: tuple[int, int],
    queries: int,
    classes: int,
    confidence: float,
    contrast: float,
    smooth: bool,
    layout: str,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = make_logits((queries, *size), contrast, smooth, layout, generator)
    weights = (torch.randn(queries, classes, generator=generator) * confidence).softmax(-1).T  # not contiguous
    grid = grid_of(logits, original)
    found = classify_natively(logits, weights, grid)
    assert found is not None
    assert found.dtype == np.int32
    # The sums decide: where they are the same up to rounding, either class is right.
    resized = torch.nn.functional.interpolate(logits[None].double(), original, mode="bilinear")[0]
    sums = torch.tensordot(weights.double(), resized.sigmoid(), 1)  # (classes, H, W)
    for class_map in (found, semantic._best_of_queries(weights, logits, grid, Size(*original))):
        chosen = sums.gather(0, torch.from_numpy(class_map).long()[None])[0]
        torch.testing.assert_close(chosen, sums.amax(0), rtol=2e-5, atol=1e-30)


def test_of_equal_classes_the_first_wins() -> None:
    logits = torch.randn(5, 20, 30, generator=torch.Generator().manual_seed(0))
    for equal, other in ((2, 8), (7, 30)):  # alone in a group of classes, and spread over several
        weights = torch.full((equal + other, 5), 0.01)
        weights[other // 2 : other // 2 + equal] = 0.2
        found = classify_natively(logits, weights, grid_of(logits, (70, 90)))
        assert found is not None
        assert (found == other // 2).all()
    nothing = classify_natively(logits, torch.zeros(9, 5), grid_of(logits, (70, 90)))
    assert nothing is not None
    assert not nothing.any()


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
    assert not nobody.any()
    assert won == claimed == [0]


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 3e38, -3e38])
def test_wild_numbers_do_no_harm(value: float) -> None:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(6, 30, 40, generator=generator)
    logits[torch.rand(logits.shape, generator=generator) < 0.2] = value
    id_map, won, _ = compete(logits, torch.rand(6, generator=generator), (100, 120))
    assert 0 <= id_map.min() <= id_map.max() <= 6
    assert sum(won) <= id_map.size
    weights = torch.rand(9, 6, generator=generator)
    weights[3, 2] = value
    for each in (torch.rand(9, 6, generator=generator), weights, torch.full((9, 6), value)):
        classes = classify_natively(logits, each, grid_of(logits, (100, 120)))
        assert classes is not None
        assert 0 <= classes.min() <= classes.max() < 9


def test_threads_share_the_rows() -> None:
    generator = torch.Generator().manual_seed(3)
    logits, scores = torch.randn(20, 30, 50, generator=generator), torch.rand(20, generator=generator)
    weights, original = torch.rand(7, 20, generator=generator), (301, 400)  # 2.4 million values
    before, contests, class_maps = torch.get_num_threads(), [], []
    try:
        for threads in (1, 3):  # which cut the tiles at other rows
            torch.set_num_threads(threads)
            contests.append(compete(logits, scores, original))
            class_map = classify_natively(logits, weights, grid_of(logits, original))
            assert class_map is not None
            class_maps.append(class_map)
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(contests[0][0], contests[1][0])
    assert contests[0][1:] == contests[1][1:]
    assert sum(contests[0][1]) == 301 * 400
    assert np.array_equal(class_maps[0], class_maps[1])


def test_without_a_compiler_torch_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, scores = torch.randn(3, 6, 7, generator=torch.Generator().manual_seed(4)), torch.tensor([0.9, 0.8, 0.7])
    with_compiler = panoptic._compete(logits, scores, grid_of(logits, (40, 50)), Size(40, 50), 0.0)
    monkeypatch.setattr("everymask.decoding.queries_native.compiled", lambda source: None)
    assert compete_natively(logits, scores, grid_of(logits, (40, 50)), 0.0) is None
    assert classify_natively(logits, torch.rand(4, 3), grid_of(logits, (40, 50))) is None
    without = panoptic._compete(logits, scores, grid_of(logits, (40, 50)), Size(40, 50), 0.0)
    assert np.array_equal(with_compiler.id_map, without.id_map)
    assert (with_compiler.won, with_compiler.claimed) == (without.won, without.claimed)
