"""Decoding as on a GPU: the same results as on the CPU, and nothing asked of the device on the way.

Without a GPU its arithmetic runs on the CPU, and its way through the device on torch's "meta" device, whose tensors
have no values: what needs a value on the host raises.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from everymask.decoding import dense, panoptic
from everymask.decoding.instance import _trace
from everymask.decoding.options import decoding_options
from everymask.decoding.panoptic import decode_panoptic
from everymask.decoding.regions import find_regions
from everymask.decoding.resizing import Grid, make_grid
from everymask.decoding.semantic import decode_pixels, decode_semantic
from everymask.geometry import Geometry, Size
from everymask.labels import LabelSet

CPU = torch.device("cpu")
LABELS = LabelSet(("cat", "dog", "sky"), (True, True, False), (None,) * 3)

geometries = st.builds(
    lambda original, resized, padding: Geometry(
        Size(*original), Size(*resized), Size(resized[0] + padding[0], resized[1] + padding[1])
    ),
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.tuples(st.integers(8, 64), st.integers(8, 64)),
    st.tuples(st.integers(0, 9), st.integers(0, 9)),
)


def smooth(count: int, size: tuple[int, int], seed: int) -> Tensor:
    torch.manual_seed(seed)
    coarse = 6 * torch.randn(1, count, 3, 4)
    return torch.nn.functional.interpolate(coarse, size, mode="bilinear")[0]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(geometry=geometries, logits=st.tuples(st.integers(2, 20), st.integers(2, 20)), seed=st.integers(0, 99))
def test_the_contest_for_pixels_has_the_same_winners(geometry: Geometry, logits: tuple[int, int], seed: int) -> None:
    masks, scores = smooth(5, logits, seed), torch.rand(5) / 2 + 0.5
    grid = make_grid(geometry, Size(*logits), CPU)
    expected = panoptic._compete(masks, scores, grid, geometry.original, 0.3)
    found = dense.to_host(dense.compete(masks, scores, grid, geometry.original, 0.3))
    np.testing.assert_array_equal(found.id_map, expected.id_map)
    np.testing.assert_array_equal(found.won[1:], expected.won)
    np.testing.assert_array_equal(found.claimed[1:], expected.claimed)
    for id in range(1, 6):
        assert found.regions.area[id] == expected.regions.area[id]
        if found.regions.area[id]:
            assert found.regions.box([id]) == expected.regions.box([id])


@settings(max_examples=30, deadline=None, derandomize=True)
@given(geometry=geometries, logits=st.tuples(st.integers(2, 20), st.integers(2, 20)), seed=st.integers(0, 99))
def test_every_pixel_gets_the_same_class(geometry: Geometry, logits: tuple[int, int], seed: int) -> None:
    values = smooth(3, logits, seed)
    grid = make_grid(geometry, Size(*logits), CPU)
    probabilities = torch.randn(3, 4).softmax(-1)
    by_pixels = decode_pixels(values, grid, geometry.original, LABELS)
    by_queries = decode_semantic(probabilities, values, grid, geometry.original, LABELS)
    weights = probabilities[:, :-1].T.contiguous()
    for expected, weight in ((by_pixels, None), (by_queries, weights)):
        found = dense.to_host(dense.classify(values, grid, geometry.original, weight))
        assert expected.id_map is not None
        of_class = np.zeros(len(LABELS), np.int32)
        of_class[[segment.label_id for segment in expected.segments]] = [segment.id for segment in expected.segments]
        # Sums of products may be taken in another order.
        assert (of_class[found.id_map] != expected.id_map).mean() <= (0 if weight is None else 1e-3)
        regions = find_regions(found.id_map.astype(np.int32), len(LABELS))
        for index in np.flatnonzero(regions.area):
            assert found.regions.area[index] == regions.area[index]
            assert found.regions.box([index]) == regions.box([index])


@pytest.mark.parametrize("budget", [2**19, 300, 7])
@pytest.mark.parametrize("seed", range(4))
def test_masks_have_the_same_spans(monkeypatch: pytest.MonkeyPatch, budget: int, seed: int) -> None:
    """With room for all masks at once, for a part of one, and for less than a row."""
    masks = smooth(6, (7, 9), seed)
    masks[4], masks[5] = -9, 9  # nothing, everything
    grid = make_grid(Geometry(Size(31, 40), Size(28, 36), Size(28, 36)), Size(7, 9), CPU)
    grid = Grid(grid.columns, grid.rows)
    expected = [_trace(mask, grid, 0.2) for mask in masks.mT]
    monkeypatch.setattr(Grid, "budget", budget)
    found = list(dense.spans(masks.mT, grid, 0.2))
    assert len(found) == len(expected) == 6
    for (spans, total), (expected_spans, expected_total) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(spans, expected_spans)
        assert total == pytest.approx(expected_total, rel=1e-5, abs=1e-6)


def test_no_masks_have_no_spans() -> None:
    grid = make_grid(Geometry(Size(8, 8), Size(8, 8), Size(8, 8)), Size(2, 2), CPU)
    assert list(dense.spans(torch.zeros(0, 2, 2), grid, 0.0)) == []


def test_the_contest_in_many_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    masks, scores = smooth(4, (8, 8), 0), torch.rand(4)
    grid = make_grid(Geometry(Size(50, 60), Size(32, 32), Size(32, 32)), Size(8, 8), CPU)
    whole = dense.compete(masks, scores, grid, Size(50, 60), 0.0)
    monkeypatch.setattr(Grid, "budget", 1000)
    bands = dense.compete(masks, scores, grid, Size(50, 60), 0.0)
    assert torch.equal(bands.id_map, whole.id_map)
    assert torch.equal(bands.figures, whole.figures)


def test_nothing_is_asked_of_the_device_before_the_result() -> None:
    masks, scores, weights = (torch.rand(*shape, device="meta") for shape in ((5, 8, 9), (5,), (3, 5)))
    size = Size(60, 70)
    grid = make_grid(Geometry(size, Size(32, 36), Size(32, 36)), Size(8, 9), masks.device)
    for found in (
        dense.compete(masks, scores, grid, size, 0.0),
        dense.classify(masks, grid, size),
        dense.classify(masks, grid, size, weights),
    ):
        assert found.id_map.is_meta
        assert found.figures.is_meta
    with pytest.raises((RuntimeError, NotImplementedError)):
        panoptic._compete(masks, scores, grid, size, 0.0)  # the way of the CPU asks


def test_one_download_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    downloads = []

    def download(*tensors: Tensor) -> list[NDArray[np.int16]]:
        downloads.append([tuple(tensor.shape) for tensor in tensors])
        return [np.zeros(tensor.shape, np.int16) for tensor in tensors]

    monkeypatch.setattr(dense, "_download", download)
    size, options = Size(60, 70), decoding_options("panoptic", threshold=0, explain=True)
    masks, probabilities = torch.rand(4, 8, 9, device="meta"), torch.tensor([0.7, 0.1, 0.1, 0.1]).expand(4, 4)
    grid = make_grid(Geometry(size, Size(32, 36), Size(32, 36)), Size(8, 9), masks.device)
    result = decode_panoptic(probabilities, masks, grid, size, LABELS, options)
    assert result.dropped is not None
    assert [each.reason for each in result.dropped] == ["no pixel of its mask reaches the mask threshold 0.5"] * 4
    assert not decode_semantic(probabilities.to("meta"), masks, grid, size, LABELS).segments
    assert not decode_pixels(masks[:3], grid, size, LABELS).segments
    assert downloads == [[(60, 70), (5, 7)], [(60, 70), (3, 7)], [(60, 70), (3, 7)]]
