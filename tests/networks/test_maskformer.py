"""MaskFormer gives the published implementation's numbers."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    DetrConfig,
    MaskFormerConfig,
    MaskFormerForInstanceSegmentation,
    MaskFormerSwinConfig,
    ResNetConfig,
    SwinConfig,
)

from everymask.checkpoints.layouts import maskformer
from everymask.checkpoints.layouts.rules import Layout
from everymask.checkpoints.load import load_checkpoint
from everymask.errors import CheckpointError
from parity import randomise, relative_error, shapes
from shared import SHARED, needs_shared

CONFIGS = sorted(
    path.name for path in (SHARED / "checkpoints" / "configs").glob("*--maskformer-*.json") if "pre" not in path.name
)
TINY_COCO = "facebook--maskformer-swin-tiny-coco.json"
STAGES = ["stage1", "stage2", "stage3", "stage4"]


def build(config: dict[str, Any]) -> tuple[nn.Module, Layout]:
    return maskformer.build(config, len(config.get("id2label", "ab")))  # transformers leaves out the default


def load(folder: Path) -> nn.Module:
    network, layout = build(json.loads((folder / "config.json").read_text()))
    network.load_state_dict(layout.to_ours(load_file(folder / "model.safetensors"), network))
    return network.eval()


@needs_shared
@pytest.mark.parametrize("name", ["maskformer_swin", "maskformer_resnet"])
def test_golden_checkpoints_give_their_numbers(name: str) -> None:
    folder = SHARED / "golden" / "transformers-4.57" / name
    expected = load_file(folder / "expected.safetensors")
    with torch.inference_mode():
        output = load_checkpoint(folder).network(expected["pixel_values"])
    assert relative_error(output.class_logits, expected["class_logits"]) <= 1e-4
    assert relative_error(output.mask_logits, expected["mask_logits"]) <= 1e-4


@needs_shared
@pytest.mark.parametrize("name", ["maskformer_swin", "maskformer_resnet"])
def test_golden_files_hold_what_the_layout_writes(name: str) -> None:
    folder = SHARED / "golden" / "transformers-4.57" / name
    network, layout = build(json.loads((folder / "config.json").read_text()))
    file = load_file(folder / "model.safetensors")
    assert shapes(layout.to_published(network)) == shapes(file)
    for key, constant in layout.constants.items():
        if not key.startswith("model.pixel_level_module.encoder.model.layernorm"):
            assert torch.equal(file[key], constant)


swin_configs = st.builds(
    lambda kind, width, window, depths, qkv_bias, ratio: kind(
        embed_dim=8 * width,
        depths=depths,
        num_heads=[1, 2, 2, 4],
        window_size=window,
        qkv_bias=qkv_bias,
        mlp_ratio=ratio,
        drop_path_rate=0.0,
        out_features=STAGES,
    ),
    kind=st.sampled_from([SwinConfig, MaskFormerSwinConfig]),
    width=st.integers(1, 2),
    window=st.integers(2, 8),
    depths=st.lists(st.integers(1, 2), min_size=4, max_size=4),
    qkv_bias=st.booleans(),
    ratio=st.sampled_from([2.0, 4.0]),
)
resnet_configs = st.builds(
    lambda block, widths, depths: ResNetConfig(
        embedding_size=8, hidden_sizes=widths, depths=depths, layer_type=block, out_features=STAGES
    ),
    block=st.sampled_from(["basic", "bottleneck"]),
    widths=st.lists(st.sampled_from([8, 16, 32]), min_size=4, max_size=4),
    depths=st.lists(st.integers(1, 2), min_size=4, max_size=4),
)
decoder_configs = st.builds(
    lambda queries, dim, heads, layers, hidden: DetrConfig(
        num_queries=queries,
        d_model=dim,
        decoder_attention_heads=heads,
        decoder_layers=layers,
        decoder_ffn_dim=hidden,
        encoder_layers=0,
        dropout=0.0,
    ),
    queries=st.integers(1, 9),
    dim=st.sampled_from([32, 48]),  # 32 is the width of some backbones: then nothing is projected
    heads=st.sampled_from([1, 4]),
    layers=st.integers(1, 4),
    hidden=st.sampled_from([24, 40]),
)


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    backbone=st.one_of(swin_configs, resnet_configs),
    decoder=decoder_configs,
    mask_dim=st.sampled_from([16, 32]),
    labels=st.integers(1, 6),
    batch=st.integers(1, 3),
    height=st.integers(32, 130),
    width=st.integers(32, 130),
)
def test_random_configurations_equal_transformers(
    backbone: Any, decoder: Any, mask_dim: int, labels: int, batch: int, height: int, width: int, tmp_path: Path
) -> None:
    """Random weights, sizes that are no multiple of the window or of 32."""
    config = MaskFormerConfig(
        backbone_config=backbone,
        decoder_config=decoder,
        fpn_feature_size=64,
        mask_feature_size=mask_dim,
        num_labels=labels,
    )
    torch.manual_seed(height * width)
    reference = MaskFormerForInstanceSegmentation(config).eval()
    randomise(reference)
    reference.save_pretrained(tmp_path)
    network = load(tmp_path)
    pixel_values = torch.randn(batch, 3, height, width)
    with torch.inference_mode():
        expected = reference(pixel_values)
        output = network(pixel_values)
    assert relative_error(output.class_logits, expected.class_queries_logits) <= 1e-4
    assert relative_error(output.mask_logits, expected.masks_queries_logits) <= 1e-4


@pytest.mark.parametrize(
    "backbone",
    [
        SwinConfig(embed_dim=8, depths=[1, 2, 1, 1], num_heads=[1, 1, 2, 2], window_size=4, out_features=STAGES),
        ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], out_features=STAGES),
    ],
    ids=["swin", "resnet"],
)
def test_what_is_saved_here_loads_in_transformers(backbone: Any, tmp_path: Path) -> None:
    decoder = DetrConfig(num_queries=5, d_model=32, decoder_layers=2, decoder_ffn_dim=24, encoder_layers=0)
    config = MaskFormerConfig(
        backbone_config=backbone, decoder_config=decoder, fpn_feature_size=32, mask_feature_size=32, num_labels=3
    )
    torch.manual_seed(0)
    network, layout = build(config.to_dict())
    save_file(layout.to_published(network), tmp_path / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(tmp_path)
    reference, report = MaskFormerForInstanceSegmentation.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    pixel_values = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        expected = reference.eval()(pixel_values)
        output = network.eval()(pixel_values)
    assert relative_error(output.class_logits, expected.class_queries_logits) <= 1e-4
    assert relative_error(output.mask_logits, expected.masks_queries_logits) <= 1e-4


@needs_shared
@pytest.mark.parametrize("name", CONFIGS)
def test_public_configs_have_exactly_the_published_tensors(name: str) -> None:
    """Names and shapes of what transformers writes for the same config; layouts.md says it writes the 4.x layout."""
    config = json.loads((SHARED / "checkpoints" / "configs" / name).read_text())
    with torch.device("meta"):
        network, layout = build(config)
        reference = MaskFormerForInstanceSegmentation(MaskFormerConfig.from_dict(config))
    written = {as_saved(key): tuple(tensor.shape) for key, tensor in reference.state_dict().items()}
    assert {**layout.published_shapes(network), **shapes(layout.constants)} == written


def as_saved(key: str) -> str:
    """transformers 5 has the feed-forward block of its DETR decoder one level deeper in memory than in the file."""
    inside = re.match(r"model\.transformer_module\.decoder\.layers\.\d+\.", key)
    return key if not inside else key.replace(".mlp.fc", ".fc").replace(".o_proj.", ".out_proj.")


@needs_shared
def test_the_published_file_of_swin_tiny_is_as_large_as_seen() -> None:
    """432 keys, 167.2 MB (layouts.md)."""
    config = json.loads((SHARED / "checkpoints" / "configs" / TINY_COCO).read_text())
    with torch.device("meta"):
        network, layout = build(config)
        tensors = layout.to_published(network)
    assert len(tensors) == 432
    assert round(sum(tensor.nbytes for tensor in tensors.values()) / 1e5) == 1672


def test_training_mode_gives_the_prediction_of_every_layer() -> None:
    backbone = ResNetConfig(hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], layer_type="basic")
    decoder = {"num_queries": 5, "d_model": 32, "decoder_layers": 4, "decoder_ffn_dim": 24}
    sizes = {"fpn_feature_size": 32, "mask_feature_size": 32}
    network, _ = maskformer.build({**sizes, "decoder_config": decoder, "backbone_config": backbone.to_dict()}, 3)
    output = network.train()(torch.randn(2, 3, 64, 96))
    assert len(output.auxiliary) == 3
    for prediction in (*output.auxiliary, output):
        assert prediction.class_logits.shape == (2, 5, 4)
        assert prediction.mask_logits.shape == (2, 5, 16, 24)
    assert network.eval()(torch.randn(2, 3, 64, 96)).auxiliary == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decoder_config": {"model_type": "conditional_detr"}}, "MaskFormer with model_type = 'conditional_detr'"),
        ({"decoder_config": {"activation_function": "gelu"}}, "activation_function = 'gelu'"),
        ({"backbone_config": {"model_type": "vit"}}, "the backbone 'vit' is not supported"),
    ],
)
def test_what_no_checkpoint_has_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=re.escape(message)):
        maskformer.build(changes, 3)
