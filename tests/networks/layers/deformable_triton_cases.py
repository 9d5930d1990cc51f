"""What holds for the Triton kernel of deformable attention; test_deformable_triton.py runs this file.

In a process of its own: triton's interpreter has to be chosen before triton is imported, which torch does at times.
"""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from everymask.networks.layers.deformable_attention import Pyramid, gather_bilinear
from everymask.networks.layers.deformable_triton import read_pyramid_triton

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

sizes = st.lists(st.tuples(st.integers(1, 7), st.integers(1, 7)), min_size=1, max_size=3)


def reference(values: Tensor, offsets: Tensor, logits: Tensor, pyramid: Pyramid) -> Tensor:
    weights = logits.float().flatten(3).softmax(-1).view_as(logits)
    return gather_bilinear(values.float(), offsets, weights, pyramid)


def inputs(
    sizes: list[tuple[int, int]], batch: int, heads: int, points: int, channels: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Pyramid]:
    tokens, levels = sum(height * width for height, width in sizes), len(sizes)
    values = torch.randn(batch, tokens, heads * channels).to(DEVICE, dtype)
    offsets = 3 * torch.randn(batch, tokens, heads, levels, points, 2).to(DEVICE, dtype)  # many leave the maps
    logits = 2 * torch.randn(batch, tokens, heads, levels, points).to(DEVICE, dtype)
    return values, offsets, logits, Pyramid.of(sizes, DEVICE)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    sizes=sizes,
    batch=st.integers(1, 2),
    heads=st.integers(1, 3),
    points=st.integers(1, 4),
    channels=st.sampled_from([1, 3, 8, 20]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    seed=st.integers(0, 99),
)
def test_it_equals_the_form_that_gathers_rows(
    sizes: list[tuple[int, int]],
    batch: int,
    heads: int,
    points: int,
    channels: int,
    dtype: torch.dtype,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    given_inputs = inputs(sizes, batch, heads, points, channels, dtype)
    found = read_pyramid_triton(*given_inputs)
    assert found.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2 if dtype == torch.bfloat16 else 2e-3
    torch.testing.assert_close(found.float(), reference(*given_inputs), rtol=tolerance, atol=tolerance)


def test_queries_of_other_maps_and_values_that_are_a_part_of_something_wider() -> None:
    torch.manual_seed(0)
    values, offsets, logits, _ = inputs([(4, 6), (2, 3)], 2, 2, 3, 4, torch.float32)
    pyramid = Pyramid.of([(4, 6), (2, 3)], DEVICE, queries=[(2, 3), (1, 2)])
    offsets, logits = offsets[:, :8], logits[:, :8]
    wide = torch.cat((values, values), -1)[..., 8:]  # rows of 16 of which 8 are read
    assert not wide.is_contiguous()
    expected = reference(values, offsets, logits, pyramid)
    torch.testing.assert_close(read_pyramid_triton(wide, offsets, logits, pyramid), expected, rtol=1e-5, atol=1e-5)
    columns = values.mT.contiguous().mT  # channels far apart
    torch.testing.assert_close(read_pyramid_triton(columns, offsets, logits, pyramid), expected, rtol=1e-5, atol=1e-5)


def test_points_anywhere_read_nothing_beyond_the_maps() -> None:
    torch.manual_seed(0)
    values, offsets, logits, pyramid = inputs([(2, 3), (4, 5)], 1, 2, 2, 8, torch.float32)
    for query, offset in enumerate((torch.nan, torch.inf, -torch.inf, 3e38, -3e38)):
        offsets[0, query] = offset
    found = read_pyramid_triton(values, offsets, logits, pyramid)
    assert (found[0, :5] == 0).all()
    torch.testing.assert_close(found[0, 5:], reference(values, offsets, logits, pyramid)[0, 5:], rtol=1e-5, atol=1e-5)
