"""DPT is read from every published layout of its files, and written so that transformers reads it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import DPTConfig, DPTForDepthEstimation, DPTForSemanticSegmentation

from dpt_models import BEIT, BIT, BOTH, DEPTH, DINOV2, HYBRID, SEMANTIC, SIZES, STAGES, SWINV2, small
from everymask.checkpoints.families import FAMILIES
from everymask.checkpoints.layouts import dpt
from everymask.checkpoints.load import load_checkpoint
from everymask.checkpoints.strict import load_strictly
from everymask.errors import CheckpointError
from layout_tables import assert_equal_to_table
from parity import relative_error, shapes
from shared import SHARED, needs_shared

CONFIGS = SHARED / "checkpoints" / "configs"
GOLDEN = SHARED / "golden" / "transformers-4.57"


@needs_shared
@pytest.mark.parametrize(
    ("name", "tasks", "kind"), [("dpt_semantic", ("semantic",), None), ("dpt_depth", ("depth",), "relative")]
)
def test_golden_checkpoints_load_from_their_folders(name: str, tasks: tuple[str, ...], kind: str | None) -> None:
    checkpoint = load_checkpoint(GOLDEN / name)
    assert checkpoint.tasks == tasks
    assert checkpoint.depth_kind == kind


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
