"""The plain ViT gives the published implementations' tokens after any of its blocks."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn
from transformers import Dinov2Backbone, Dinov2Config

from everymask.checkpoints.layouts.vit import dinov2_config, dinov2_layout, taps
from everymask.errors import CheckpointError
from everymask.networks.backbones.vit import ViT, ViTConfig
from parity import randomise, relative_error

SMALL = ViTConfig(dim=16, depth=3, heads=2, feed_forward=24, patch=8, registers=None, grid=(4, 4), class_position=True)


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    stages=st.sets(st.integers(0, 4), min_size=1),
    heads=st.sampled_from([1, 3]),
    patch=st.sampled_from([8, 14]),
    trained=st.integers(2, 5),
    rows=st.integers(2, 6),
    columns=st.integers(2, 6),
    gated=st.booleans(),
    by_index=st.booleans(),
)
def test_dinov2_equals_transformers_for_any_grid_of_patches(
    stages: set[int],
    heads: int,
    patch: int,
    trained: int,
    rows: int,
    columns: int,
    gated: bool,
    by_index: bool,
    tmp_path: Path,
) -> None:
    names = ["stem", "stage1", "stage2", "stage3", "stage4"]
    sizes: dict[str, Any] = {
        "hidden_size": 24,
        "num_hidden_layers": 4,
        "num_attention_heads": heads,
        "patch_size": patch,
        "image_size": trained * patch,
        "use_swiglu_ffn": gated,
        "reshape_hidden_states": False,
    }
    which = (
        {"out_indices": sorted(stages)} if by_index else {"out_features": [names[stage] for stage in sorted(stages)]}
    )
    torch.manual_seed(rows * columns)
    reference = Dinov2Backbone(Dinov2Config(**sizes, **which)).eval()
    randomise(reference)
    reference.save_pretrained(tmp_path)
    config = dinov2_config(sizes)
    network = ViT(config).eval()
    holder = nn.ModuleDict({"backbone": network})  # our keys begin with "backbone."
    holder.load_state_dict(dinov2_layout("", config).to_ours(load_file(tmp_path / "model.safetensors"), holder))
    pixel_values = torch.randn(2, 3, rows * patch, columns * patch)
    with torch.inference_mode():
        expected = reference(pixel_values).feature_maps
        found, size = network.taps(pixel_values, taps(which, 4))
    assert size == (rows, columns)
    for ours, theirs in zip(found, expected, strict=True):
        assert relative_error(ours, theirs) <= 1e-4


def test_taps_come_in_order_and_nothing_is_computed_behind_the_last() -> None:
    torch.manual_seed(0)
    network = ViT(SMALL).eval()
    ran = []
    for number, block in enumerate(network.blocks, 1):
        block.register_forward_hook(lambda *_, number=number: ran.append(number))
    pixel_values = torch.randn(1, 3, 20, 33)
    with torch.inference_mode():
        (first, second), size = network.taps(pixel_values, (2, 0))
        embedded, same = network.embed(pixel_values)
        torch.testing.assert_close(first, network.norm(embedded))
    assert ran == [1, 2]
    assert size == same == (3, 5)
    assert second.shape == (1, 1 + 3 * 5, 16)


def test_taps_are_read_as_out_features_or_out_indices_say() -> None:
    assert taps({"out_features": ["stem", "stage3"]}, 4) == (0, 3)
    assert taps({"out_indices": [1, -1]}, 4) == (1, 4)
    assert taps({}, 4) == (4,)
    for wrong in ({"out_features": ["stage5"]}, {"out_indices": [5]}):
        with pytest.raises(CheckpointError, match=r"backbone of 4 blocks has no .* it has stem to stage4"):
            taps(wrong, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"apply_layernorm": False}, "DINOv2 with apply_layernorm = False"),
        ({"reshape_hidden_states": True}, "DINOv2 with reshape_hidden_states = True"),
        ({"image_size": [518, 518]}, "DINOv2 with image_size = .* must be one number"),
    ],
)
def test_dinov2_as_nobody_published_it_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        dinov2_config(change)
