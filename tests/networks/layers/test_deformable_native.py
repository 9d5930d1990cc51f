"""The compiled kernel of deformable attention: the same sum as torch's, within bounds, and not needed."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from everymask import native
from everymask.networks.layers import deformable_native
from everymask.networks.layers.deformable_attention import (
    DeformableAttention,
    Pyramid,
    gather_bilinear,
    read_pyramid,
    sample_with_gradients,
)
from everymask.networks.layers.deformable_native import read_pyramid_native, reads_natively

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
Sizes = list[tuple[int, int]]
sizes = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=4)


def problem(
    sizes: Sizes, batch: int, heads: int, points: int, channels: int, dtype: torch.dtype, *, wide: bool = False
) -> tuple[Tensor, Tensor, Tensor, Pyramid]:
    """Values, offsets, many of which leave the maps, logits and the pyramid; ``wide``: as parts of wider rows."""
    tokens, levels = sum(height * width for height, width in sizes), len(sizes)
    n = heads * levels * points
    extra = 3 if wide else 0
    values = torch.randn(batch, tokens, heads * channels + extra)[..., extra:].to(dtype)
    both = torch.randn(batch, tokens, 3 * n + extra).to(dtype)
    offsets = 4 * both[..., : 2 * n] if not wide else both[..., : 2 * n]
    logits = both[..., 2 * n : 3 * n]
    shape = (heads, levels, points)
    pyramid = Pyramid.of(sizes, values.device)
    return values, offsets.unflatten(-1, (*shape, 2)), logits.unflatten(-1, shape), pyramid


def gathered(values: Tensor, offsets: Tensor, logits: Tensor, pyramid: Pyramid) -> Tensor:
    weights = logits.float().flatten(-2).softmax(-1).view(logits.shape)
    return gather_bilinear(values.float(), offsets.float(), weights, pyramid)


@needs_compiler
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    sizes=sizes,
    batch=st.integers(1, 3),
    heads=st.integers(1, 4),
    points=st.integers(1, 5),
    channels=st.sampled_from([1, 3, 16, 24, 31, 32, 33, 64, 101]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    wide=st.booleans(),
    seed=st.integers(0, 99),
)
@example([(40, 50), (20, 25)], 1, 8, 4, 32, torch.float32, False, 0)  # enough for several threads
def test_the_kernel_equals_torch(
    sizes: Sizes, batch: int, heads: int, points: int, channels: int, dtype: torch.dtype, wide: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    inputs = problem(sizes, batch, heads, points, channels, dtype, wide=wide)
    assert reads_natively(*inputs)
    read = read_pyramid_native(*inputs)
    assert read.dtype == dtype
    values, offsets, logits, pyramid = inputs
    rounding = 1e-5 if dtype == torch.float32 else 8e-3
    torch.testing.assert_close(read.float(), gathered(*inputs), rtol=rounding, atol=rounding)
    weights = logits.float().flatten(-2).softmax(-1).view(logits.shape)
    sampled = sample_with_gradients(values.float(), offsets.float(), weights, pyramid)
    torch.testing.assert_close(read.float(), sampled, rtol=10 * rounding, atol=10 * rounding)


@needs_compiler
def test_threads_share_the_queries_without_a_trace() -> None:
    torch.manual_seed(0)
    inputs = problem([(40, 51), (20, 25)], 2, 8, 4, 32, torch.float32)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(read_pyramid_native(*inputs))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("odd", [float("inf"), float("-inf"), float("nan"), 3e38, -3e38, 2.0**31, -(2.0**31)])
def test_odd_offsets_read_nothing_and_harm_nobody(odd: float, dtype: torch.dtype) -> None:
    """Every second query's places are odd: it gets zeros, and the others what they get otherwise."""
    torch.manual_seed(0)
    values, offsets, logits, pyramid = problem([(5, 7), (3, 4)], 2, 2, 3, 32, dtype)
    expected = read_pyramid_native(values, offsets, logits, pyramid)
    offsets[:, ::2] = odd
    read = read_pyramid_native(values, offsets, logits, pyramid)
    assert torch.equal(read[:, 1::2], expected[:, 1::2])
    assert not read[:, ::2].any()


@needs_compiler
def test_logits_that_are_not_numbers_show() -> None:
    torch.manual_seed(0)
    values, offsets, logits, pyramid = problem([(5, 7)], 1, 2, 3, 32, torch.float32)
    logits[0, 4, 0, 0, 1] = float("nan")
    logits[0, 5, 0, 0, 1] = float("-inf")
    read = read_pyramid_native(values, offsets, logits, pyramid)
    assert read[0, 4, :32].isnan().all()
    assert read[0, 4, 32:].isfinite().all()
    torch.testing.assert_close(read[0, 5:], gathered(values, offsets, logits, pyramid)[0, 5:], rtol=1e-5, atol=1e-5)


def test_what_the_kernel_does_not_know_goes_another_way() -> None:
    values, offsets, logits, pyramid = problem([(5, 7), (3, 4)], 1, 2, 3, 8, torch.float32)
    assert not reads_natively(values.double(), offsets, logits, pyramid)
    assert not reads_natively(values.to("meta"), offsets, logits, pyramid)
    assert not reads_natively(values[:, :-1], offsets, logits, pyramid)
    assert not reads_natively(values, offsets[:, :-1], logits[:, :-1], pyramid)
    with torch.no_grad():
        read = read_pyramid(values.double(), offsets, logits, pyramid)
    torch.testing.assert_close(read.float(), gathered(values, offsets, logits, pyramid), rtol=1e-5, atol=1e-5)


def test_gradients_and_traces_take_the_differentiable_form() -> None:
    torch.manual_seed(0)
    attention = DeformableAttention(32, 4, 2, 3)
    torch.nn.init.normal_(attention.sampling_offsets.weight, std=0.3)
    tokens, positions, pyramid = (
        torch.randn(1, 26, 32),
        torch.randn(26, 32),
        Pyramid.of([(4, 5), (2, 3)], torch.device("cpu")),
    )

    def attend(each: Tensor) -> Tensor:
        attended: Tensor = attention(each + positions, each, pyramid)
        return attended

    attend(tokens).sum().backward()
    assert all(parameter.grad is not None for parameter in attention.parameters())
    attention.requires_grad_(False)  # a trace holds them as constants
    with torch.no_grad():
        traced = torch.jit.trace(attend, (tokens,), check_trace=False)
        assert "grid_sampler" in str(traced.graph)
        torch.testing.assert_close(traced(tokens), attend(tokens), rtol=1e-4, atol=1e-5)


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache folder that is not there yet, and a process that has not asked for the kernel yet."""
    monkeypatch.setenv("EVERYMASK_CACHE", str(tmp_path / "cache"))
    forget()
    yield tmp_path / "cache"
    forget()


def forget() -> None:
    deformable_native.kernel.cache_clear()
    native.compiled.cache_clear()


@needs_compiler
def test_the_library_is_compiled_once_and_kept(empty_cache: Path) -> None:
    assert deformable_native.kernel() is not None
    kept = [path for path in empty_cache.rglob("*") if path.is_file()]
    assert [path.suffix for path in kept] == [".so"]
    written = kept[0].stat().st_mtime_ns
    forget()
    assert deformable_native.kernel() is not None
    assert kept[0].stat().st_mtime_ns == written


@pytest.mark.parametrize("trouble", ["no compiler", "failing compiler", "no folder", "open folder"])
def test_without_a_compiled_kernel_torch_does_it(
    trouble: str, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if trouble == "no compiler":
        monkeypatch.setattr(native, "COMPILER", "no-such-compiler")
    elif trouble == "failing compiler":
        monkeypatch.setattr(native, "COMPILER", "false")
    elif trouble == "no folder":
        empty_cache.write_text("a file")
    else:
        (empty_cache / "kernels").mkdir(parents=True)
        (empty_cache / "kernels").chmod(0o777)
    torch.manual_seed(0)
    inputs = problem([(5, 7), (3, 4)], 2, 2, 3, 8, torch.float32)
    assert not reads_natively(*inputs)
    with torch.no_grad():
        torch.testing.assert_close(read_pyramid(*inputs), gathered(*inputs), rtol=1e-5, atol=1e-5)
