"""Norms with their sums: the compiled kernels equal torch, numbers that are not finite included, and are not needed."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeVar

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from everymask import native
from everymask.networks.layers import norms_native
from everymask.networks.layers.norms import GroupNorm, LayerNorm
from everymask.networks.layers.norms_native import add_and_norm, norm_map

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
Norm = TypeVar("Norm", bound=nn.Module)
dtypes = st.sampled_from([torch.float32, torch.bfloat16])
ROUNDING = {torch.float32: 2e-5, torch.bfloat16: 1e-2}
ODD = [float("nan"), float("inf"), float("-inf"), 3e38, -3e38]


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def learned(norm: Norm) -> Norm:
    """``norm`` as after training."""
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    return norm


def plain(norm: nn.LayerNorm, tokens: Tensor) -> Tensor:
    """torch's layer norm of float32."""
    weight, bias = (None if each is None else each.float() for each in (norm.weight, norm.bias))
    return F.layer_norm(tokens.float(), tokens.shape[-1:], weight, bias, norm.eps)


def plain_map(
    norm: GroupNorm, features: Tensor, coarser: Tensor | None, mode: Literal["bilinear", "nearest"]
) -> Tensor:
    """torch's group norm of float32, and what comes behind it."""
    normed = F.group_norm(features.float(), norm.num_groups, norm.weight.float(), norm.bias.float(), norm.eps)
    if coarser is not None:
        corners = {} if mode == "nearest" else {"align_corners": False}
        normed = normed + F.interpolate(coarser.float(), size=normed.shape[-2:], mode=mode, **corners)
    return normed.relu() if norm.activate else normed


def maps(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random numbers, channels last."""
    return torch.randn(*shape).to(dtype).contiguous(memory_format=torch.channels_last)


def assert_near(actual: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    assert actual.dtype == dtype
    torch.testing.assert_close(actual.float(), expected, rtol=ROUNDING[dtype], atol=ROUNDING[dtype])


@needs_compiler
@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    batch=st.integers(1, 3),
    rows=st.integers(1, 90),
    channels=st.sampled_from([1, 3, 15, 16, 17, 32, 96, 101, 256, 4096]),
    dtype=dtypes,
    wide=st.booleans(),
    affine=st.booleans(),
    scaled=st.booleans(),
    seed=st.integers(0, 99),
)
@example(2, 5000, 96, torch.bfloat16, False, True, True, 0)
def test_layer_norm_equals_torch(
    batch: int, rows: int, channels: int, dtype: torch.dtype, wide: bool, affine: bool, scaled: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    norm = learned(LayerNorm(channels, eps=1e-5, elementwise_affine=affine))
    norm.to(torch.float32 if wide else dtype)
    scale = torch.randn(channels).to(torch.float32 if wide else dtype) if scaled else None
    tokens, branch = (torch.randn(batch, rows, channels).to(dtype) for _ in range(2))
    assert add_and_norm(norm, tokens, branch, scale) is not None
    assert_near(norm(tokens), plain(norm, tokens), dtype)
    expected = plain(norm, tokens.float() + branch.float())
    assert_near(norm.of_sum(tokens, branch), expected, dtype)
    added, normed = norm.sum_and_norm(tokens, branch, scale)
    unrounded = tokens.float() + branch.float() * (1 if scale is None else scale.float())
    assert_near(added, unrounded, dtype)
    assert_near(normed, plain(norm, unrounded), dtype)
    written = norm.of_sum(tokens, branch, out=tokens)
    assert written is tokens
    assert_near(tokens, expected, dtype)


@needs_compiler
@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    batch=st.integers(1, 3),
    size=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    coarse=st.none() | st.tuples(st.integers(1, 20), st.integers(1, 20)),
    groups=st.sampled_from([1, 2, 8]),
    each=st.sampled_from([1, 3, 8]),
    mode=st.sampled_from(["bilinear", "nearest"]),
    activate=st.booleans(),
    dtype=dtypes,
    wide=st.booleans(),
    seed=st.integers(0, 99),
)
@example(2, (90, 101), (45, 51), 32, 8, "bilinear", True, torch.bfloat16, False, 0)
def test_group_norm_equals_torch(
    batch: int,
    size: tuple[int, int],
    coarse: tuple[int, int] | None,
    groups: int,
    each: int,
    mode: Literal["bilinear", "nearest"],
    activate: bool,
    dtype: torch.dtype,
    wide: bool,
    seed: int,
) -> None:
    assume(each * size[0] * size[1] > 1)  # of a single number torch gives zero but for rounding, or refuses it
    torch.manual_seed(seed)
    norm = learned(GroupNorm(groups, groups * each, activate=activate)).to(torch.float32 if wide else dtype)
    features = maps(batch, groups * each, *size, dtype=dtype)
    coarser = None if coarse is None else maps(batch, groups * each, *coarse, dtype=dtype)
    expected = plain_map(norm, features, coarser, mode)
    assert norm_map(norm, features.clone(memory_format=torch.preserve_format), coarser, mode)
    assert_near(norm(features, coarser, mode), expected, dtype)


@needs_compiler
def test_a_large_mean_costs_no_accuracy() -> None:
    torch.manual_seed(0)
    features, tokens = maps(1, 8, 40, 50) + 1e3, torch.randn(100, 64) + 1e3
    group_norm, layer_norm = GroupNorm(2, 8), LayerNorm(64)
    expected = F.group_norm(features.double(), 2).float()
    torch.testing.assert_close(group_norm(features), expected, rtol=1e-3, atol=1e-3)
    expected = F.layer_norm(tokens.double(), (64,)).float()
    torch.testing.assert_close(layer_norm(tokens), expected, rtol=1e-3, atol=1e-3)


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_threads_share_the_work_without_a_trace(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    group_norm, layer_norm = learned(GroupNorm(8, 64, activate=True)).to(dtype), learned(LayerNorm(96)).to(dtype)
    features, coarser, tokens = maps(2, 64, 90, 70, dtype=dtype), maps(2, 64, 45, 35, dtype=dtype), torch.randn(999, 96)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            mine = features.clone(memory_format=torch.preserve_format)
            results.append((group_norm(mine, coarser), layer_norm(tokens.to(dtype))))
    finally:
        torch.set_num_threads(before)
    for first, second in results[1:]:
        assert torch.equal(first, results[0][0])
        assert torch.equal(second, results[0][1])


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("odd", ODD)
def test_odd_tokens_harm_nobody(odd: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    norm = learned(LayerNorm(37)).to(dtype)
    tokens, branch = torch.randn(9, 37).to(dtype), torch.randn(9, 37).to(dtype)
    expected = norm.of_sum(tokens, branch)
    tokens[::2, 20] = odd
    normed = norm.of_sum(tokens, branch)
    assert torch.equal(normed[1::2], expected[1::2])
    assert torch.equal(normed[::2].isnan(), plain(norm, tokens.float() + branch.float())[::2].isnan())


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("odd", ODD[:3])
def test_odd_places_harm_their_group_alone(odd: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    norm = learned(GroupNorm(4, 12, activate=True)).to(dtype)
    features = maps(2, 12, 20, 30, dtype=dtype)
    expected = norm(features.clone(memory_format=torch.preserve_format))
    features[1, 4, 5, 6] = odd
    normed = norm(features)
    assert normed[1, 3:6].isnan().all()
    normed[1, 3:6] = expected[1, 3:6]
    assert torch.equal(normed, expected)


@needs_compiler
def test_what_the_kernels_do_not_know_goes_another_way() -> None:
    torch.manual_seed(0)
    layer_norm, group_norm = learned(LayerNorm(32)), learned(GroupNorm(4, 32))
    tokens, features = torch.randn(10, 32), maps(1, 32, 5, 7)
    assert add_and_norm(layer_norm, tokens) is not None
    for other in (tokens.double(), tokens.to("meta"), tokens.T.contiguous().T, tokens[:0], tokens[:, :16]):
        assert add_and_norm(layer_norm, other) is None
    assert add_and_norm(layer_norm, tokens, tokens[:5]) is None
    assert add_and_norm(layer_norm, tokens, tokens.bfloat16()) is None
    assert add_and_norm(layer_norm, tokens, out=tokens.bfloat16()) is None
    assert add_and_norm(layer_norm, tokens, tokens, tokens[0, :16]) is None
    assert add_and_norm(layer_norm, tokens, tokens, tokens[0].bfloat16()) is None
    assert add_and_norm(LayerNorm(32).double(), tokens) is None
    assert add_and_norm(LayerNorm((2, 32)), tokens.view(5, 2, 32)) is None
    assert add_and_norm(LayerNorm(4097), torch.randn(2, 4097)) is None
    before = features.clone()
    for unknown in (features.double(), features.contiguous(), features.flatten(2), features[:0], features[:, :16]):
        assert not norm_map(group_norm, unknown)
    assert not norm_map(group_norm, features, features.contiguous())
    assert not norm_map(group_norm, features, features[:, :16])
    assert not norm_map(group_norm, features, features.bfloat16())
    assert torch.equal(features, before)
    cut = tokens[:, ::2]
    torch.testing.assert_close(learned(LayerNorm(16)).of_sum(cut, cut, out=tokens[:, ::2]), tokens[:, ::2])
    assert layer_norm(tokens[:0]).shape == (0, 32)
    assert_near(
        group_norm(features.contiguous(), features),
        plain_map(group_norm, features, features, "bilinear"),
        torch.float32,
    )


def test_gradients_and_traces_take_the_differentiable_form() -> None:
    torch.manual_seed(0)
    layer_norm, group_norm = learned(LayerNorm(16)), learned(GroupNorm(4, 16, activate=True))
    tokens, coarser = torch.randn(1, 30, 16), maps(1, 16, 2, 3)

    def run(tokens: Tensor) -> Tensor:
        added, normed = layer_norm.sum_and_norm(tokens, layer_norm.of_sum(tokens, tokens))
        features = (added + normed).unflatten(1, (5, 6)).permute(0, 3, 1, 2)
        out: Tensor = group_norm(features, coarser)
        return out

    with torch.enable_grad():
        run(tokens).sum().backward()
    assert all(each.grad is not None for norm in (layer_norm, group_norm) for each in norm.parameters())
    layer_norm.requires_grad_(False)  # a trace holds them as constants
    group_norm.requires_grad_(False)
    traced = torch.jit.trace(run, (tokens,), check_trace=False)
    assert {"aten::layer_norm", "aten::group_norm"} <= {node.kind() for node in traced.inlined_graph.nodes()}
    torch.testing.assert_close(traced(tokens), run(tokens), rtol=1e-4, atol=1e-5)


def test_without_compiled_kernels_torch_does_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERYMASK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(native, "COMPILER", "no-such-compiler")
    forget()
    torch.manual_seed(0)
    layer_norm, group_norm = learned(LayerNorm(16)), learned(GroupNorm(4, 16))
    tokens, branch, features, coarser = torch.randn(30, 16), torch.randn(30, 16), maps(1, 16, 5, 6), maps(1, 16, 2, 3)
    try:
        assert add_and_norm(layer_norm, tokens) is None
        assert not norm_map(group_norm, features)
        torch.testing.assert_close(layer_norm.of_sum(tokens, branch), plain(layer_norm, tokens + branch))
        added, normed = layer_norm.sum_and_norm(tokens, branch, tokens[0])
        torch.testing.assert_close(added, tokens + tokens[0] * branch)
        torch.testing.assert_close(normed, plain(layer_norm, added))
        expected = plain_map(group_norm, features, coarser, "bilinear")
        torch.testing.assert_close(group_norm(features, coarser), expected)
    finally:
        forget()


def forget() -> None:
    norms_native.kernels.cache_clear()
    native.compiled.cache_clear()
