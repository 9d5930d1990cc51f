"""Swin on a CPU works in place and on some windows at a time, with the numbers it has where gradients are wanted."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from everymask.networks.backbones.swin import Swin, SwinConfig
from everymask.networks.backbones.swinv2 import SwinV2, SwinV2Config
from everymask.networks.backbones.windows import window_chunks
from everymask.networks.layers import chunks
from everymask.networks.layers.chunks import add_in_chunks, may_overwrite, tokens_at_once
from parity import randomise, relative_error


def swin(window: int = 4) -> Swin:
    torch.manual_seed(0)
    network = Swin(SwinConfig(embed_dim=8, depths=(2, 1, 2, 2), heads=(1, 2, 2, 4), window=window))
    randomise(network)
    return network.eval()


def swinv2(window: int = 4) -> SwinV2:
    torch.manual_seed(0)
    config = SwinV2Config(
        embed_dim=8,
        depths=(2, 1, 2, 2),
        heads=(1, 2, 2, 4),
        windows=(window,) * 4,
        shifts=(window // 2,) * 4,
        bias_ranges=(max(1, window - 1),) * 4,
    )
    network = SwinV2(config)
    randomise(network)
    return network.eval()


BUILDERS = pytest.mark.parametrize("build", [swin, swinv2], ids=["swin", "swinv2"])


@BUILDERS
@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    window=st.integers(1, 7),
    batch=st.integers(1, 2),
    height=st.integers(32, 110),
    width=st.integers(32, 110),
    least=st.sampled_from([1, 60, 1024]),
)
def test_the_maps_are_the_same_with_and_without_gradients(
    build: type[Swin] | type[SwinV2], window: int, batch: int, height: int, width: int, least: int
) -> None:
    """Whatever the number of tokens that are worked on at a time; the image is not touched."""
    network = build(window)
    pixel_values = torch.randn(batch, 3, height, width)
    before = pixel_values.clone()
    expected = network(pixel_values)
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(chunks, "LEAST_TOKENS", least)
        patch.setattr(chunks, "UNITS_AT_ONCE", 1)
        maps = network(pixel_values)
    assert torch.equal(pixel_values, before)
    for ours, wanted in zip(maps, expected, strict=True):
        assert wanted.requires_grad
        assert relative_error(ours, wanted) <= 1e-5


@BUILDERS
def test_a_traced_network_gives_the_same_maps(build: type[Swin] | type[SwinV2]) -> None:
    """Tracing sees whole maps: with the same numbers, for another image as well."""
    network = build()
    with torch.no_grad():
        traced = torch.jit.trace(network, torch.randn(1, 3, 72, 100), check_trace=False)
        pixel_values = torch.randn(1, 3, 72, 100)
        assert "index_copy_" not in str(traced.inlined_graph)
        for ours, expected in zip(traced(pixel_values), network(pixel_values), strict=True):
            assert relative_error(ours, expected) <= 1e-5


@BUILDERS
def test_bfloat16_maps_are_near_those_of_float32(build: type[Swin] | type[SwinV2]) -> None:
    network = build()
    pixel_values = torch.randn(1, 3, 72, 100)
    with torch.inference_mode():
        expected = network(pixel_values)
        maps = network.to(torch.bfloat16)(pixel_values.bfloat16())
    for half, full in zip(maps, expected, strict=True):
        assert half.dtype == torch.bfloat16
        assert (half.float() - full).abs().mean() <= 0.02 * full.abs().max()


@BUILDERS
def test_inference_first_leaves_training_whole(build: type[Swin] | type[SwinV2]) -> None:
    """What is kept from one call to the next takes part in gradients; they reach every parameter."""
    network = build()
    pixel_values = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        network(pixel_values)
    sum((each**2).mean() for each in network.train()(pixel_values)).backward()
    assert not {name for name, each in network.named_parameters() if each.grad is None or not each.grad.abs().sum() > 0}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    window=st.integers(1, 8),
    shifted=st.booleans(),
    at_once=st.integers(1, 9),
)
def test_chunks_of_windows_hold_every_token_once(
    height: int, width: int, window: int, shifted: bool, at_once: int
) -> None:
    found = window_chunks(height, width, window, window // 2 if shifted else 0, at_once)
    assert sum(len(chunk.tokens) for chunk in found) == -(-height // window) * -(-width // window) * window**2
    assert torch.cat([chunk.real_tokens for chunk in found]).sort().values.tolist() == list(range(height * width))
    for chunk in found:
        assert len(chunk.tokens) <= at_once * window**2
        real = torch.arange(len(chunk.tokens)) if chunk.real is None else chunk.real
        assert torch.equal(chunk.tokens[real], chunk.real_tokens)
        padding = [] if chunk.padding is None else chunk.padding.tolist()
        assert sorted([*real.tolist(), *padding]) == list(range(len(chunk.tokens)))


def test_only_borders_of_shifted_windows_are_kept_apart() -> None:
    """A map of 3 x 3 windows, one at a time, shifted by half: those of the last row and column mix opposite borders."""
    apart = [chunk.regions is not None for chunk in window_chunks(12, 12, 4, 2, 1)]
    assert apart == [False, False, True, False, False, True, True, True, True]
    corner = window_chunks(12, 12, 4, 2, 1)[-1].regions
    assert corner is not None
    assert len(corner.unique()) == 4
    assert not any(chunk.regions is not None for chunk in window_chunks(12, 12, 4, 0, 1))


def test_nothing_is_overwritten_where_gradients_are_wanted_or_a_tracer_looks() -> None:
    tensor = torch.zeros(3)
    assert not may_overwrite(tensor)
    with torch.no_grad():
        assert may_overwrite(tensor)
        assert not may_overwrite(tensor.to("meta"))
        assert not may_overwrite(nn.Parameter(tensor))
        seen: list[bool] = []

        def look(each: Tensor) -> Tensor:
            seen.append(may_overwrite(each))
            return each + 1

        torch.jit.trace(look, tensor, check_trace=False)
    assert seen == [False]


def test_a_branch_is_added_to_every_token() -> None:
    tokens = torch.randn(2, 9, 300, 4)
    expected = tokens + tokens.exp()
    sizes: list[int] = []

    def branch(chunk: Tensor) -> Tensor:
        sizes.append(len(chunk))
        return chunk.exp()

    add_in_chunks(tokens, branch, hidden=10**9)
    assert torch.equal(tokens, expected)
    assert (sum(sizes), max(sizes)) == (2 * 9 * 300, tokens_at_once(10**9))
    assert len(sizes) > 1
