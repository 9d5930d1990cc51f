"""Deformable attention: two ways to the same sum, and both equal to the published one."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.models.mask2former.modeling_mask2former import multi_scale_deformable_attention

from everymask.networks.layers.deformable_attention import (
    DeformableAttention,
    Pyramid,
    gather_bilinear,
    sample_with_gradients,
)

sizes = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=3)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(sizes=sizes, batch=st.integers(1, 2), heads=st.integers(1, 3), points=st.integers(1, 4), seed=st.integers(0, 99))
def test_both_forms_equal_transformers(
    sizes: list[tuple[int, int]], batch: int, heads: int, points: int, seed: int
) -> None:
    torch.manual_seed(seed)
    pyramid = Pyramid.of(sizes, torch.device("cpu"))
    tokens, levels = sum(height * width for height, width in sizes), len(sizes)
    values = torch.randn(batch, tokens, heads * 4)
    offsets = 4 * torch.randn(batch, tokens, heads, levels, points, 2)  # many leave the maps
    weights = torch.rand(batch, tokens, heads, levels, points)
    expected = multi_scale_deformable_attention(
        values.unflatten(-1, (heads, 4)), sizes, locations(sizes, offsets), weights
    )
    torch.testing.assert_close(gather_bilinear(values, offsets, weights, pyramid), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(sample_with_gradients(values, offsets, weights, pyramid), expected, rtol=1e-4, atol=1e-4)


def test_queries_of_other_maps_read_around_their_own_places() -> None:
    """As in ViT-Adapter: three maps read one of them, through narrower values."""
    torch.manual_seed(0)
    queries, levels = [(4, 6), (2, 3), (1, 2)], [(2, 3)]
    attention = DeformableAttention(32, 4, 1, 2, value_dim=16)
    torch.nn.init.normal_(attention.sampling_offsets.weight, std=0.3)
    asking, tokens = torch.randn(2, 32, 32), torch.randn(2, 6, 32)
    pyramid = Pyramid.of(levels, tokens.device, queries)
    offsets = attention.sampling_offsets(asking).unflatten(-1, (4, 1, 2, 2))
    weights = attention.attention_weights(asking).unflatten(-1, (4, 1, 2)).softmax(-1)
    values = attention.value(tokens).unflatten(-1, (4, 4))
    centres = torch.tensor([((x + 0.5) / w, (y + 0.5) / h) for h, w in queries for y in range(h) for x in range(w)])
    places = centres[:, None, None, None, :] + offsets / torch.tensor([3, 2])
    expected = attention.output(multi_scale_deformable_attention(values, levels, places, weights))
    torch.testing.assert_close(attention(asking, tokens, pyramid), expected, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(attention(asking, tokens, pyramid), expected, rtol=1e-4, atol=1e-5)


def locations(sizes: list[tuple[int, int]], offsets: Tensor) -> Tensor:
    """Sampling places in 0..1 of each level, as the published code has them: the token's centre plus its offset."""
    centres = torch.tensor(
        [
            ((x + 0.5) / width, (y + 0.5) / height)
            for height, width in sizes
            for y in range(height)
            for x in range(width)
        ]
    )
    normaliser = torch.tensor([(width, height) for height, width in sizes])
    return centres[:, None, None, None, :] + offsets / normaliser[:, None, :]


def test_the_module_is_the_same_with_and_without_gradients() -> None:
    torch.manual_seed(0)
    sizes = [(2, 3), (4, 6), (8, 11)]
    attention = DeformableAttention(32, 4, 3, 4)
    torch.nn.init.normal_(attention.sampling_offsets.weight, std=0.3)
    tokens, positions = torch.randn(2, 118, 32), torch.randn(118, 32)
    pyramid = Pyramid.of(sizes, tokens.device)
    with_gradients = attention(tokens + positions, tokens, pyramid)
    with torch.no_grad():
        without = attention(tokens + positions, tokens, pyramid)
    torch.testing.assert_close(with_gradients, without, rtol=1e-4, atol=1e-5)
