"""DPT gives the published implementation's numbers, whatever its backbone and head."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
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

from everymask.checkpoints.families import FAMILIES
from everymask.checkpoints.layouts import dpt
from everymask.checkpoints.layouts.rules import Layout
from everymask.checkpoints.load import load_checkpoint
from everymask.checkpoints.strict import load_strictly
from everymask.errors import CheckpointError
from everymask.networks.outputs import DepthMap, PixelLogits, PixelsAndDepth
from layout_tables import assert_equal_to_table
from parity import randomise, relative_error, shapes
from shared import SHARED, needs_shared

CONFIGS = SHARED / "checkpoints" / "configs"
GOLDEN = SHARED / "golden" / "transformers-4.57"
SIZES: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 40,
    "image_size": 64,
    "backbone_out_indices": [0, 1, 2, 3],
    "neck_hidden_sizes": [8, 12, 16, 24],
    "fusion_hidden_size": 16,
}
SEMANTIC = {**SIZES, "architectures": [dpt.SEMANTIC]}
DEPTH = {**SIZES, "architectures": [dpt.DEPTH]}
BOTH = {**SIZES, "architectures": [dpt.BOTH]}
BIT: dict[str, Any] = {
    **dpt.HYBRID_BIT,
    "embedding_size": 8,
    "hidden_sizes": [8, 16, 24],
    "depths": [1, 1, 2],
    "num_groups": 4,
}
STAGES = ["stage1", "stage2", "stage3", "stage4"]
DINOV2 = {
    "model_type": "dinov2",
    "hidden_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "image_size": 70,
    "out_features": STAGES,
    "reshape_hidden_states": False,
}
BEIT = {
    "model_type": "beit",
    "hidden_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 40,
    "image_size": 64,
    "out_features": STAGES,
    "reshape_hidden_states": False,
    "use_relative_position_bias": True,
}
SWINV2 = {
    "model_type": "swinv2",
    "embed_dim": 8,
    "depths": [2, 1, 2, 1],
    "num_heads": [1, 2, 2, 4],
    "image_size": 64,
    "window_size": 4,
    "out_features": STAGES,
}
parity = settings(
    max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def load(folder: Path, num_labels: int = 2) -> tuple[nn.Module, Layout]:
    config = json.loads((folder / "config.json").read_text())
    network, layout = dpt.build(config, len(config.get("id2label", range(num_labels))))
    load_strictly(network, layout, load_file(folder / "model.safetensors"))
    return network.eval(), layout


def small(config: dict[str, Any], num_labels: int = 3) -> tuple[nn.Module, Layout]:
    torch.manual_seed(0)
    network, layout = dpt.build(config, num_labels)
    randomise(network)
    return network.eval(), layout


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
    network, _ = load(folder)
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
    network, _ = load(GOLDEN / name)
    with torch.inference_mode():
        output = network(expected["pixel_values"])
    if name == "dpt_semantic":
        assert relative_error(output.logits, expected["logits"]) <= 1e-4
    else:
        assert relative_error(output.depth, expected["depth"]) <= 1e-4


@needs_shared
@pytest.mark.parametrize(
    ("name", "tasks", "kind"), [("dpt_semantic", ("semantic",), None), ("dpt_depth", ("depth",), "relative")]
)
def test_golden_checkpoints_load_from_their_folders(name: str, tasks: tuple[str, ...], kind: str | None) -> None:
    checkpoint = load_checkpoint(GOLDEN / name)
    assert checkpoint.tasks == tasks
    assert checkpoint.depth_kind == kind


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
    network, _ = load(tmp_path)
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
    network, _ = load(tmp_path)
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
    network, _ = load(tmp_path)
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
    ("config", "divisor", "size"),
    [
        (SEMANTIC, 16, (50, 70)),
        ({**BOTH, "is_hybrid": True, "backbone_config": BIT, "neck_hidden_sizes": [8, 16, 16, 24]}, 16, (50, 70)),
        ({**DEPTH, "backbone_config": DINOV2}, 14, (58, 80)),
        ({**DEPTH, "backbone_config": BEIT}, 16, (50, 70)),
        ({**DEPTH, "backbone_config": SWINV2, "neck_hidden_sizes": [8, 16, 32, 64]}, 32, (50, 70)),
    ],
    ids=["plain", "hybrid", "dinov2", "beit", "swinv2"],
)
def test_sizes_between_patches_give_the_part_of_the_padded_image(
    config: dict[str, Any], divisor: int, size: tuple[int, int]
) -> None:
    """Padded with zeros to whole patches, of which there are an even number here."""
    network, _ = small(config)
    height, width = 50, 70
    image = torch.randn(1, 3, height, width)
    padded = torch.zeros(1, 3, *(-(-side // divisor) * divisor for side in (height, width)))
    if divisor == 16:
        padded = torch.zeros(1, 3, 64, 80)
    padded[..., :height, :width] = image
    with torch.inference_mode():
        found, expected = network(image), network(padded)
    if isinstance(found, PixelsAndDepth):
        assert torch.equal(found.depth.depth, expected.depth.depth[..., : size[0], : found.depth.depth.shape[-1]])
        return
    found, expected = (each.depth if isinstance(each, DepthMap) else each.logits for each in (found, expected))
    assert torch.equal(found, expected[..., : found.shape[-2], : found.shape[-1]])


@pytest.mark.parametrize("semantic", [False, True], ids=["depth", "semantic"])
def test_what_is_saved_loads_in_transformers_without_a_word(semantic: bool, tmp_path: Path) -> None:
    cases: list[tuple[dict[str, Any], type]]
    if semantic:
        hybrid = {**HYBRID, "architectures": [dpt.SEMANTIC], "backbone_featmap_shape": [1, 24, 4, 4]}
        normed = {**SEMANTIC, "use_batch_norm_in_fusion_residual": True}
        cases = [(normed, DPTForSemanticSegmentation), (hybrid, DPTForSemanticSegmentation)]
    else:
        swin = {"backbone_config": SWINV2, "neck_hidden_sizes": [8, 16, 32, 64]}
        others = ({}, {"backbone_config": DINOV2}, {"backbone_config": BEIT}, swin)
        cases = [({**DEPTH, **other}, DPTForDepthEstimation) for other in others]
    for config, reference in cases:
        network, layout = small(config)
        save_file(layout.to_published(network), tmp_path / "model.safetensors", metadata={"format": "pt"})
        classes = {"id2label": {str(index): f"class {index}" for index in range(3)}}
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "dpt", **config, **classes}))
        theirs, said = reference.from_pretrained(tmp_path, output_loading_info=True)
        assert not any(said.values()), said
        side = 70 if config.get("backbone_config") is DINOV2 else 64
        pixel_values = torch.randn(1, 3, side, side)
        with torch.inference_mode():
            output, expected = network(pixel_values), theirs.eval()(pixel_values)
        if semantic:
            assert relative_error(output.logits, expected.logits) <= 1e-4
        else:
            assert expected.predicted_depth.max() > 0
            assert relative_error(output.depth, expected.predicted_depth) <= 1e-4


def test_files_without_the_unused_unit_and_with_a_used_norm_load() -> None:
    network, layout = small({**SEMANTIC, "use_batch_norm_in_fusion_residual": True})
    published = layout.to_published(network)
    unused = [key for key in published if key.startswith("neck.fusion_stage.layers.0.residual_layer1.")]
    assert len(unused) == 12
    lean = {key: tensor for key, tensor in published.items() if key not in unused}
    lean["dpt.layernorm.weight"] = torch.full((24,), 7.0)
    other, other_layout = dpt.build({**SEMANTIC, "use_batch_norm_in_fusion_residual": True}, 3)
    load_strictly(other, other_layout, lean)
    pixel_values = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(other.eval()(pixel_values).logits, network(pixel_values).logits)


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


def published(config: dict[str, Any], num_labels: int = 0) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        network, layout = dpt.build(config, num_labels)
    return {**layout.published_shapes(network), **shapes(layout.constants)}


@needs_shared
@pytest.mark.parametrize("file", ["Intel--dpt-large.json", "Intel--dpt-large-ade.json"])
def test_public_configs_build_what_transformers_builds(file: str) -> None:
    config = json.loads((CONFIGS / file).read_text())
    num_labels = len(config.get("id2label", ()))
    reference = DPTForSemanticSegmentation if num_labels else DPTForDepthEstimation
    with torch.device("meta"):
        expected = shapes(reference(DPTConfig(**config)).state_dict())
    found = published(config, num_labels)
    assert found == expected
    if num_labels:
        assert_equal_to_table(found, "## DPT with plain ViT")


LARGE_NECK = [256, 512, 1024, 1024]
TABLES: dict[str, dict[str, Any]] = {
    "## DPT hybrid": {"is_hybrid": True, "neck_hidden_sizes": [256, 512, 768, 768]},
    "## DPT with BEiT backbone": {
        "backbone_config": {
            "model_type": "beit",
            "image_size": 384,
            "out_features": ["stage3", "stage6", "stage9", "stage12"],
            "use_relative_position_bias": True,
            "reshape_hidden_states": False,
        },
    },
    "## DPT with Swin v2 backbone": {
        "backbone_config": {"model_type": "swinv2", "image_size": 256, "window_size": 16, "out_features": STAGES},
    },
    "## DPT with DINOv2 backbone": {
        "backbone_config": {
            "model_type": "dinov2",
            "image_size": 518,
            "hidden_size": 384,
            "num_attention_heads": 6,
            "out_features": ["stage3", "stage6", "stage9", "stage12"],
            "reshape_hidden_states": False,
        },
        "neck_hidden_sizes": [48, 96, 192, 384],
        "use_bias_in_fusion_residual": False,
        "add_projection": True,
    },
}


@needs_shared
@pytest.mark.parametrize("title", TABLES)
def test_public_networks_whose_configs_were_not_seen_have_the_keys_of_layouts_md(title: str) -> None:
    assert_equal_to_table(published({"architectures": [dpt.DEPTH], **TABLES[title]}), title)


def test_a_hybrid_without_more_is_the_published_one() -> None:
    """transformers has a default for its BiT."""
    config = {"is_hybrid": True, "neck_hidden_sizes": [256, 512, 768, 768]}
    with torch.device("meta"):
        expected = shapes(DPTForDepthEstimation(DPTConfig(**config)).state_dict())
    assert published(config) == expected


def test_what_older_files_leave_empty_beside_a_backbone_config_does_not_matter() -> None:
    """transformers 4.3x put null where another backbone made a number meaningless."""
    numbers = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "backbone_out_indices")
    others = ("image_size", "patch_size", "num_channels", "qkv_bias", "layer_norm_eps", "hidden_dropout_prob")
    empty: dict[str, Any] = dict.fromkeys((*numbers, *others), None)
    swin = {"backbone_config": SWINV2, "neck_hidden_sizes": [8, 16, 32, 64]}
    for backbone in ({"backbone_config": DINOV2}, {"backbone_config": BEIT}, swin):
        assert published({**DEPTH, **backbone, **empty}) == published({**DEPTH, **backbone})
        network, _ = small({**DEPTH, **backbone, **empty})
        with torch.inference_mode():
            assert network(torch.randn(1, 3, 64, 64)).depth.dim() == 3


def test_tasks_and_kind_of_depth_follow_from_the_config() -> None:
    family = FAMILIES["dpt"]
    cases: list[tuple[dict[str, Any], tuple[str, ...], str | None]] = [
        (SEMANTIC, ("semantic",), None),
        (DEPTH, ("depth",), "relative"),
        (BOTH, ("semantic",), "relative"),
        ({**BOTH, "everymask": {"depth_kind": "metric"}}, ("semantic",), "metric"),
        ({**DEPTH, "backbone_config": DINOV2}, ("depth",), "metric"),
        ({**DEPTH, "backbone_config": DINOV2, "everymask": {"depth_kind": "relative"}}, ("depth",), "relative"),
        ({**DEPTH, "backbone_config": BEIT}, ("depth",), "relative"),
        (SIZES, ("depth",), "relative"),
        ({**SIZES, "id2label": {"0": "wall"}}, ("semantic",), None),
    ]
    for config, tasks, kind in cases:
        assert family.tasks(config) == tasks
        assert family.depth_kind(config) == kind
    with pytest.raises(CheckpointError, match=r"\"depth_kind\" = 'feet'; it must be \"metric\" or \"relative\""):
        family.depth_kind({**DEPTH, "everymask": {"depth_kind": "feet"}})


HYBRID = {**DEPTH, "is_hybrid": True, "backbone_config": BIT, "neck_hidden_sizes": [8, 16, 16, 24]}
ON_DINOV2 = {**DEPTH, "backbone_config": DINOV2}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({**DEPTH, "hidden_act": "relu"}, "hidden_act = 'relu'.*'gelu'"),
        ({**DEPTH, "head_in_index": 1}, "head_in_index = 1"),
        ({**DEPTH, "qkv_bias": False}, "qkv_bias = False"),
        ({**DEPTH, "readout_type": "max"}, "readout_type = 'max'.*'ignore', 'add' or 'project'"),
        ({**DEPTH, "backbone": "resnet50"}, "backbone = 'resnet50'"),
        ({**DEPTH, "image_size": [384, 384]}, r"image_size = \[384, 384\].*one number"),
        ({**DEPTH, "backbone_out_indices": [0, 1, 2, 4]}, "4.* of 4 blocks does not exist"),
        ({**DEPTH, "backbone_out_indices": [0, 1, 2]}, "3 levels, but neck_hidden_sizes has 4"),
        ({**DEPTH, "reassemble_factors": [4, 2, 1]}, "4 neck_hidden_sizes and 3 reassemble_factors"),
        ({**DEPTH, "reassemble_factors": [4, 2, 1.5, 1]}, "factor 1.5 does not exist; use 4, 2, 1 or 0.5"),
        ({**DEPTH, "architectures": ["DPTModel"]}, r"architectures = \['DPTModel'\].*DPTForDepthEstimation"),
        ({**SEMANTIC, "backbone_config": DINOV2}, "class head on the backbone 'dinov2'"),
        (
            {**DEPTH, "backbone_config": {"model_type": "swin"}},
            "backbone 'swin' is not supported.*dinov2, beit, swinv2",
        ),
        ({**DEPTH, "backbone_config": {**BEIT, "add_fpn": True}}, "DPT on BEiT with add_fpn = True"),
        ({**DEPTH, "backbone_config": {**SWINV2, "out_features": STAGES[1:]}}, "stage1 to stage4, all four"),
        ({**DEPTH, "backbone_config": SWINV2}, r"neck_hidden_sizes of \[8, 16, 32, 64\]"),
        ({**HYBRID, "readout_type": "add"}, "readout_type = 'add'.*must be 'project'"),
        ({**HYBRID, "neck_ignore_stages": []}, r"neck_ignore_stages = \[\]"),
        ({**HYBRID, "patch_size": 32}, "hybrid DPT with patch_size = 32"),
        (
            {**HYBRID, "backbone_config": {**BIT, "layer_type": "preactivation"}},
            "BiT with layer_type = 'preactivation'",
        ),
        ({**HYBRID, "backbone_config": {"model_type": "bit"}}, "BiT with layer_type = 'preactivation'"),
        ({**HYBRID, "backbone_config": {**BIT, "global_padding": "valid"}}, "BiT with global_padding = 'VALID'"),
        ({**HYBRID, "backbone_config": {**BIT, "depths": [1, 1]}}, "three depths, and out_features"),
        ({**HYBRID, "neck_hidden_sizes": [8, 8, 16, 24]}, r"begin with \[8, 16\]"),
    ],
)
def test_what_nobody_published_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        dpt.build(config, 3)
