"""Neighbourhood attention equals its definition, whatever the map, the kernel and the dilation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from everymask.networks.layers import neighborhood_attention as module
from everymask.networks.layers.neighborhood_attention import NeighborhoodAttention, neighborhood_attention
from neighborhood_reference import reference_attention


def inputs(
    batch: int, heads: int, queries: tuple[int, int], keys: tuple[int, int], kernel: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys with values, and biases, float64."""
    torch.manual_seed(keys[0] * keys[1])
    return (
        torch.randn(batch, *queries, heads, 4, dtype=torch.float64),
        torch.randn(batch, *keys, 2, heads, 4, dtype=torch.float64),
        torch.randn(heads, 2 * kernel - 1, 2 * kernel - 1, dtype=torch.float64),
    )


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    batch=st.integers(1, 2),
    heads=st.integers(1, 2),
    kernel=st.sampled_from([1, 3, 5, 7]),
    dilation=st.integers(1, 4),
    extra=st.tuples(st.integers(0, 25), st.integers(0, 25)),
    missing=st.tuples(st.integers(0, 9), st.integers(0, 9)),
)
def test_it_equals_its_definition(
    batch: int, heads: int, kernel: int, dilation: int, extra: tuple[int, int], missing: tuple[int, int]
) -> None:
    """``missing``: how far the keys go on beyond the queries."""
    height, width = (kernel * dilation + each for each in extra)
    queries = max(height - missing[0], 1), max(width - missing[1], 1)
    query, key_value, bias = inputs(batch, heads, queries, (height, width), kernel)
    ours = neighborhood_attention(query, key_value, bias, dilation)
    expected = reference_attention(query, key_value, bias, dilation)
    assert ours.shape == expected.shape
    assert (ours - expected).abs().max() <= 1e-12


@pytest.mark.parametrize("kernel", [7, 11])
def test_the_published_kernels_equal_their_definition(kernel: int) -> None:
    query, key_value, bias = inputs(1, 1, (57, 40), (57, 40), kernel)
    expected = reference_attention(query, key_value, bias, 3)
    assert (neighborhood_attention(query, key_value, bias, 3) - expected).abs().max() <= 1e-12


@pytest.mark.parametrize("dilation", [1, 3])
def test_its_gradients_are_those_of_its_definition(dilation: int) -> None:
    arguments = inputs(2, 2, (13, 21), (13, 21), 3)
    weights = torch.randn(2, 13, 21, 8, dtype=torch.float64)
    gradients = []
    for function in (neighborhood_attention, reference_attention):
        leaves = [each.clone().requires_grad_() for each in arguments]
        (function(*leaves, dilation) * weights).sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    for ours, expected in zip(*gradients, strict=True):
        assert (ours - expected).abs().max() <= 1e-12


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = inputs(1, 2, (45, 30), (45, 30), 3)
    whole = neighborhood_attention(*arguments, 1)
    monkeypatch.setattr(module, "CHUNK", 1)  # one row of tiles at a time
    assert torch.equal(neighborhood_attention(*arguments, 1), whole)


def test_no_more_is_copied_at_a_time_than_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Regions overlap: all of them together are several times as large as the map."""
    sizes = []

    def regions(*arguments: object) -> Tensor:
        copied = original(*arguments)
        sizes.append(copied.numel())
        return copied

    original = module._regions
    monkeypatch.setattr(module, "_regions", regions)
    monkeypatch.setattr(module, "CHUNK", 60_000)
    query, key_value, bias = inputs(1, 1, (160, 80), (160, 80), 7)
    neighborhood_attention(query, key_value, bias, 1)
    assert max(sizes) <= 60_000
    assert sum(sizes) > 2 * key_value.numel()


@pytest.mark.parametrize("qkv_bias", [True, False])
def test_a_small_map_is_filled_up_with_zeros(qkv_bias: bool) -> None:
    """As published: zeros go through the projections like every other token."""
    torch.manual_seed(0)
    attention = NeighborhoodAttention(8, 2, kernel=3, dilation=4, qkv_bias=qkv_bias).double()
    torch.nn.init.normal_(attention.relative_position_bias)
    tokens = torch.randn(2, 5, 14, 8, dtype=torch.float64)
    filled = torch.zeros(2, 12, 14, 8, dtype=torch.float64)
    filled[:, :5] = tokens
    with torch.inference_mode():
        assert (attention(tokens) - attention(filled)[:, :5]).abs().max() <= 1e-12


def test_half_precision_is_close() -> None:
    torch.manual_seed(0)
    attention = NeighborhoodAttention(16, 2, kernel=3, dilation=2, qkv_bias=True)
    tokens = torch.randn(1, 20, 20, 16)
    with torch.inference_mode():
        expected = attention(tokens)
        output = attention.bfloat16()(tokens.bfloat16())
    assert output.dtype == torch.bfloat16
    assert (output - expected).abs().max() <= 0.02 * expected.abs().max()
