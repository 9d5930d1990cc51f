"""Mask2Former as mmdet and EasyCV save it: the published numbers, the config from the shapes, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Mask2FormerForUniversalSegmentation

from everymask.checkpoints import load_checkpoint
from everymask.checkpoints.layouts import mask2former, mask2former_mmcv
from everymask.checkpoints.save import save_checkpoint
from everymask.errors import CheckpointError
from everymask.labels import label_set
from everymask.preprocessing import prepare
from modelscope_folders import KINDS, Kind, fixture_of, save_mask2former
from parity import relative_error

SWIN_LARGE = {
    "model_type": "swin",
    "embed_dim": 192,
    "depths": [2, 2, 18, 2],
    "num_heads": [6, 12, 24, 48],
    "window_size": 12,
    "patch_size": 4,
    "mlp_ratio": 4.0,
}
RESNET = {"model_type": "resnet", "embedding_size": 64, "hidden_sizes": [256, 512, 1024, 2048], "depths": [3, 4, 6, 3]}
RESNET_18 = {**RESNET, "hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2], "layer_type": "basic"}


def expected(kind: Kind) -> dict[str, Tensor]:
    return load_file(fixture_of(kind) / "expected.safetensors")


@pytest.mark.parametrize("kind", KINDS)
def test_the_network_gives_the_published_numbers(kind: Kind, tmp_path: Path) -> None:
    published = expected(kind)
    checkpoint = load_checkpoint(save_mask2former(tmp_path, kind))
    assert checkpoint.tasks == ("panoptic", "instance", "semantic")
    assert checkpoint.labels.things == (True, True, True, False, False)
    with torch.inference_mode():
        output = checkpoint.network(published["pixel_values"])
    assert relative_error(output.class_logits, published["class_logits"]) <= 1e-4
    assert relative_error(output.mask_logits, published["mask_logits"]) <= 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_prepared_as_published(kind: Kind, tmp_path: Path) -> None:
    published = expected(kind)
    prepared = prepare(
        published["image_bgr"].flip(-1).numpy(), load_checkpoint(save_mask2former(tmp_path, kind)).preprocessing
    )
    torch.testing.assert_close(prepared.pixel_values, published["image_pixel_values"], rtol=0, atol=1e-6)
    assert (prepared.geometry.resized, prepared.geometry.padded) == ((94, 128), (96, 128))
    assert (prepared.pixel_values[..., 94:, :] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_loaded_is_saved_for_transformers(kind: Kind, tmp_path: Path) -> None:
    loaded = load_checkpoint(save_mask2former(tmp_path / "mmcv", kind))
    _, layout = mask2former.build(loaded.config, len(loaded.labels))
    facts: dict[str, Any] = {"labels": loaded.labels, "tasks": loaded.tasks, "license": None}
    save_checkpoint(tmp_path / "saved", loaded.network, layout, loaded.config, loaded.preprocessor, **facts)
    published = expected(kind)
    with torch.inference_mode():
        official = Mask2FormerForUniversalSegmentation.from_pretrained(tmp_path / "saved").eval()
        output = official(published["pixel_values"])
    assert relative_error(output.class_queries_logits, published["class_logits"]) <= 1e-4
    again = load_checkpoint(tmp_path / "saved")
    assert again.preprocessing == loaded.preprocessing


@pytest.mark.parametrize(
    ("backbone", "queries", "place"), [(SWIN_LARGE, 200, 0), (RESNET, 100, 0), (RESNET, 100, 1), (RESNET_18, 100, 0)]
)
def test_the_shapes_tell_the_config_of_published_sizes(backbone: dict[str, Any], queries: int, place: int) -> None:
    config = {"model_type": "mask2former", "backbone_config": backbone, "num_queries": queries}
    with torch.device("meta"):
        network, _ = mask2former.build(config, 133)
    shapes = mask2former_mmcv.layouts(backbone["model_type"])[place].published_shapes(network)
    assert mask2former_mmcv.belongs(shapes)
    found = mask2former_mmcv.config_of(shapes)
    assert {key: found["backbone_config"][key] for key in backbone} == backbone
    assert list(found["id2label"].values()) == list(label_set("coco-panoptic").names)
    with torch.device("meta"):
        again, _ = mask2former.build(found, 133)
    assert {key: each.shape for key, each in again.state_dict().items()} == {
        key: each.shape for key, each in network.state_dict().items()
    }
    assert mask2former_mmcv.preprocessor(found) == {
        "image_processor_type": "MMDetImageProcessor",
        "size": {"shortest_edge": 800, "longest_edge": 1333},
        "pad_divisor": 32,
        "image_mean": [123.675, 116.28, 103.53],
        "image_std": [58.395, 57.12, 57.375],
        "do_rescale": False,
    }


def test_a_checkpoint_of_transformers_still_needs_its_own_preprocessor(tmp_path: Path) -> None:
    save_file({}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mask2former", "num_labels": 3}))
    with pytest.raises(CheckpointError, match=r"has no preprocessor_config\.json"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"panoptic_head.query_feat.weight": None}, r"have no panoptic_head\.query_feat\.weight"),
        ({"backbone.stages.1.blocks.0.attn.w_msa.relative_position_bias_table": (4,)}, "but other shapes"),
        ({"panoptic_head.query_feat.weight": (7, 9)}, r"query_feat\.weight \(7, 9\) instead of \(7, 64\)"),
    ],
)
def test_other_weights_under_these_names_are_refused(
    change: dict[str, tuple[int, ...] | None], message: str, tmp_path: Path
) -> None:
    tensors = torch.load(save_mask2former(tmp_path, "swin") / "pytorch_model.pt")["state_dict"]
    for key, shape in change.items():
        del tensors[key]
        if shape is not None:
            tensors[key] = torch.zeros(shape)
    torch.save(tensors, tmp_path / "pytorch_model.pt")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path)
