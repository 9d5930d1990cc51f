"""DPT gives the published implementation's numbers, whatever its backbone and head."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    BeitConfig,
    BitConfig,
    Dinov2Config,
    DPTConfig,
    DPTForDepthEstimation,
    DPTForSemanticSegmentation,
    Swinv2Config,
)

from dpt_models import BEIT, BIT, BOTH, DEPTH, DINOV2, HYBRID, ON_SWINV2, SEMANTIC, SIZES, STAGES, SWINV2, small
from everymask.checkpoints.layouts import dpt
from everymask.checkpoints.strict import load_strictly
from everymask.networks.outputs import DepthMap, PixelLogits, PixelsAndDepth
from parity import randomise, relative_error
from shared import SHARED, needs_shared

GOLDEN = SHARED / "golden" / "transformers-4.57"
parity = settings(
    max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def load(folder: Path) -> nn.Module:
    config = json.loads((folder / "config.json").read_text())
    network, layout = dpt.build(config, len(config.get("id2label", ())))
    load_strictly(network, layout, load_file(folder / "model.safetensors"))
    return network.eval()


def awake(reference: nn.Module, pixel_values: Tensor) -> nn.Module:
    """The depth network with a last bias that half of the pixels are above zero with."""
    before: list[Tensor] = []
    hook = reference.head.head[4].register_forward_hook(lambda *arguments: before.append(arguments[2]))
    with torch.no_grad():
        reference(pixel_values)
        reference.head.head[4].bias -= before[0].median()
    hook.remove()
    return reference


def assert_depth_equals(config: DPTConfig, pixel_values: Tensor, folder: Path) -> None:
    torch.manual_seed(pixel_values.shape[-1])
    reference = DPTForDepthEstimation(config).eval()
    randomise(reference)
    awake(reference, pixel_values).save_pretrained(folder)
    network = load(folder)
    with torch.inference_mode():
        expected = reference(pixel_values).predicted_depth
        output = network(pixel_values)
    assert isinstance(output, DepthMap)
    assert 0.3 < (expected > 0).float().mean() < 0.7
    assert relative_error(output.depth, expected) <= 1e-4


@needs_shared
@pytest.mark.parametrize("name", ["dpt_semantic", "dpt_depth", "dpt_hybrid"])
def test_golden_checkpoints_give_their_numbers(name: str) -> None:
    expected = load_file(GOLDEN / name / "expected.safetensors")
    network = load(GOLDEN / name)
    with torch.inference_mode():
        output = network(expected["pixel_values"])
    if name == "dpt_semantic":
        assert relative_error(output.logits, expected["logits"]) <= 1e-4
    else:
        assert relative_error(output.depth, expected["depth"]) <= 1e-4


necks = st.fixed_dictionaries(
    {
        "readout_type": st.sampled_from(["ignore", "add", "project"]),
        "use_batch_norm_in_fusion_residual": st.booleans(),
        "use_bias_in_fusion_residual": st.sampled_from([None, True, False]),
        "reassemble_factors": st.sampled_from([[4, 2, 1, 0.5], [2, 1, 1, 0.5], [4, 1, 0.5, 0.25]]),
        "fusion_hidden_size": st.sampled_from([8, 20]),
        "neck_hidden_sizes": st.lists(st.sampled_from([4, 8, 20]), min_size=4, max_size=4),
    }
)
vits = st.fixed_dictionaries(
    {
        "num_hidden_layers": st.integers(4, 6),
        "num_attention_heads": st.sampled_from([1, 3]),
        "patch_size": st.sampled_from([8, 16]),
        "image_size": st.sampled_from([32, 48, 64]),
        "layer_norm_eps": st.sampled_from([1e-12, 1e-6]),
    }
)
sides = st.sampled_from([32, 48, 64, 80])


@parity
@given(neck=necks, vit=vits, side=sides, labels=st.integers(3, 6), auxiliary=st.booleans())
def test_random_semantic_configurations_equal_transformers(
    neck: dict[str, Any], vit: dict[str, Any], side: int, labels: int, auxiliary: bool, tmp_path: Path
) -> None:
    config = DPTConfig(**{**SIZES, **neck, **vit}, num_labels=labels, use_auxiliary_head=auxiliary)
    torch.manual_seed(side + labels)
    reference = DPTForSemanticSegmentation(config).eval()
    randomise(reference)
    reference.save_pretrained(tmp_path)
    network = load(tmp_path)
    pixel_values = torch.randn(2, 3, side, side)
    with torch.inference_mode():
        expected = reference(pixel_values).logits
        output = network(pixel_values)
    assert isinstance(output, PixelLogits)
    assert output.auxiliary == ()
    assert relative_error(output.logits, expected) <= 1e-4


@parity
@given(neck=necks, vit=vits, side=sides, taps=st.sampled_from([[0, 1, 2, 3], [3, 1, 2, 0]]))
def test_random_depth_configurations_equal_transformers(
    neck: dict[str, Any], vit: dict[str, Any], side: int, taps: list[int], tmp_path: Path
) -> None:
    config = DPTConfig(**{**SIZES, **neck, **vit, "backbone_out_indices": taps})
    assert_depth_equals(config, torch.randn(2, 3, side, side), tmp_path)


@parity
@given(
    width=st.sampled_from([16, 24]),
    depths=st.lists(st.integers(1, 2), min_size=3, max_size=3),
    side=sides,
    padding=st.sampled_from(["same", "SAME"]),
    taps=st.sampled_from([[0, 1, 2, 3], [2, 3, 0, 1]]),
)
def test_random_hybrids_equal_transformers(
    width: int, depths: list[int], side: int, padding: str, taps: list[int], tmp_path: Path
) -> None:
    bit = BitConfig(**{**BIT, "hidden_sizes": [width, 16, 40], "depths": depths, "global_padding": padding})
    changes = {"neck_hidden_sizes": [width, 16, 8, 24], "image_size": side, "backbone_out_indices": taps}
    config = DPTConfig(
        **{**SIZES, **changes},
        is_hybrid=True,
        backbone_config=bit,
        backbone_featmap_shape=[1, 40, side // 16, side // 16],
    )
    # transformers refuses all sizes but this one.
    assert_depth_equals(config, torch.randn(2, 3, side, side), tmp_path)


@parity
@given(
    neck=necks,
    taps=st.sampled_from([STAGES, ["stem", "stage1", "stage3", "stage5"]]),
    grid=st.tuples(st.integers(3, 6), st.integers(3, 6)),
    gated=st.booleans(),
    projection=st.booleans(),
)
def test_random_configurations_with_dinov2_equal_transformers(
    neck: dict[str, Any], taps: list[str], grid: tuple[int, int], gated: bool, projection: bool, tmp_path: Path
) -> None:
    backbone = Dinov2Config(**{**DINOV2, "num_hidden_layers": 5, "out_features": taps}, use_swiglu_ffn=gated)
    if projection:
        neck = {**neck, "fusion_hidden_size": 256}  # the only width that transformers projects
    config = DPTConfig(**{**SIZES, **neck}, backbone_config=backbone, add_projection=projection)
    assert_depth_equals(config, torch.randn(1, 3, 14 * grid[0], 14 * grid[1]), tmp_path)


@parity
@given(neck=necks, grid=st.tuples(st.integers(2, 6), st.integers(2, 6)), relative=st.booleans())
def test_random_configurations_with_beit_equal_transformers(
    neck: dict[str, Any], grid: tuple[int, int], relative: bool, tmp_path: Path
) -> None:
    backbone = BeitConfig(**{**BEIT, "use_relative_position_bias": relative})
    config = DPTConfig(**{**SIZES, **neck}, backbone_config=backbone)
    assert_depth_equals(config, torch.randn(1, 3, 16 * grid[0], 16 * grid[1]), tmp_path)


@parity
@given(neck=necks, grid=st.tuples(st.integers(1, 3), st.integers(1, 3)), window=st.sampled_from([4, 8]))
def test_random_configurations_with_swinv2_equal_transformers(
    neck: dict[str, Any], grid: tuple[int, int], window: int, tmp_path: Path
) -> None:
    backbone = Swinv2Config(**{**SWINV2, "window_size": window})
    config = DPTConfig(**{**SIZES, **neck, "neck_hidden_sizes": [8, 16, 32, 64]}, backbone_config=backbone)
    assert_depth_equals(config, torch.randn(1, 3, 32 * grid[0], 32 * grid[1]), tmp_path)


def test_images_that_are_not_square_give_what_transformers_neck_gives_for_their_grid(tmp_path: Path) -> None:
    """Which it takes, though its network does not."""
    torch.manual_seed(0)
    reference = DPTForSemanticSegmentation(DPTConfig(**SIZES, num_labels=3)).eval()
    randomise(reference)
    reference.save_pretrained(tmp_path)
    network = load(tmp_path)
    pixel_values = torch.randn(1, 3, 48, 112)
    with torch.inference_mode():
        states = reference.dpt(pixel_values, output_hidden_states=True).hidden_states[1:]
        expected = reference.head(reference.neck(list(states), 3, 7))
        output = network(pixel_values)
    assert output.logits.shape == (1, 3, 64, 128)
    assert relative_error(output.logits, expected) <= 1e-4


def test_training_gives_the_logits_of_both_heads_that_transformers_gives(tmp_path: Path) -> None:
    config = DPTConfig(**SIZES, num_labels=3, use_batch_norm_in_fusion_residual=True, semantic_classifier_dropout=0.0)
    torch.manual_seed(0)
    reference = DPTForSemanticSegmentation(config)
    randomise(reference)
    reference.save_pretrained(tmp_path)
    network = load(tmp_path)
    reference.train().auxiliary_head.head[3].p = 0.0
    network.train().auxiliary_head[3].p = 0.0
    pixel_values = torch.randn(2, 3, 64, 64)
    hidden: list[Tensor] = []
    reference.auxiliary_head.register_forward_hook(lambda *arguments: hidden.append(arguments[2]))
    expected = reference(pixel_values).logits
    output = network(pixel_values)
    (auxiliary,) = output.auxiliary
    assert relative_error(output.logits, expected) <= 1e-4
    assert relative_error(auxiliary.logits, hidden[0]) <= 1e-4
    assert auxiliary.logits.shape == (2, 3, 32, 32)


@pytest.mark.parametrize(
    ("config", "padded", "size"),
    [
        (SEMANTIC, (64, 96), (50, 82)),
        (HYBRID, (64, 96), (50, 82)),
        ({**DEPTH, "backbone_config": DINOV2}, (56, 84), (58, 94)),
        ({**DEPTH, "backbone_config": BEIT}, (64, 96), (50, 82)),
        (ON_SWINV2, (64, 96), (50, 82)),
    ],
    ids=["plain", "hybrid", "dinov2", "beit", "swinv2"],
)
def test_sizes_between_patches_give_the_part_of_the_image_padded_with_zeros(
    config: dict[str, Any], padded: tuple[int, int], size: tuple[int, int]
) -> None:
    """50 x 82 pixels; to whole patches, of which there are an even number."""
    network, _ = small(config)
    image = torch.randn(1, 3, 50, 82)
    whole = torch.zeros(1, 3, *padded)
    whole[..., :50, :82] = image
    with torch.inference_mode():
        outputs = network(image), network(whole)
    found, expected = (each.depth if isinstance(each, DepthMap) else each.logits for each in outputs)
    assert expected.shape[-2:] == (64, 96)
    assert found.shape[-2:] == size
    assert torch.equal(found, expected[..., : size[0], : size[1]])


def test_two_heads_are_the_semantic_network_with_a_depth_head_beside(tmp_path: Path) -> None:
    network, layout = small(BOTH)
    published = layout.to_published(network)
    beside = {key: tensor for key, tensor in published.items() if key.startswith("depth_head.")}
    assert set(beside) == {f"depth_head.head.{layer}.{leaf}" for layer in (0, 2, 4) for leaf in ("weight", "bias")}
    semantic = {key: tensor for key, tensor in published.items() if key not in beside}
    depth = {key: tensor for key, tensor in semantic.items() if not key.startswith(("head.", "auxiliary_head."))}
    depth |= {key.removeprefix("depth_"): tensor for key, tensor in beside.items()}
    pixel_values = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        output = network(pixel_values)
        assert isinstance(output, PixelsAndDepth)
        for config, weights in ((SEMANTIC, semantic), (DEPTH, depth)):
            alone, alone_layout = dpt.build(config, 3)
            load_strictly(alone, alone_layout, weights)
            found = alone.eval()(pixel_values)
            if config is SEMANTIC:
                assert torch.equal(found.logits, output.pixels.logits)
            else:
                assert torch.equal(found.depth, output.depth.depth)
    assert network.train()(pixel_values).pixels.auxiliary[0].logits.shape == (1, 3, 32, 32)
