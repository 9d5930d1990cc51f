"""UPerNet gives the published implementation's numbers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    ConvNextConfig,
    ResNetConfig,
    SwinConfig,
    UperNetConfig,
    UperNetForSemanticSegmentation,
)
from transformers.core_model_loading import revert_weight_conversion

from everymask.checkpoints.layouts import upernet
from everymask.checkpoints.layouts.rules import Layout
from everymask.checkpoints.load import load_checkpoint
from everymask.checkpoints.strict import load_strictly
from everymask.errors import CheckpointError
from parity import randomise, relative_error, shapes
from shared import SHARED, needs_shared

STAGES = ["stage1", "stage2", "stage3", "stage4"]
CONVNEXT = {"model_type": "convnext", "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 2, 1]}
SMALL = {"backbone_config": CONVNEXT, "hidden_size": 16, "auxiliary_channels": 8}
# Of Swin: written by transformers 5 and read by nothing.
UNUSED = {"backbone.swin.layernorm.weight", "backbone.swin.layernorm.bias"}


def load(folder: Path) -> nn.Module:
    config = json.loads((folder / "config.json").read_text())
    network, layout = upernet.build(config, len(config.get("id2label", "ab")))  # transformers leaves out the default
    load_strictly(network, layout, load_file(folder / "model.safetensors"))
    return network.eval()


@needs_shared
@pytest.mark.parametrize("name", ["upernet_convnext", "upernet_swin"])
def test_golden_checkpoints_give_their_numbers(name: str) -> None:
    folder = SHARED / "golden" / "transformers-4.57" / name
    expected = load_file(folder / "expected.safetensors")
    with torch.inference_mode():
        output = load(folder)(expected["pixel_values"])
    assert relative_error(output.logits, expected["logits"]) <= 1e-4
    assert output.auxiliary == ()


@needs_shared
def test_a_folder_of_the_family_loads_and_is_known_to_tell_classes_only() -> None:
    checkpoint = load_checkpoint(SHARED / "golden" / "transformers-4.57" / "upernet_convnext")
    assert checkpoint.tasks == ("semantic",)
    assert checkpoint.depth_kind is None
    assert checkpoint.labels.names == tuple(f"class {index}" for index in range(7))


depths = st.lists(st.integers(1, 2), min_size=4, max_size=4)
widths = st.lists(st.sampled_from([8, 16, 24]), min_size=4, max_size=4)
convnext_configs = st.builds(
    lambda widths, depths, scale: ConvNextConfig(
        hidden_sizes=widths, depths=depths, layer_scale_init_value=scale, out_features=STAGES
    ),
    widths=widths,
    depths=depths,
    scale=st.sampled_from([1e-6, 0.0]),
)
swin_configs = st.builds(
    lambda window, depths, qkv_bias: SwinConfig(
        embed_dim=8,
        depths=depths,
        num_heads=[1, 2, 2, 4],
        window_size=window,
        qkv_bias=qkv_bias,
        drop_path_rate=0.0,
        out_features=STAGES,
    ),
    window=st.integers(2, 8),
    depths=depths,
    qkv_bias=st.booleans(),
)
resnet_configs = st.builds(
    lambda widths, depths, block: ResNetConfig(
        embedding_size=8, hidden_sizes=widths, depths=depths, layer_type=block, out_features=STAGES
    ),
    widths=widths,
    depths=depths,
    block=st.sampled_from(["basic", "bottleneck"]),
)
head_configs = st.fixed_dictionaries(
    {
        "hidden_size": st.sampled_from([8, 20]),
        "pool_scales": st.sampled_from([[1, 2, 3, 6], [1], [2, 5]]),
        "use_auxiliary_head": st.booleans(),
        "auxiliary_channels": st.sampled_from([4, 12]),
        "num_labels": st.integers(2, 6),
    }
)


@settings(max_examples=18, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    backbone=st.one_of(convnext_configs, swin_configs, resnet_configs),
    sizes=head_configs,
    batch=st.integers(1, 3),
    height=st.integers(32, 130),
    width=st.integers(32, 130),
)
def test_random_configurations_equal_transformers(
    backbone: Any, sizes: dict[str, Any], batch: int, height: int, width: int, tmp_path: Path
) -> None:
    """Random weights, sizes that are no multiple of the window or of 32, maps smaller than the bins they pool into."""
    torch.manual_seed(height * width)
    reference = UperNetForSemanticSegmentation(UperNetConfig(backbone_config=backbone, **sizes)).eval()
    randomise(reference)
    reference.save_pretrained(tmp_path)
    network = load(tmp_path)
    pixel_values = torch.randn(batch, 3, height, width)
    with torch.inference_mode():
        expected = reference(pixel_values)
        output = network(pixel_values)
    assert relative_error(output.logits, expected.logits) <= 1e-4


def test_training_mode_gives_the_logits_of_the_auxiliary_head(tmp_path: Path) -> None:
    """transformers does not return them, but its loss is made of both."""
    config = UperNetConfig(
        backbone_config=ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], out_features=STAGES),
        hidden_size=16,
        auxiliary_channels=8,
        num_labels=5,
        auxiliary_loss_weight=0.4,
    )
    torch.manual_seed(0)
    reference = UperNetForSemanticSegmentation(config)
    randomise(reference)
    reference.save_pretrained(tmp_path)
    pixel_values, labels = torch.randn(2, 3, 64, 90), torch.randint(0, 5, (2, 64, 90))
    network = load(tmp_path)
    with torch.no_grad():
        expected = reference.train()(pixel_values, labels=labels)
        output = network.train()(pixel_values)
    (auxiliary,) = output.auxiliary
    loss = F.cross_entropy(output.logits, labels) + 0.4 * F.cross_entropy(auxiliary.logits, labels)
    assert auxiliary.logits.shape == output.logits.shape == (2, 5, 64, 90)
    assert relative_error(output.logits, expected.logits) <= 1e-4
    assert relative_error(loss, expected.loss) <= 1e-5


def test_without_an_auxiliary_head_there_is_nothing_besides_in_training() -> None:
    network, layout = upernet.build({**SMALL, "use_auxiliary_head": False}, 3)
    assert network.train()(torch.randn(2, 3, 64, 64)).auxiliary == ()
    assert not any(key.startswith("auxiliary_head.") for key in layout.published_shapes(network))


CONFIGS = SHARED / "checkpoints" / "configs"
PUBLIC = sorted(path.name for path in CONFIGS.glob("openmmlab--upernet-*.json") if "preprocessor" not in path.name)


def on_meta(name: str) -> tuple[dict[str, Any], nn.Module, Layout]:
    config = json.loads((CONFIGS / name).read_text())
    with torch.device("meta"):
        return config, *upernet.build(config, len(config["id2label"]))


@needs_shared
def test_all_public_configs_are_here() -> None:
    assert len(PUBLIC) == 9


@needs_shared
@pytest.mark.parametrize("name", PUBLIC)
def test_public_configs_have_exactly_the_published_tensors(name: str) -> None:
    """Names and shapes of what transformers writes for the same config; layouts.md says it writes the 4.x layout."""
    config, network, layout = on_meta(name)
    with torch.device("meta"):
        reference = UperNetForSemanticSegmentation(UperNetConfig.from_dict(config))
    written = shapes(revert_weight_conversion(reference, reference.state_dict()))
    assert layout.published_shapes(network) == {key: shape for key, shape in written.items() if key not in UNUSED}
    assert not layout.constants


@needs_shared
def test_the_published_files_are_as_large_as_seen() -> None:
    """268 keys of ConvNeXt, 319 of Swin, where twelve are leftovers; 240.0 and 939.9 MB (layouts.md)."""
    _, network, layout = on_meta("openmmlab--upernet-convnext-tiny.json")
    assert len(layout.published_shapes(network)) == 268
    for name, keys, megabytes in (("tiny", 307, 240.0), ("large", None, 939.9)):
        config, network, layout = on_meta(f"openmmlab--upernet-swin-{name}.json")
        tensors = layout.to_published(network)
        backbone = config["backbone_config"]
        indices = sum(backbone["depths"]) * backbone["window_size"] ** 4 * 8  # relative_position_index, the leftover
        assert keys is None or len(tensors) == keys
        assert (sum(tensor.nbytes for tensor in tensors.values()) + indices) / 1e6 == pytest.approx(megabytes, abs=0.05)


@pytest.mark.parametrize(
    "backbone",
    [
        ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 2, 1], out_features=STAGES),
        SwinConfig(embed_dim=8, depths=[1, 2, 1, 1], num_heads=[1, 2, 2, 4], window_size=4, out_features=STAGES),
    ],
    ids=["convnext", "swin"],
)
def test_what_is_saved_here_loads_in_transformers(backbone: Any, tmp_path: Path) -> None:
    config = UperNetConfig(backbone_config=backbone, hidden_size=16, auxiliary_channels=8, num_labels=5)
    torch.manual_seed(0)
    network, layout = upernet.build(config.to_dict(), 5)
    randomise(network)
    save_file(layout.to_published(network), tmp_path / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(tmp_path)
    reference, report = UperNetForSemanticSegmentation.from_pretrained(tmp_path, output_loading_info=True)
    assert set(report["missing_keys"]) <= UNUSED
    assert not any(report[kind] for kind in ("unexpected_keys", "mismatched_keys"))
    pixel_values = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        expected = reference.eval()(pixel_values)
        output = network.eval()(pixel_values)
    assert relative_error(output.logits, expected.logits) <= 1e-4


def test_the_default_backbone_is_that_of_transformers() -> None:
    with torch.device("meta"):
        network, layout = upernet.build({}, 2)
        reference = UperNetForSemanticSegmentation(UperNetConfig())
    assert layout.published_shapes(network) == shapes(revert_weight_conversion(reference, reference.state_dict()))


@pytest.mark.parametrize("missing", [None, 0, 0.0], ids=["null", "0", "0.0"])
def test_a_convnext_without_layer_scale_has_none(missing: float | None) -> None:
    network, _ = upernet.build({**SMALL, "backbone_config": {**CONVNEXT, "layer_scale_init_value": missing}}, 3)
    assert not any("layer_scale" in name for name in network.state_dict())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "resnet50"}, "UPerNet with backbone = 'resnet50' is not supported"),
        ({"use_timm_backbone": True}, "use_timm_backbone = True"),
        ({"auxiliary_num_convs": 2}, "auxiliary_num_convs = 2.*published checkpoints have 1"),
        ({"auxiliary_concat_input": True}, "auxiliary_concat_input = True"),
        ({"auxiliary_in_channels": 8}, "auxiliary_in_channels = 8 does not fit its backbone, whose third stage has 16"),
        ({"backbone_config": {"model_type": "vgg"}}, "the backbone 'vgg' is not supported; supported"),
        ({"backbone_config": {**CONVNEXT, "out_features": STAGES[1:]}}, "backbone_config of UPerNet with out_features"),
        ({"backbone_config": {**CONVNEXT, "hidden_act": "relu"}}, "ConvNeXt with hidden_act = 'relu'"),
        ({"backbone_config": {**CONVNEXT, "patch_size": 8}}, "ConvNeXt with patch_size = 8"),
        ({"backbone_config": {**CONVNEXT, "depths": [1, 1]}}, "4 hidden_sizes and 2 depths; give each of its 4 stages"),
    ],
)
def test_what_nobody_published_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        upernet.build({**SMALL, **changes}, 3)
