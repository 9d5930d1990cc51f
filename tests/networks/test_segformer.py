"""SegFormer gives the published implementation's numbers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import SegformerConfig, SegformerForSemanticSegmentation
from transformers.core_model_loading import revert_weight_conversion

from everymask.checkpoints.families import FAMILIES
from everymask.checkpoints.layouts import segformer
from everymask.checkpoints.strict import load_strictly
from everymask.errors import CheckpointError
from everymask.labels import match_labels
from layout_tables import assert_equal_to_table
from parity import randomise, relative_error, shapes
from shared import SHARED, needs_shared

CONFIGS = SHARED / "checkpoints" / "configs"
PUBLIC = sorted(path.name for path in CONFIGS.glob("nvidia--segformer-*.json") if "preprocessor" not in path.name)
SMALL: dict[str, Any] = {
    "hidden_sizes": [8, 8, 20, 16],
    "depths": [1, 2, 1, 1],
    "num_attention_heads": [1, 2, 5, 8],
    "decoder_hidden_size": 24,
}


def load(folder: Path) -> nn.Module:
    config = json.loads((folder / "config.json").read_text())
    network, layout = segformer.build(config, len(config.get("id2label", "ab")))  # transformers leaves out the default
    load_strictly(network, layout, load_file(folder / "model.safetensors"))
    return network.eval()


@needs_shared
def test_the_golden_checkpoint_gives_its_numbers() -> None:
    folder = SHARED / "golden" / "transformers-4.57" / "segformer"
    expected = load_file(folder / "expected.safetensors")
    with torch.inference_mode():
        output = load(folder)(expected["pixel_values"])
    assert relative_error(output.logits, expected["logits"]) <= 1e-4


stages = st.tuples(
    st.sampled_from([(1, 8), (2, 8), (1, 20), (5, 20), (4, 16)]),  # heads, width
    st.integers(1, 3),  # blocks
    st.sampled_from([1, 2, 4]),  # MLP ratio
)


@settings(max_examples=24, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    stages=st.lists(stages, min_size=4, max_size=4),
    reductions=st.sampled_from([[8, 4, 2, 1], [4, 2, 1, 1], [1, 3, 2, 1], [7, 4, 2, 1]]),
    dim=st.sampled_from([8, 24]),
    num_labels=st.integers(1, 6),
    batch=st.integers(1, 3),
    height=st.integers(32, 130),
    width=st.integers(32, 130),
)
def test_random_configurations_equal_transformers(
    stages: list[Any],
    reductions: list[int],
    dim: int,
    num_labels: int,
    batch: int,
    height: int,
    width: int,
    tmp_path: Path,
) -> None:
    """Random weights, sizes that are no multiple of the strides or the reductions."""
    config = SegformerConfig(
        hidden_sizes=[width for (_, width), _, _ in stages],
        num_attention_heads=[heads for (heads, _), _, _ in stages],
        depths=[depth for _, depth, _ in stages],
        mlp_ratios=[ratio for _, _, ratio in stages],
        sr_ratios=reductions,
        decoder_hidden_size=dim,
        num_labels=num_labels,
    )
    torch.manual_seed(height * width)
    reference = SegformerForSemanticSegmentation(config).eval()
    randomise(reference)
    reference.save_pretrained(tmp_path)
    network = load(tmp_path)
    pixel_values = torch.randn(batch, 3, height, width)
    with torch.inference_mode():
        expected = reference(pixel_values)
        output = network(pixel_values)
    assert relative_error(output.logits, expected.logits) <= 1e-4


def test_gradients_equal_those_of_transformers(tmp_path: Path) -> None:
    """Of the pixels and of the decoder, whose layers are multiplied with each other before they are applied."""
    torch.manual_seed(0)
    settings = {"drop_path_rate": 0.0, "classifier_dropout_prob": 0.0}
    reference = SegformerForSemanticSegmentation(SegformerConfig(**SMALL, **settings, num_labels=3))
    randomise(reference)
    reference.save_pretrained(tmp_path)
    network = load(tmp_path)
    ours, theirs = (torch.randn(2, 3, 64, 90, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    network.train()(ours.requires_grad_()).logits.square().mean().backward()
    reference.train()(theirs.requires_grad_()).logits.square().mean().backward()
    assert relative_error(ours.grad, theirs.grad) <= 1e-4
    decoder, head = network.decoder, reference.decode_head
    assert relative_error(decoder.fuse.weight.grad, head.linear_fuse.weight.grad) <= 1e-4
    for projection, published in zip(decoder.projections, head.linear_projections, strict=True):
        assert relative_error(projection.weight.grad, published.proj.weight.grad) <= 1e-4


@needs_shared
@pytest.mark.parametrize("name", PUBLIC)
def test_public_configs_have_exactly_the_published_tensors(name: str) -> None:
    """Names and shapes of what transformers writes for the same config."""
    config = json.loads((CONFIGS / name).read_text())
    with torch.device("meta"):
        network, layout = segformer.build(config, len(config["id2label"]))
        reference = SegformerForSemanticSegmentation(SegformerConfig.from_dict(config))
    assert layout.published_shapes(network) == shapes(revert_weight_conversion(reference, reference.state_dict()))
    assert match_labels(list(config["id2label"].values())) is not None
    assert FAMILIES[config["model_type"]].tasks(config) == ("semantic",)


@needs_shared
def test_the_published_b0_has_the_keys_of_layouts_md() -> None:
    config = json.loads((CONFIGS / "nvidia--segformer-b0-finetuned-ade-512-512.json").read_text())
    with torch.device("meta"):
        network, layout = segformer.build(config, 150)
    published = layout.published_shapes(network)
    assert len(published) == 208
    assert_equal_to_table(published, "## SegFormer")


@needs_shared
def test_the_published_b5_is_as_large_as_seen() -> None:
    """338.8 MB (layouts.md)."""
    config = json.loads((CONFIGS / "nvidia--segformer-b5-finetuned-ade-640-640.json").read_text())
    with torch.device("meta"):
        network, layout = segformer.build(config, 150)
        tensors = layout.to_published(network)
    assert round(sum(tensor.nbytes for tensor in tensors.values()) / 1e5) == 3388


def test_what_is_trained_here_loads_in_transformers(tmp_path: Path) -> None:
    config = SegformerConfig(**SMALL, num_labels=3)
    torch.manual_seed(0)
    network, layout = segformer.build(config.to_dict(), 3)
    randomise(network)
    save_file(layout.to_published(network), tmp_path / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(tmp_path)
    reference, report = SegformerForSemanticSegmentation.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    pixel_values = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        expected = reference.eval()(pixel_values)
        output = network.eval()(pixel_values)
    assert relative_error(output.logits, expected.logits) <= 1e-4


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("reshape_last_stage", False),
        ("hidden_act", "relu"),
        ("patch_sizes", [3, 3, 3, 3]),
        ("strides", [2, 2, 2, 2]),
        ("num_encoder_blocks", 3),
    ],
)
def test_unpublished_settings_are_refused(setting: str, value: Any) -> None:
    with pytest.raises(CheckpointError, match=f"SegFormer with {setting} = .* is not supported"):
        segformer.build({**SMALL, setting: value}, 3)


@pytest.mark.parametrize("setting", ["hidden_sizes", "depths", "num_attention_heads", "sr_ratios", "mlp_ratios"])
def test_sizes_of_another_number_of_stages_are_refused(setting: str) -> None:
    with pytest.raises(
        CheckpointError, match=f"{setting} of SegFormer has 3 entries; give one for each of its 4 stages"
    ):
        segformer.build({**SMALL, setting: [1, 1, 1]}, 3)
