"""Mask2Former gives the published implementation's numbers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, ResNetConfig, SwinConfig

from everymask.checkpoints.layouts import mask2former
from parity import randomise, relative_error
from shared import SHARED, needs_shared

GOLDEN = [
    "transformers-4.57/mask2former_swin",
    "transformers-4.57/mask2former_resnet",
    "transformers-5.23/mask2former_swin",
]


def load(folder: Path) -> nn.Module:
    config = json.loads((folder / "config.json").read_text())
    network, layout = mask2former.build(
        config, len(config.get("id2label", "ab"))
    )  # transformers leaves out the default
    network.load_state_dict(layout.to_ours(load_file(folder / "model.safetensors"), network))
    return network.eval()


@needs_shared
@pytest.mark.parametrize("name", GOLDEN)
def test_golden_checkpoints_give_their_numbers(name: str) -> None:
    folder = SHARED / "golden" / name
    expected = load_file(folder / "expected.safetensors")
    with torch.inference_mode():
        output = load(folder)(expected["pixel_values"])
    assert relative_error(output.class_logits, expected["class_logits"]) <= 1e-4
    assert relative_error(output.mask_logits, expected["mask_logits"]) <= 1e-4


swin_configs = st.builds(
    lambda width, window, depths, qkv_bias, ratio: SwinConfig(
        embed_dim=8 * width,
        depths=depths,
        num_heads=[1, 2, 2, 4],
        window_size=window,
        qkv_bias=qkv_bias,
        mlp_ratio=ratio,
        drop_path_rate=0.0,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    ),
    width=st.integers(1, 2),
    window=st.integers(2, 8),
    depths=st.lists(st.integers(1, 2), min_size=4, max_size=4),
    qkv_bias=st.booleans(),
    ratio=st.sampled_from([2.0, 4.0]),
)
resnet_configs = st.builds(
    lambda block, widths, depths, early: ResNetConfig(
        embedding_size=8,
        hidden_sizes=widths,
        depths=depths,
        layer_type=block,
        downsample_in_bottleneck=early and block == "bottleneck",
        out_features=["stage1", "stage2", "stage3", "stage4"],
    ),
    block=st.sampled_from(["basic", "bottleneck"]),
    widths=st.lists(st.sampled_from([8, 16, 24]), min_size=4, max_size=4),
    depths=st.lists(st.integers(1, 2), min_size=4, max_size=4),
    early=st.booleans(),
)
decoder_configs = st.fixed_dictionaries(
    {
        "num_queries": st.integers(1, 9),
        "hidden_dim": st.sampled_from([64, 96]),
        "mask_feature_size": st.sampled_from([16, 32]),
        "num_attention_heads": st.sampled_from([1, 4]),
        "encoder_layers": st.integers(1, 2),
        "encoder_feedforward_dim": st.just(24),
        "decoder_layers": st.integers(2, 5),
        "dim_feedforward": st.just(40),
        "num_labels": st.integers(1, 6),
    }
)


@settings(max_examples=24, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    backbone=st.one_of(swin_configs, resnet_configs),
    sizes=decoder_configs,
    feature_size=st.sampled_from([None, 64]),
    batch=st.integers(1, 3),
    height=st.integers(32, 130),
    width=st.integers(32, 130),
)
def test_random_configurations_equal_transformers(
    backbone: Any, sizes: dict[str, int], feature_size: int | None, batch: int, height: int, width: int, tmp_path: Path
) -> None:
    """Random weights, sizes that are no multiple of the window or of 32."""
    config = Mask2FormerConfig(
        backbone_config=backbone, dropout=0.0, feature_size=feature_size or sizes["hidden_dim"], **sizes
    )
    torch.manual_seed(height * width)
    reference = Mask2FormerForUniversalSegmentation(config).eval()
    randomise(reference)
    reference.save_pretrained(tmp_path)
    network = load(tmp_path)
    pixel_values = torch.randn(batch, 3, height, width)
    with torch.inference_mode():
        # In float64, lest its own rounding count as ours: some random weights magnify rounding a thousand times.
        expected = reference.double()(pixel_values.double())
        output = network(pixel_values)
    assert relative_error(output.class_logits, expected.class_queries_logits) <= 1e-4
    assert relative_error(output.mask_logits, expected.masks_queries_logits) <= 1e-4


def test_training_mode_gives_the_prediction_of_every_layer() -> None:
    config = Mask2FormerConfig(num_queries=5, decoder_layers=4, hidden_dim=32, feature_size=32, mask_feature_size=32)
    backbone = ResNetConfig(hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], layer_type="basic")
    network, _ = mask2former.build({**config.to_dict(), "backbone_config": backbone.to_dict()}, 3)
    output = network.train()(torch.randn(2, 3, 64, 96))
    assert len(output.auxiliary) == 3
    for prediction in (*output.auxiliary, output):
        assert prediction.class_logits.shape == (2, 5, 4)
        assert prediction.mask_logits.shape == (2, 5, 16, 24)
    assert network.eval()(torch.randn(2, 3, 64, 96)).auxiliary == ()


CONFIG_FOLDER = SHARED / "checkpoints" / "configs"
CONFIGS = sorted(
    path.name for path in CONFIG_FOLDER.glob("facebook--mask2former-*.json") if "preprocessor" not in path.name
)


@needs_shared
@pytest.mark.parametrize("name", CONFIGS)
def test_public_configs_build_networks_of_the_published_size(name: str) -> None:
    """The weight files are of 190, 276, 432 and 866 MB, which differ by the number of classes and queries."""
    config = json.loads((CONFIG_FOLDER / name).read_text())
    with torch.device("meta"):
        network, layout = mask2former.build(config, len(config["id2label"]))
        tensors = layout.to_published(network)
    backbone = config["backbone_config"]
    indices = sum(backbone["depths"]) * backbone["window_size"] ** 4 * 8  # relative_position_index, a leftover
    megabytes = (sum(tensor.nbytes for tensor in tensors.values()) + indices) / 1e6
    size = name.split("-swin-")[1].split("-")[0]
    assert megabytes == pytest.approx({"tiny": 190, "small": 276, "base": 432, "large": 866}[size], abs=1.5)


@needs_shared
def test_the_published_keys_of_swin_tiny_are_as_many_as_seen() -> None:
    """566 keys (layouts.md), twelve of them leftovers."""
    config = json.loads((CONFIG_FOLDER / "facebook--mask2former-swin-tiny-coco-panoptic.json").read_text())
    with torch.device("meta"):
        network, layout = mask2former.build(config, len(config["id2label"]))
    assert len(layout.published_shapes(network)) + len(layout.constants) + 12 == 566
