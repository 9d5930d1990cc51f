"""BEiT gives the published implementation's numbers, as a network for classes and as a backbone."""

import json
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import BeitConfig, BeitForSemanticSegmentation
from transformers.core_model_loading import revert_weight_conversion

from everymask.checkpoints.families import FAMILIES
from everymask.checkpoints.layouts import beit
from everymask.checkpoints.strict import load_strictly
from everymask.errors import CheckpointError
from everymask.labels import match_labels
from everymask.networks.backbones.beit import RelativePositions
from layout_tables import assert_equal_to_table
from parity import randomise, relative_error, shapes
from shared import SHARED, needs_shared

CONFIGS = SHARED / "checkpoints" / "configs"
PUBLIC = ["microsoft--beit-base-finetuned-ade-640-640.json", "microsoft--beit-large-finetuned-ade-640-640.json"]
SMALL: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 40,
    "image_size": 64,
    "use_relative_position_bias": True,
    "out_indices": [1, 2, 3, 4],
    "auxiliary_channels": 8,
}


def load(folder: Path) -> nn.Module:
    config = json.loads((folder / "config.json").read_text())
    network, layout = beit.build(config, len(config.get("id2label", "ab")))  # transformers leaves out the default
    load_strictly(network, layout, load_file(folder / "model.safetensors"))
    return network.eval()


def small(**changes: Any) -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    network, layout = beit.build({**SMALL, **changes}, 3)
    randomise(network)
    return network.eval(), layout


@needs_shared
def test_the_golden_checkpoint_gives_its_numbers() -> None:
    folder = SHARED / "golden" / "transformers-4.57" / "beit"
    expected = load_file(folder / "expected.safetensors")
    with torch.inference_mode():
        output = load(folder)(expected["pixel_values"])
    assert relative_error(output.logits, expected["logits"]) <= 1e-4


backbones = st.builds(
    lambda heads, depth, positions, absolute, **sizes: {
        "hidden_size": 8 * heads,
        "num_attention_heads": heads,
        "num_hidden_layers": depth,
        "use_relative_position_bias": positions == "block",
        "use_shared_relative_position_bias": positions == "shared",
        "use_absolute_position_embeddings": absolute,
        **sizes,
    },
    heads=st.integers(1, 4),
    depth=st.integers(4, 6),
    positions=st.sampled_from(["block", "block", "shared", None]),
    absolute=st.booleans(),
    intermediate_size=st.sampled_from([16, 40]),
    image_size=st.sampled_from([32, 64, 90]),
    patch_size=st.sampled_from([8, 16]),
    layer_norm_eps=st.sampled_from([1e-12, 1e-6]),
)
# Whole patches, as transformers cuts the rest off; as many as in training and other numbers.
images = st.sampled_from([(64, 64), (32, 96), (112, 48), (96, 144), (32, 32)])


@settings(max_examples=24, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    backbone=backbones,
    start=st.integers(1, 3),
    auxiliary=st.booleans(),
    pool_scales=st.sampled_from([(1, 2, 3, 6), (1, 4), (2,)]),
    num_labels=st.integers(1, 6),
    batch=st.integers(1, 2),
    image=images,
)
def test_random_configurations_equal_transformers(
    backbone: dict[str, Any],
    start: int,
    auxiliary: bool,
    pool_scales: tuple[int, ...],
    num_labels: int,
    batch: int,
    image: tuple[int, int],
    tmp_path: Path,
) -> None:
    """Random weights, images of other sizes than trained for."""
    first = min(start, backbone["num_hidden_layers"] - 3)
    config = BeitConfig(
        **backbone,
        out_indices=[*range(first, first + 3), backbone["num_hidden_layers"]],
        use_auxiliary_head=auxiliary,
        auxiliary_channels=8,
        pool_scales=pool_scales,
        num_labels=num_labels,
    )
    torch.manual_seed(sum(image))
    reference = BeitForSemanticSegmentation(config).eval()
    randomise(reference)
    reference.save_pretrained(tmp_path)
    network = load(tmp_path)
    pixel_values = torch.randn(batch, 3, *image)
    with torch.inference_mode():
        expected = reference(pixel_values)
        output = network(pixel_values)
    assert relative_error(output.logits, expected.logits) <= 1e-4


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(backbone=backbones, taps=st.sets(st.integers(0, 4), min_size=1), image=images)
def test_the_backbone_taps_what_transformers_does(
    backbone: dict[str, Any], taps: set[int], image: tuple[int, int], tmp_path: Path
) -> None:
    """Class token included, as DPT reads it; 0 is the embedding."""
    config = BeitConfig(**backbone, out_indices=[1, 2, 3, 4])
    torch.manual_seed(sum(image))
    reference = BeitForSemanticSegmentation(config).eval()
    randomise(reference)
    reference.save_pretrained(tmp_path)
    network = load(tmp_path)
    pixel_values = torch.randn(2, 3, *image)
    with torch.inference_mode():
        expected = reference.beit(pixel_values, output_hidden_states=True).hidden_states
        tapped, size = network.backbone.taps(pixel_values, taps)
    assert size == tuple(side // config.patch_size for side in image)
    for ours, number in zip(tapped, sorted(taps), strict=True):
        assert relative_error(ours, expected[number]) <= 1e-4


@pytest.mark.parametrize("window", [(2, 3), (4, 1), (3, 3)])
def test_every_pair_of_tokens_has_the_bias_of_its_offset(window: tuple[int, int]) -> None:
    """By the definition, pair by pair; windows that are not square, as those of ViT-Adapter may be."""
    height, width = window
    positions = RelativePositions(window, 2)
    table = positions.table.detach().normal_()
    bias = positions(window)[0].flip(-1)  # keys come from last to first
    patches = [(row, column) for row in range(height) for column in range(width)]
    for query, (row, column) in enumerate(patches, 1):
        for key, (key_row, key_column) in enumerate(patches, 1):
            place = (row - key_row + height - 1) * (2 * width - 1) + column - key_column + width - 1
            assert torch.equal(bias[:, query, key], table[place])
    assert (bias[:, 0, 1:] == table[-3][:, None]).all()
    assert (bias[:, 1:, 0] == table[-2][:, None]).all()
    assert torch.equal(bias[:, 0, 0], table[-1])


def test_no_more_than_one_block_has_its_bias_at_a_time() -> None:
    """It is the largest tensor by far, and each block has another."""
    network, _ = small()
    alive: list[weakref.ref[Tensor]] = []
    earlier: list[int] = []

    def watch(module: nn.Module, args: tuple[Any, ...], bias: Tensor) -> None:
        earlier.append(sum(each() is not None for each in alive))
        alive.append(weakref.ref(bias))

    for block in network.backbone.blocks:
        block.relative_positions.register_forward_hook(watch)
    with torch.inference_mode():
        network(torch.randn(1, 3, 64, 64))
    assert earlier == [0, 0, 0]  # the fourth block is behind the last tap


def test_training_mode_gives_the_logits_of_the_auxiliary_head(tmp_path: Path) -> None:
    """At stride 16, as transformers gives them to its loss."""
    config = BeitConfig(**SMALL, num_labels=3, drop_path_rate=0.0)
    torch.manual_seed(0)
    reference = BeitForSemanticSegmentation(config)
    randomise(reference)
    reference.save_pretrained(tmp_path)
    network = load(tmp_path)
    seen: list[Tensor] = []
    reference.auxiliary_head.register_forward_hook(lambda module, args, logits: seen.append(logits))
    pixel_values = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        expected = reference.train()(pixel_values)
        output = network.train()(pixel_values)
    assert relative_error(output.logits, expected.logits) <= 1e-4
    assert [each.auxiliary for each in output.auxiliary] == [()]
    assert relative_error(output.auxiliary[0].logits, seen[0]) <= 1e-4
    assert network.eval()(pixel_values).auxiliary == ()
    assert small(use_auxiliary_head=False)[0].train()(pixel_values).auxiliary == ()


def test_an_image_of_no_whole_patches_is_the_same_padded_with_zeros() -> None:
    network, _ = small()
    pixel_values = torch.randn(1, 3, 50, 70)
    padded = torch.zeros(1, 3, 64, 80)
    padded[..., :50, :70] = pixel_values
    with torch.inference_mode():
        logits = network(pixel_values).logits
        assert logits.shape == (1, 3, 13, 18)
        assert torch.equal(logits, network(padded).logits[..., :13, :18])


@needs_shared
@pytest.mark.parametrize("name", PUBLIC)
def test_public_configs_have_exactly_the_published_tensors(name: str) -> None:
    """Names and shapes of what transformers writes for the same config."""
    config = json.loads((CONFIGS / name).read_text())
    with torch.device("meta"):
        network, layout = beit.build(config, len(config["id2label"]))
        reference = BeitForSemanticSegmentation(BeitConfig.from_dict(config))
    assert layout.published_shapes(network) == shapes(revert_weight_conversion(reference, reference.state_dict()))
    assert match_labels(list(config["id2label"].values())) is not None
    assert FAMILIES[config["model_type"]].tasks(config) == ("semantic",)


@needs_shared
def test_the_published_base_is_as_layouts_md_says() -> None:
    """312 keys; in the Hub's file of 900 MB there are 12 more, of pairs among 1601 tokens."""
    config = json.loads((CONFIGS / PUBLIC[0]).read_text())
    with torch.device("meta"):
        network, layout = beit.build(config, 150)
        tensors = layout.to_published(network)
    assert len(tensors) == 312
    assert_equal_to_table(shapes(tensors), "## BEiT: microsoft/beit-base-finetuned-ade-640-640")
    assert sum(each.nbytes for each in tensors.values()) + 12 * 1601**2 * 8 == pytest.approx(900e6, abs=1e6)


def test_the_indices_that_old_files_hold_are_not_needed() -> None:
    network, layout = small()
    attention = "beit.encoder.layer.{}.attention.attention.relative_position_bias.relative_position_index"
    indices = {attention.format(layer): torch.zeros(17, 17, dtype=torch.int64) for layer in range(4)}
    other, other_layout = beit.build(SMALL, 3)
    load_strictly(other, other_layout, {**layout.to_published(network), **indices})
    pixel_values = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(other.eval()(pixel_values).logits, network(pixel_values).logits)


@pytest.mark.parametrize(
    "positions",
    [{}, {"use_relative_position_bias": False, "use_shared_relative_position_bias": True}],
    ids=["in every block", "shared"],
)
def test_what_is_trained_here_loads_in_transformers(positions: dict[str, Any], tmp_path: Path) -> None:
    config = BeitConfig(**{**SMALL, "use_absolute_position_embeddings": True, **positions}, num_labels=3)
    torch.manual_seed(0)
    network, layout = beit.build(config.to_dict(), 3)
    randomise(network)
    save_file(layout.to_published(network), tmp_path / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(tmp_path)
    reference, report = BeitForSemanticSegmentation.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    pixel_values = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        expected = reference.eval()(pixel_values)
        output = network.eval()(pixel_values)
    assert relative_error(output.logits, expected.logits) <= 1e-4


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("hidden_act", "relu"),
        ("use_mask_token", True),
        ("use_mean_pooling", False),
        ("auxiliary_num_convs", 2),
        ("auxiliary_concat_input", True),
        ("layer_scale_init_value", 0.0),
        ("image_size", [64, 96]),
        ("patch_size", [16, 16]),
    ],
)
def test_unpublished_settings_are_refused(setting: str, value: Any) -> None:
    with pytest.raises(CheckpointError, match=f"BEiT with {setting} = .* is not supported"):
        beit.build({**SMALL, setting: value}, 3)


def test_two_kinds_of_relative_positions_are_refused() -> None:
    with pytest.raises(CheckpointError, match="choose one"):
        beit.build({**SMALL, "use_shared_relative_position_bias": True}, 3)


@pytest.mark.parametrize("indices", [None, [4], [1, 2, 3, 5], [0, 1, 2, 3], [1, 2, 2, 3], [4, 3, 2, 1]])
def test_configs_without_four_places_for_maps_are_refused(indices: list[int] | None) -> None:
    """Those of classifiers, which have the same model_type, say none."""
    with pytest.raises(CheckpointError, match="it takes maps at four rising indices from 1 to 4"):
        beit.build({**SMALL, "out_indices": indices}, 3)
