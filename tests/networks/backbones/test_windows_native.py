"""The compiled kernel of attention inside windows: the same numbers as torch's, and not needed."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from everymask import native
from everymask.networks.backbones import windows_native
from everymask.networks.backbones.windows import attention_of_windows
from everymask.networks.backbones.windows_native import attends_natively, attention_of_windows_native

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


def problem(
    batch: int, count: int, heads: int, tokens: int, channels: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Query, key and value as parts of one product, the bias of all heads, and regions."""
    qkv = torch.randn(batch, count, tokens, 3 * heads * channels).to(dtype)
    query, key, value = qkv.unflatten(-1, (3, heads, -1)).permute(3, 0, 1, 4, 2, 5).unbind()
    return query, key, value, torch.randn(heads, tokens, tokens).to(dtype), torch.randint(0, 3, (count, tokens))


def plain(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, regions: Tensor | None, apart: float) -> Tensor:
    """What is asked for, word by word, in float64: (B, N, n, heads * channels)."""
    scores = 0.3 * query.double() @ key.double().transpose(-1, -2) + bias.double()  # (B, N, heads, n, n)
    if regions is not None:
        scores = scores + apart * (regions[:, None, :, None] != regions[:, None, None, :])
    return (scores.softmax(-1) @ value.double()).transpose(2, 3).flatten(3)


@needs_compiler
@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    batch=st.integers(1, 2),
    count=st.integers(1, 4),
    heads=st.integers(1, 3),
    tokens=st.sampled_from([1, 4, 9, 16, 36, 49, 64, 144]),
    channels=st.sampled_from([1, 4, 15, 16, 24, 32, 48, 65]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    apart=st.sampled_from([None, -100.0]),
    seed=st.integers(0, 99),
)
@example(1, 60, 3, 49, 32, torch.float32, -100.0, 0)  # enough for several threads
@torch.inference_mode()
def test_the_kernel_equals_torch(
    batch: int, count: int, heads: int, tokens: int, channels: int, dtype: torch.dtype, apart: float | None, seed: int
) -> None:
    torch.manual_seed(seed)
    query, key, value, bias, regions = problem(batch, count, heads, tokens, channels, dtype)
    inputs = query, key, value, bias, None if apart is None else regions
    assert attends_natively(*inputs[:4])
    attended = attention_of_windows_native(*inputs, scale=0.3, apart=apart or 0.0)
    assert attended.dtype == dtype
    rounding = 1e-5 if dtype == torch.float32 else 8e-3
    torch.testing.assert_close(attended.double(), plain(*inputs, apart or 0.0), rtol=rounding, atol=rounding)


@needs_compiler
@torch.inference_mode()
def test_what_is_no_number_spoils_what_reads_it_and_nothing_else() -> None:
    torch.manual_seed(0)
    query, key, value, bias, _ = (each.contiguous() for each in problem(1, 2, 2, 9, 16, torch.float32))
    query[0, 1, 0, 3, 5] = torch.nan
    key[0, 0, 1, 2, 0] = torch.inf
    attended = attention_of_windows_native(query, key, value, bias, None, scale=0.3, apart=0.0)
    expected = plain(query, key, value, bias, None, 0.0)
    broken = ~torch.isfinite(expected)
    assert broken[0, 1, 3, :16].all()
    assert 0 < broken.sum() < broken.numel() / 2
    assert torch.equal(~torch.isfinite(attended), broken)
    torch.testing.assert_close(attended[~broken].double(), expected[~broken], rtol=1e-5, atol=1e-5)


@pytest.fixture
def no_kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    windows_native.kernel.cache_clear()
    native.compiled.cache_clear()
    monkeypatch.setattr(native, "COMPILER", str(Path("no") / "compiler"))
    yield
    windows_native.kernel.cache_clear()
    native.compiled.cache_clear()


@torch.inference_mode()
def test_without_a_compiler_torch_does_it(no_kernel: None) -> None:
    torch.manual_seed(0)
    inputs = problem(1, 3, 2, 9, 8, torch.float32)
    assert not attends_natively(*inputs[:4])
    attended = attention_of_windows(*inputs, scale=0.3, apart=-100.0)
    torch.testing.assert_close(attended.double(), plain(*inputs, -100.0), rtol=1e-5, atol=1e-5)


@needs_compiler
def test_gradients_are_left_to_torch() -> None:
    torch.manual_seed(0)
    query, key, value, bias, regions = problem(1, 3, 2, 9, 8, torch.float32)
    attended = attention_of_windows(query.requires_grad_(), key, value, bias, regions, scale=0.3, apart=-100.0)
    assert attended.requires_grad
    torch.testing.assert_close(attended.double(), plain(query, key, value, bias, regions, -100.0), rtol=1e-5, atol=1e-5)
