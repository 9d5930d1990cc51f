"""The compiled gradients of deformable attention: those that autograd finds for the same sum."""

import shutil

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from everymask.networks.layers.deformable_attention import Pyramid, read_pyramid, sample_with_gradients
from everymask.networks.layers.deformable_gradient import learns_natively, read_pyramid_with_gradients

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
Sizes = list[tuple[int, int]]
sizes = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=4)


def problem(sizes: Sizes, batch: int, heads: int, points: int, channels: int) -> tuple[Tensor, Tensor, Tensor, Pyramid]:
    """Values, offsets, many of which leave the maps, logits and the pyramid."""
    tokens, levels = sum(height * width for height, width in sizes), len(sizes)
    values = torch.randn(batch, tokens, heads * channels, requires_grad=True)
    offsets = (4 * torch.randn(batch, tokens, heads, levels, points, 2)).requires_grad_()
    logits = torch.randn(batch, tokens, heads, levels, points, requires_grad=True)
    return values, offsets, logits, Pyramid.of(sizes, values.device)


def gradients(read: Tensor, slopes: Tensor, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(read, inputs, slopes)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    sizes=sizes,
    batch=st.integers(1, 3),
    heads=st.integers(1, 4),
    points=st.integers(1, 5),
    channels=st.sampled_from([1, 3, 16, 24, 32, 33]),
    seed=st.integers(0, 99),
)
@example([(40, 50), (20, 25)], 2, 8, 4, 32, 0)
def test_equal_to_autograd(sizes: Sizes, batch: int, heads: int, points: int, channels: int, seed: int) -> None:
    torch.manual_seed(seed)
    *inputs, pyramid = problem(sizes, batch, heads, points, channels)
    values, offsets, logits = inputs
    assert learns_natively(values, offsets, logits, pyramid)
    read = read_pyramid_with_gradients(values, offsets, logits, pyramid)
    expected = sample_with_gradients(values, offsets, logits.flatten(-2).softmax(-1).view(logits.shape), pyramid)
    torch.testing.assert_close(read, expected, rtol=1e-4, atol=1e-4)
    slopes = torch.randn_like(read)
    for got, wanted in zip(gradients(read, slopes, inputs), gradients(expected, slopes, inputs), strict=True):
        # A place within rounding of a pixel's edge may be read on either side of it: the slope jumps there.
        near = torch.isclose(got, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))
        assert near.float().mean() > 0.999
        assert (got - wanted).norm() <= 0.02 * wanted.norm() + 1e-6


def test_bfloat16_keeps_its_types_and_is_near_to_float32() -> None:
    torch.manual_seed(0)
    *inputs, pyramid = problem([(6, 7), (3, 4)], 2, 4, 4, 24)
    halves = [each.detach().bfloat16().requires_grad_() for each in inputs]
    rounded = [each.detach().float().requires_grad_() for each in halves]
    read = read_pyramid_with_gradients(*halves, pyramid)
    expected = read_pyramid_with_gradients(*rounded, pyramid)
    assert read.dtype == torch.bfloat16
    slopes = torch.randn_like(read)
    found = gradients(read, slopes, halves), gradients(expected, slopes.float(), rounded)
    for got, wanted in zip(*found, strict=True):
        assert got.dtype == torch.bfloat16
        torch.testing.assert_close(got.float(), wanted, rtol=1e-2, atol=1e-2 * float(wanted.abs().max()))


def test_gradients_do_not_depend_on_the_number_of_threads() -> None:
    torch.manual_seed(0)
    *inputs, pyramid = problem([(20, 25), (10, 13)], 2, 4, 4, 24)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            read = read_pyramid(*inputs, pyramid)
            found.append(gradients(read, torch.ones_like(read), inputs))
    finally:
        torch.set_num_threads(before)
    for others in found[1:]:
        for first, other in zip(found[0], others, strict=True):
            assert torch.equal(first, other)


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_a_place_that_is_nowhere_has_no_gradient(broken: float) -> None:
    torch.manual_seed(0)
    values, offsets, logits, pyramid = problem([(3, 4)], 1, 1, 2, 8)
    with torch.no_grad():
        offsets[0, 5, 0, 0, 1, 0] = broken
    read = read_pyramid(values, offsets, logits, pyramid)
    by_values, by_offsets, by_logits = gradients(read, torch.ones_like(read), (values, offsets, logits))
    assert not by_offsets[0, 5, 0, 0, 1].any()
    assert all(each.isfinite().all() for each in (by_values, by_offsets, by_logits))
