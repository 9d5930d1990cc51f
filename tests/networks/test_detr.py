"""DETR gives the published implementation's numbers, with the masks that are wanted and no others."""

import json
import re
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import DetrConfig, DetrForSegmentation, ResNetConfig

import everymask
from everymask.checkpoints.layouts import detr
from everymask.checkpoints.layouts.rules import Layout
from everymask.checkpoints.strict import load_strictly
from everymask.errors import CheckpointError
from everymask.labels import label_set
from everymask.networks.detr import EMPTY, QUERIES_AT_ONCE, Detr
from everymask.networks.layers.conv_norm import FrozenBatchNorm
from parity import randomise, relative_error, shapes
from shared import SHARED, needs_shared

GOLDEN = ["detr_timm", "detr_resnet"]
PUBLIC = ["resnet-50", "resnet-101", "resnet-50-dc5"]
STAGES = ["stage1", "stage2", "stage3", "stage4"]
SIZES = {"d_model": 32, "encoder_attention_heads": 8, "decoder_attention_heads": 2, "num_queries": 7}
LAYERS = {"encoder_layers": 1, "encoder_ffn_dim": 24, "decoder_layers": 2, "decoder_ffn_dim": 40}
TIMM = {"backbone": "resnet50", "backbone_kwargs": {"channels": [4, 8, 8, 16], "layers": [1, 1, 1, 3]}}


def build(config: dict[str, Any]) -> tuple[Detr, Layout]:
    network, layout = detr.build(config, len(config.get("id2label", "ab")))  # transformers leaves out the default
    assert isinstance(network, Detr)
    return network, layout


def load(folder: Path) -> Detr:
    network, layout = build(json.loads((folder / "config.json").read_text()))
    network.load_state_dict(layout.to_ours(load_file(folder / "model.safetensors"), network))
    return network.eval()


def small(**changes: Any) -> Detr:
    """A network with random weights, all of them."""
    torch.manual_seed(0)
    network, _ = build({**SIZES, **LAYERS, **TIMM, **changes})
    randomise(network)
    return network.eval()


@needs_shared
@pytest.mark.parametrize("name", GOLDEN)
def test_golden_checkpoints_give_their_numbers(name: str) -> None:
    folder = SHARED / "golden" / "transformers-4.57" / name
    expected = load_file(folder / "expected.safetensors")
    with torch.inference_mode():
        output = load(folder)(expected["pixel_values"])
    assert relative_error(output.class_logits, expected["class_logits"]) <= 1e-4
    assert relative_error(output.mask_logits, expected["mask_logits"]) <= 1e-4
    assert relative_error(output.boxes, expected["boxes"]) <= 1e-4


@needs_shared
@pytest.mark.parametrize("name", GOLDEN)
def test_golden_files_hold_what_the_layout_writes(name: str) -> None:
    folder = SHARED / "golden" / "transformers-4.57" / name
    network, layout = build(json.loads((folder / "config.json").read_text()))
    assert shapes(layout.to_published(network)) == shapes(load_file(folder / "model.safetensors"))


backbones = st.builds(
    lambda block, widths, depths, early: ResNetConfig(
        embedding_size=8,
        hidden_sizes=widths,
        depths=depths,
        layer_type=block,
        downsample_in_bottleneck=early and block == "bottleneck",
        out_features=STAGES,
    ),
    block=st.sampled_from(["basic", "bottleneck"]),
    widths=st.lists(st.sampled_from([8, 16, 24]), min_size=4, max_size=4),
    depths=st.lists(st.integers(1, 2), min_size=4, max_size=4),
    early=st.booleans(),
)
transformers = st.fixed_dictionaries(
    {
        "d_model": st.sampled_from([32, 64, 128]),
        "encoder_attention_heads": st.just(8),
        "decoder_attention_heads": st.sampled_from([1, 4]),
        "encoder_layers": st.integers(1, 2),
        "decoder_layers": st.integers(1, 3),
        "encoder_ffn_dim": st.just(24),
        "decoder_ffn_dim": st.just(40),
        "num_queries": st.integers(1, QUERIES_AT_ONCE + 4),
        "num_labels": st.integers(1, 6),
    }
)


@settings(max_examples=14, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    backbone=backbones,
    sizes=transformers,
    batch=st.integers(1, 3),
    height=st.integers(32, 110),
    width=st.integers(32, 110),
)
def test_random_configurations_equal_transformers(
    backbone: Any, sizes: dict[str, int], batch: int, height: int, width: int, tmp_path: Path
) -> None:
    """Random weights, sizes that are no multiple of 32."""
    torch.manual_seed(height * width)
    reference = DetrForSegmentation(DetrConfig(backbone_config=backbone, **sizes)).eval()
    randomise(reference)
    reference.save_pretrained(tmp_path)
    pixel_values = torch.randn(batch, 3, height, width)
    with torch.inference_mode():
        expected = reference(pixel_values)
        output = load(tmp_path)(pixel_values)
    assert relative_error(output.class_logits, expected.logits) <= 1e-4
    assert relative_error(output.mask_logits, expected.pred_masks) <= 1e-4
    assert relative_error(output.boxes, expected.pred_boxes) <= 1e-4


@pytest.mark.parametrize(
    "published",
    [
        {**TIMM, "dilation": True},  # transformers 4
        {"backbone_config": {"model_type": "timm_backbone", "backbone": "resnet50", "output_stride": 16}, **TIMM},
    ],
)
def test_dc5_equals_transformers_with_a_dilated_last_stage(published: dict[str, Any], tmp_path: Path) -> None:
    """transformers dilates timm's ResNets only, so its own is changed by hand as DETR's paper says (section 4)."""
    backbone = ResNetConfig(embedding_size=64, hidden_sizes=[16, 32, 32, 64], depths=[1, 1, 1, 3], out_features=STAGES)
    torch.manual_seed(0)
    reference = DetrForSegmentation(DetrConfig(backbone_config=backbone, num_labels=2, **SIZES, **LAYERS)).eval()
    randomise(reference)
    reference.save_pretrained(tmp_path)
    undilated = load(tmp_path)
    first, *others = reference.detr.model.backbone.model.encoder.stages[3].layers
    first.shortcut.convolution.stride = first.layer[1].convolution.stride = (1, 1)
    for layer in others:
        layer.layer[1].convolution.dilation = layer.layer[1].convolution.padding = (2, 2)

    network, _ = build({**SIZES, **LAYERS, **published})
    network.load_state_dict(undilated.state_dict())
    pixel_values = torch.randn(2, 3, 75, 130)
    with torch.inference_mode():
        expected = reference(pixel_values)
        output = network.eval()(pixel_values)
        different = undilated(pixel_values)
    assert relative_error(output.class_logits, expected.logits) <= 1e-4
    assert relative_error(output.mask_logits, expected.pred_masks) <= 1e-4
    assert relative_error(different.mask_logits, expected.pred_masks) > 1e-2


@needs_shared
@pytest.mark.parametrize("name", PUBLIC)
def test_public_configs_have_exactly_the_published_tensors(name: str) -> None:
    config = json.loads((SHARED / "checkpoints" / "configs" / f"facebook--detr-{name}-panoptic.json").read_text())
    with torch.device("meta"):
        network, layout = build(config)
        tensors = layout.to_published(network)
    table = published_table()
    deeper = {key for key in table if ".layer3.#." in key} if name == "resnet-101" else set()
    found: dict[str, list[Tensor]] = defaultdict(list)
    for key, tensor in tensors.items():
        found[re.sub(r"\.\d+(?=\.)", ".#", key)].append(tensor)
    assert set(found) == set(table)
    for key, (count, first_shapes) in table.items():
        if "downsample" not in key:  # two kinds of layers under one pattern
            assert len(found[key]) == (23 if key in deeper else count), key
        if first_shapes is not None:
            assert {"x".join(map(str, tensor.shape)) for tensor in found[key]} == first_shapes, key
    assert len(tensors) == 562 + (17 * 15 if deeper else 0)
    if not deeper:
        assert round(sum(tensor.nbytes for tensor in tensors.values()) / 1e5) == 1720  # 172.0 MB


def published_table() -> dict[str, tuple[int, set[str] | None]]:
    """By key, indices as #: how many there are and, of the first leaf of a row, the shapes (layouts.md)."""
    text = (SHARED / "checkpoints" / "layouts.md").read_text()
    section = text[text.index("## DETR panoptic") : text.index("## MaskFormer, Swin")]
    rows: dict[str, tuple[int, set[str] | None]] = {}
    for pattern, count, described in re.findall(r"^\| `([a-z_]+\.\S+)` \| (\d\S*) \| (.+) \|$", section, re.MULTILINE):
        stem, _, leaves = pattern.rstrip("}").partition("{")
        for index, leaf in enumerate(leaves.split(",")):
            first = index == 0 and "downsample" not in pattern
            rows[stem + leaf] = (int(count.partition("/")[0]), set(described.split(", ")) if first else None)
    return rows


def test_what_is_saved_here_loads_in_transformers(tmp_path: Path) -> None:
    backbone = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], out_features=STAGES)
    config = DetrConfig(backbone_config=backbone, num_labels=2, **SIZES, **LAYERS)
    network, layout = build(config.to_dict())
    randomise(network)
    save_file(layout.to_published(network), tmp_path / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(tmp_path)
    reference, report = DetrForSegmentation.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    pixel_values = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        expected = reference.eval()(pixel_values)
        output = network.eval()(pixel_values)
    assert relative_error(output.class_logits, expected.logits) <= 1e-4
    assert relative_error(output.mask_logits, expected.pred_masks) <= 1e-4
    assert relative_error(output.boxes, expected.pred_boxes) <= 1e-4


def test_the_batches_that_old_files_counted_are_skipped() -> None:
    network, layout = build({**SIZES, **LAYERS, **TIMM})
    name = detr.BACKBONE + "layer{}.0.downsample.1.num_batches_tracked"
    counted = {name.format(stage): torch.tensor(0) for stage in range(1, 5)}
    other, _ = build({**SIZES, **LAYERS, **TIMM})
    load_strictly(other, layout, {**layout.to_published(network), **counted})
    assert all(torch.equal(ours, other.state_dict()[name]) for name, ours in network.state_dict().items())


@needs_shared
@pytest.mark.parametrize("name", PUBLIC)
def test_a_small_model_with_the_public_files_segments(name: str, tmp_path: Path) -> None:
    """From the files as published, apart from the sizes of the network, to a result with COCO's names."""
    published = SHARED / "checkpoints" / "configs" / f"facebook--detr-{name}-panoptic.json"
    config = {**json.loads(published.read_text()), **SIZES, **LAYERS, **TIMM}
    network, layout = build(config)
    randomise(network)
    network.class_predictor.bias.data[[0, 12, 250]] += 9.0  # "N/A", "street sign", no object
    (tmp_path / "config.json").write_text(json.dumps(config))
    shutil.copy(published.with_suffix(".preprocessor.json"), tmp_path / "preprocessor_config.json")
    save_file(layout.to_published(network), tmp_path / "model.safetensors")
    model = everymask.load(tmp_path, device="cpu", size=64, dtype="float32")
    assert model.labels == label_set("coco-detr")
    image = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    assert model.prepare(image).pixel_values.shape == (1, 3, 64, 85)
    result = model(image, task="semantic")
    assert len(result.segments) > 0
    assert {segment.label for segment in result.segments} <= set(label_set("coco-panoptic").names)


def test_frozen_norms_stay_as_they_are_in_training() -> None:
    network = small()
    norms = [each for each in network.backbone.modules() if isinstance(each, FrozenBatchNorm)]
    assert len(norms) == 1 + 4 + 3 * 6  # the stem, the shortcuts, three a block
    assert not any(isinstance(each, nn.BatchNorm2d) for each in network.modules())
    before = {name: tensor.clone() for name, tensor in network.backbone.state_dict().items()}
    pixel_values = torch.randn(2, 3, 64, 64)
    expected = network(pixel_values)
    output = network.train()(pixel_values)
    assert torch.equal(output.mask_logits, expected.mask_logits)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.backbone.state_dict().items())
    assert output.auxiliary == ()


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.data())
@torch.inference_mode()
def test_masks_are_made_for_the_queries_that_are_kept_and_no_others(data: st.DataObject) -> None:
    queries = QUERIES_AT_ONCE + 5
    network = small(num_queries=queries)
    batch = data.draw(st.integers(1, 3))
    share = data.draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    kept = torch.rand(batch, queries, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99)))) < share
    pixel_values = torch.randn(batch, 3, 50, 70)
    everything = network(pixel_values)
    seen = []

    def keep(class_logits: Tensor) -> Tensor:
        assert torch.equal(class_logits, everything.class_logits)
        return kept

    network.mask_head.register_forward_pre_hook(lambda head, inputs: seen.append(len(inputs[2])))
    output = network(pixel_values, keep)
    assert sum(seen) == int(kept.sum())
    assert (output.mask_logits[~kept] == EMPTY).all()
    if kept.any():
        assert relative_error(output.mask_logits[kept], everything.mask_logits[kept]) <= 1e-5
    assert torch.equal(output.boxes, everything.boxes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_masks_of_queries_not_kept_are_empty_in_every_type(dtype: torch.dtype) -> None:
    assert torch.tensor(EMPTY, dtype=dtype).sigmoid() == 0
    assert torch.isfinite(torch.tensor(EMPTY, dtype=dtype))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architectures": ["DetrForObjectDetection"]}, "DetrForObjectDetection, which has no mask head"),
        ({"position_embedding_type": "learned"}, "position_embedding_type = 'learned'"),
        ({"activation_function": "gelu"}, "activation_function = 'gelu'"),
        ({"backbone": "resnet18"}, "timm's backbone 'resnet18' is not supported; supported are resnet50, resnet101"),
        ({"backbone_config": {"model_type": "swin"}}, "the backbone 'swin' is not supported"),
        ({"backbone_config": {"model_type": "resnet", "out_features": ["stage4"]}}, "all four stages"),
    ],
)
def test_what_no_checkpoint_has_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=re.escape(message)):
        detr.build(changes, 3)
