"""Swin v2 gives the published implementation's feature maps."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor
from transformers import Swinv2Backbone, Swinv2Config

from everymask.checkpoints.layouts.backbones import build_backbone, swinv2_config
from everymask.errors import CheckpointError
from everymask.networks.backbones.swinv2 import SwinV2
from parity import randomise, relative_error, shapes

STAGES = ["stage1", "stage2", "stage3", "stage4"]
SMALL = {
    "model_type": "swinv2",
    "embed_dim": 8,
    "depths": [2, 2, 2, 2],
    "num_heads": [1, 2, 2, 4],
    "image_size": 64,
    "window_size": 4,
}
TINY_256 = {"model_type": "swinv2", "image_size": 256, "window_size": 16}
LARGE_384 = {
    "model_type": "swinv2",
    "image_size": 384,
    "embed_dim": 192,
    "depths": [2, 2, 18, 2],
    "num_heads": [6, 12, 24, 48],
    "window_size": 24,
    "pretrained_window_sizes": [12, 12, 12, 6],
}


def loaded(config: dict[str, Any], published: dict[str, Tensor]) -> SwinV2:
    network, widths, layout = build_backbone(config, "")
    assert isinstance(network, SwinV2)
    assert widths == network.widths
    holder = torch.nn.ModuleDict({"backbone": network})  # our keys begin with "backbone."
    assert layout.published_shapes(holder) == shapes(published)
    holder.load_state_dict(layout.to_ours(published, holder))
    return network.eval()


def small(**changes: Any) -> SwinV2:
    torch.manual_seed(0)
    network, _, _ = build_backbone({**SMALL, **changes}, "")
    assert isinstance(network, SwinV2)
    randomise(network)
    return network.eval()


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    image_size=st.sampled_from([32, 48, 64, 96]),
    window=st.integers(1, 8),
    pretrained=st.sampled_from([[0, 0, 0, 0], [2, 3, 4, 5], [8, 8, 8, 2]]),
    depths=st.lists(st.integers(1, 3), min_size=4, max_size=4),
    qkv_bias=st.booleans(),
    ratio=st.sampled_from([2.0, 4.0]),
    eps=st.sampled_from([1e-5, 1e-2]),
    sharp=st.booleans(),
    batch=st.integers(1, 2),
    height=st.integers(32, 110),
    width=st.integers(32, 110),
)
def test_random_configurations_equal_transformers(
    image_size: int,
    window: int,
    pretrained: list[int],
    depths: list[int],
    qkv_bias: bool,
    ratio: float,
    eps: float,
    sharp: bool,
    batch: int,
    height: int,
    width: int,
    tmp_path: Path,
) -> None:
    """Images of other sizes than trained with, maps smaller than a window, scales of attention beyond their bound.

    Such scales, which make tiny networks blow up what was rounded, are compared in float64.
    """
    config = Swinv2Config(
        image_size=image_size,
        embed_dim=8,
        depths=depths,
        num_heads=[1, 2, 2, 4],
        window_size=window,
        pretrained_window_sizes=pretrained,
        qkv_bias=qkv_bias,
        mlp_ratio=ratio,
        layer_norm_eps=eps,
        drop_path_rate=0.0,
        out_features=STAGES,
    )
    torch.manual_seed(height * width)
    reference = Swinv2Backbone(config).eval()
    randomise(reference)
    if sharp:
        for name, parameter in reference.named_parameters():
            if name.endswith("logit_scale"):
                parameter.data += torch.rand_like(parameter) * 6  # the bound is at 4.6
    reference.save_pretrained(tmp_path)
    network = loaded(config.to_dict(), load_file(tmp_path / "model.safetensors"))
    dtype, tolerance = (torch.float64, 1e-9) if sharp else (torch.float32, 1e-4)
    reference.to(dtype), network.to(dtype)
    pixel_values = torch.randn(batch, 3, height, width, dtype=dtype)
    with torch.inference_mode():
        expected = reference(pixel_values).feature_maps
        maps = network(pixel_values)
    assert len(maps) == len(expected) == 4
    for ours, theirs in zip(maps, expected, strict=True):
        assert relative_error(ours, theirs) <= tolerance


@pytest.mark.parametrize("config", [TINY_256, LARGE_384], ids=["tiny-256", "large-384"])
def test_the_public_sizes_have_the_published_keys_windows_and_tables(config: dict[str, Any]) -> None:
    with torch.device("meta"):
        reference = Swinv2Backbone(Swinv2Config(**config, out_features=STAGES))
        network, _, layout = build_backbone(config, "backbone.")
        holder = torch.nn.ModuleDict({"backbone": network})
    expected = {f"backbone.{key}": shape for key, shape in shapes(reference.state_dict()).items()}
    assert layout.published_shapes(holder) == expected
    sizes = swinv2_config(config)
    published = [(block.window_size, block.shift_size) for stage in reference.encoder.layers for block in stage.blocks]
    ours = [(block.attention.window, block.shift) for stage in network.stages for block in stage]
    assert ours == published
    window = config["window_size"]
    assert sizes.windows[:3] == (window,) * 3
    assert (sizes.windows[3], sizes.shifts[3]) == (window // 2, 0)  # the last map is smaller than a window


def test_a_network_for_larger_windows_keeps_the_coordinates_it_was_pretrained_with() -> None:
    assert swinv2_config(LARGE_384).bias_ranges == (11, 11, 11, 5)
    assert swinv2_config(TINY_256).bias_ranges == (15, 15, 15, 7)


def test_the_scale_of_the_cosines_is_bounded() -> None:
    """At 100, however large the parameter: nothing changes beyond the bound, something below."""
    network = small()
    pixel_values = torch.randn(1, 3, 64, 64)
    maps = []
    for scale in (4.0, math.log(100), 9.0):
        for name, parameter in network.named_parameters():
            if name.endswith("logit_scale"):
                parameter.data.fill_(scale)
        with torch.inference_mode():
            maps.append(network(pixel_values)[-1])
    assert not torch.allclose(maps[0], maps[1], atol=1e-3)
    torch.testing.assert_close(maps[1], maps[2], atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_padded_tokens_survive_half_precision(dtype: torch.dtype) -> None:
    """Their keys are zeros, which have no direction."""
    network = small(window_size=5, qkv_bias=False)
    pixel_values = torch.randn(1, 3, 33, 47)
    with torch.inference_mode():
        expected = network(pixel_values)
        maps = network.to(dtype)(pixel_values.to(dtype))
    for half, full in zip(maps, expected, strict=True):
        assert half.dtype == dtype
        assert torch.isfinite(half).all()
        assert (half.float() - full).abs().mean() <= 0.05 * full.abs().max()


def test_gradients_reach_every_parameter() -> None:
    network = small()
    sum((each**2).mean() for each in network.train()(torch.randn(1, 3, 64, 96))).backward()
    assert not {name for name, each in network.named_parameters() if each.grad is None or not each.grad.abs().sum() > 0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_absolute_embeddings": True}, "use_absolute_embeddings = True"),
        ({"hidden_act": "relu"}, "hidden_act = 'relu'.*'gelu'"),
        ({"image_size": [64, 96]}, "image_size = .64, 96.*must be one number"),
        ({"patch_size": [4, 4]}, "patch_size = .4, 4.*must be one number"),
        ({"image_size": 24}, "image_size = 24 leaves its last stage nothing; 32 is the smallest"),
    ],
)
def test_what_nobody_published_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        build_backbone({**SMALL, **change}, "")
