"""Runs made from spans against the official encoder."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everymask.geometry import Size
from everymask.runs import Runs


def spans(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Starts and ends within each column, so that spans touch where a mask crosses from column to column."""
    padded = np.pad(mask.T.astype(np.int8), ((0, 0), (1, 1)))
    change = np.diff(padded, axis=1)
    height = mask.shape[0]
    return tuple(x * height + y for x, y in (np.nonzero(change == 1), np.nonzero(change == -1)))


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.integers(1, 30), st.integers(1, 30), st.sampled_from([0, 0.1, 0.5, 0.95, 1]), st.integers(0, 1000))
def test_equal_to_the_official_encoder(height: int, width: int, density: float, seed: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < density
    assert Runs.from_spans(*spans(mask), Size(height, width)) == Runs.from_mask(mask)


@pytest.mark.parametrize("length", [1, 15, 16, 31, 32, 511, 512, 100_000, 9_000_000])
def test_numbers_of_every_length(length: int) -> None:
    """Counts and their differences that need one to five characters, of either sign."""
    size = Size(4000, 5000)
    start = np.array([3, 5 + length, 9 + 2 * length])
    end = np.array([3 + length, 6 + length, 10 + 2 * length])
    mask = np.zeros(size.height * size.width, bool)
    for first, stop in zip(start, end, strict=True):
        mask[first:stop] = True
    assert Runs.from_spans(start, end, size) == Runs.from_mask(mask.reshape(size.width, size.height).T)
