"""EoMT gives the published implementation's numbers, from every layout it is published in."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn
from transformers import (
    Dinov2Config,
    EomtConfig,
    EomtDinov3Config,
    EomtDinov3ForUniversalSegmentation,
    EomtForUniversalSegmentation,
)
from transformers.models.dinov2.modeling_dinov2 import Dinov2Embeddings

from everymask.checkpoints.layouts import eomt
from everymask.checkpoints.strict import load_strictly
from everymask.errors import CheckpointError
from layout_tables import assert_equal_to_table
from parity import relative_error
from shared import SHARED, needs_shared

CONFIGS = SHARED / "checkpoints" / "configs"
GOLDEN = ["transformers-4.57/eomt", "transformers-5.23/eomt_dinov3"]
SMALL = {
    "model_type": "eomt",
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 40,
    "num_blocks": 2,
    "num_queries": 5,
    "image_size": 64,
}
GATED = {**SMALL, "use_swiglu_ffn": True}
DINOV3 = {**SMALL, "model_type": "eomt_dinov3"}


def load(folder: Path) -> nn.Module:
    config = json.loads((folder / "config.json").read_text())
    network, layout = eomt.build(config, len(config.get("id2label", "ab")))  # transformers leaves out the default
    load_strictly(network, layout, load_file(folder / "model.safetensors"))
    return network.eval()


def small(config: dict[str, Any], num_labels: int = 3) -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    network, layout = eomt.build(config, num_labels)
    randomise(network)
    return network.eval(), layout


def randomise(network: nn.Module) -> None:
    """Gives every tensor random values, so that no path is silent."""
    for name, tensor in network.state_dict().items():
        if "prob" not in name:
            tensor.normal_(mean=1.0 if "norm" in name and name.endswith("weight") else 0.0, std=0.2)


@needs_shared
@pytest.mark.parametrize("name", GOLDEN)
def test_golden_checkpoints_give_their_numbers(name: str) -> None:
    folder = SHARED / "golden" / name
    expected = load_file(folder / "expected.safetensors")
    with torch.inference_mode():
        output = load(folder)(expected["pixel_values"])
    assert relative_error(output.class_logits, expected["class_logits"]) <= 1e-4
    assert relative_error(output.mask_logits, expected["mask_logits"]) <= 1e-4


sizes = st.fixed_dictionaries(
    {
        "num_hidden_layers": st.integers(3, 5),
        "num_attention_heads": st.sampled_from([1, 3]),
        "num_queries": st.integers(1, 9),
        "num_register_tokens": st.sampled_from([0, 1, 4]),
        "num_upscale_blocks": st.integers(1, 2),
        "layer_norm_eps": st.sampled_from([1e-6, 1e-5]),
        "image_size": st.sampled_from([32, 48, 80]),
        "num_labels": st.integers(1, 6),
    }
)
# Only the published order of annealing: transformers keeps the mask of the block before where a later one has none.
probabilities = st.sampled_from([[0.0], [1.0], [0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 1.0, 1.0]])


def assert_equal_to(reference: nn.Module, probabilities: list[float], seed: int, folder: Path, training: bool) -> None:
    torch.manual_seed(seed)
    randomise(reference)
    reference.attn_mask_probs.copy_(torch.tensor(probabilities))
    reference.save_pretrained(folder)
    network = load(folder)
    side = reference.config.image_size
    pixel_values = torch.randn(2, 3, side, side)
    with torch.inference_mode():
        expected = reference.train(training)(pixel_values)
        output = network.train(training)(pixel_values)
    assert relative_error(output.class_logits, expected.class_queries_logits) <= 1e-4
    assert relative_error(output.mask_logits, expected.masks_queries_logits) <= 1e-4


@settings(max_examples=16, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=sizes, probabilities=probabilities, gated=st.booleans(), ratio=st.integers(1, 4), training=st.booleans())
def test_random_configurations_with_dinov2_equal_transformers(
    sizes: dict[str, Any], probabilities: list[float], gated: bool, ratio: int, training: bool, tmp_path: Path
) -> None:
    """In training mode, too: with probabilities of 0 and 1 nothing is drawn."""
    config = EomtConfig(hidden_size=24, mlp_ratio=ratio, use_swiglu_ffn=gated, num_blocks=len(probabilities), **sizes)
    reference = EomtForUniversalSegmentation(config)
    assert_equal_to(reference, probabilities, sizes["num_queries"] + sizes["image_size"], tmp_path, training)


@settings(max_examples=16, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=sizes,
    probabilities=probabilities,
    gated=st.booleans(),
    key_bias=st.booleans(),
    theta=st.sampled_from([100.0, 10.0]),
    training=st.booleans(),
)
def test_random_configurations_with_dinov3_equal_transformers(
    sizes: dict[str, Any],
    probabilities: list[float],
    gated: bool,
    key_bias: bool,
    theta: float,
    training: bool,
    tmp_path: Path,
) -> None:
    config = EomtDinov3Config(
        hidden_size=24,
        intermediate_size=40,
        use_gated_mlp=gated,
        key_bias=key_bias,
        rope_parameters={"rope_type": "default", "rope_theta": theta},
        pos_embed_rescale=None,  # random in training
        num_blocks=len(probabilities),
        **sizes,
    )
    reference = EomtDinov3ForUniversalSegmentation(config)
    assert_equal_to(reference, probabilities, sizes["num_queries"] + sizes["image_size"], tmp_path, training)


def test_training_mode_gives_the_prediction_before_every_block_with_queries() -> None:
    network, _ = small(SMALL)
    pixel_values = torch.randn(2, 3, 64, 90)
    output = network.train()(pixel_values)
    assert len(output.auxiliary) == 2
    for prediction in (*output.auxiliary, output):
        assert prediction.class_logits.shape == (2, 5, 4)
        assert prediction.mask_logits.shape == (2, 5, 16, 23)
    assert network.eval()(pixel_values).auxiliary == ()


def test_training_draws_which_queries_are_held_to_their_masks_and_stretches_rotary_positions() -> None:
    pixel_values = torch.randn(1, 3, 64, 64)
    for config, probability in ((SMALL, 0.5), (DINOV3, 0.0)):
        network, _ = small(config)
        network.set_mask_probabilities([probability] * network.query_blocks)
        first, second = (network.train()(pixel_values).mask_logits for _ in range(2))
        assert not torch.equal(first, second)
        first, second = (network.eval()(pixel_values).mask_logits for _ in range(2))
        assert torch.equal(first, second)


def test_masks_are_used_from_a_probability_of_one_half_on() -> None:
    network, _ = small(SMALL)
    pixel_values = torch.randn(1, 3, 64, 64)
    results = {}
    for probability in (0.0, 0.4, 0.5, 1.0):
        network.set_mask_probabilities([probability] * network.query_blocks)
        results[probability] = network(pixel_values).mask_logits
    assert torch.equal(results[0.0], results[0.4])
    assert torch.equal(results[0.5], results[1.0])
    assert not torch.equal(results[0.0], results[1.0])


def test_learned_positions_are_resized_as_dinov2_does() -> None:
    network, _ = small(SMALL)
    reference = Dinov2Embeddings(Dinov2Config(hidden_size=24, image_size=64, patch_size=16))
    positions = network.backbone.positions.detach()
    reference.position_embeddings = nn.Parameter(torch.cat((torch.zeros(1, 1, 24), positions[None]), 1))
    with torch.inference_mode():
        expected = reference.interpolate_pos_encoding(torch.zeros(1, 1 + 7 * 5, 24), 7 * 16, 5 * 16)[0, 1:]
        torch.testing.assert_close(network.backbone._learned_positions((4, 4), (7, 5)), expected)


@needs_shared
def test_the_published_large_network_has_the_keys_of_layouts_md() -> None:
    with torch.device("meta"):
        network, layout = eomt.build({"model_type": "eomt", "backbone": "vit_large_patch14_reg4_dinov2"}, 133)
    published = {**layout.published_shapes(network), "criterion.empty_weight": (134,)}
    assert len(published) == 460
    assert_equal_to_table(published, "## EoMT with DINOv2, transformers layout")


@needs_shared
@pytest.mark.parametrize(
    ("file", "reference"),
    [
        ("tue-mps--coco_panoptic_eomt_small_640_dinov3.json", EomtDinov3ForUniversalSegmentation),
        ("tue-mps--coco_instance_eomt_large_640.original-layout.json", EomtForUniversalSegmentation),
    ],
)
def test_public_configs_build_what_transformers_builds(file: str, reference: type) -> None:
    config = json.loads((CONFIGS / file).read_text())
    num_labels = len(config["id2label"]) if "id2label" in config else config["num_labels"]
    theirs = {key: value for key, value in config.items() if key not in ("backbone", "model_type")}
    with torch.device("meta"):
        network, layout = eomt.build(config, num_labels)
        expected = reference(reference.config_class(**theirs))
    shapes = {key: tuple(each.shape) for key, each in expected.state_dict().items() if key != "criterion.empty_weight"}
    assert layout.published_shapes(network) == shapes
    assert layout.constants["criterion.empty_weight"].shape == (num_labels + 1,)


ORIGINAL_HEADS = {
    "network.attn_mask_probs": (2,),
    "network.q.weight": (5, 24),
    "network.class_head.weight": (4, 24),
    "network.class_head.bias": (4,),
    **{f"network.mask_head.{layer}.weight": (24, 24) for layer in (0, 2, 4)},
    **{f"network.mask_head.{layer}.bias": (24,) for layer in (0, 2, 4)},
    **{f"network.upscale.{block}.conv1.weight": (24, 24, 2, 2) for block in (0, 1)},
    **{f"network.upscale.{block}.conv2.weight": (24, 1, 3, 3) for block in (0, 1)},
    **{f"network.upscale.{block}.{leaf}": (24,) for block in (0, 1) for leaf in ("conv1.bias", "norm.weight")},
    **{f"network.upscale.{block}.norm.bias": (24,) for block in (0, 1)},
}
ORIGINAL_BLOCK = {f"{part}.{leaf}": (24,) for part in ("norm1", "norm2") for leaf in ("weight", "bias")}
DINOV2_BLOCK = {
    **ORIGINAL_BLOCK,
    "attn.qkv.weight": (72, 24),
    "attn.qkv.bias": (72,),
    "attn.proj.weight": (24, 24),
    "attn.proj.bias": (24,),
    "ls1.gamma": (24,),
    "ls2.gamma": (24,),
    "mlp.fc1.weight": (96, 24),
    "mlp.fc1.bias": (96,),
    "mlp.fc2.weight": (24, 96),
    "mlp.fc2.bias": (24,),
}
GATED_BLOCK = {**DINOV2_BLOCK, "mlp.fc1.weight": (128, 24), "mlp.fc1.bias": (128,), "mlp.fc2.weight": (24, 64)}
DINOV3_BLOCK = {
    **ORIGINAL_BLOCK,
    **{f"attention.{part}_proj.weight": (24, 24) for part in "qkvo"},
    **{f"attention.{part}_proj.bias": (24,) for part in "qvo"},
    "layer_scale1.lambda1": (24,),
    "layer_scale2.lambda1": (24,),
    "mlp.up_proj.weight": (40, 24),
    "mlp.up_proj.bias": (40,),
    "mlp.down_proj.weight": (24, 40),
    "mlp.down_proj.bias": (24,),
}
DINOV2_EMBEDDINGS = {
    "cls_token": (1, 1, 24),
    "reg_token": (1, 4, 24),
    "pos_embed": (1, 16, 24),
    "patch_embed.proj.weight": (24, 3, 16, 16),
    "patch_embed.proj.bias": (24,),
}
DINOV3_EMBEDDINGS = {
    "patch_embed.cls_token": (1, 1, 24),
    "patch_embed.register_tokens": (1, 4, 24),
    "patch_embed.patch_embeddings.weight": (24, 3, 16, 16),
    "patch_embed.patch_embeddings.bias": (24,),
}
ORIGINALS = pytest.mark.parametrize(
    ("config", "embeddings", "block"),
    [
        (SMALL, DINOV2_EMBEDDINGS, DINOV2_BLOCK),
        (GATED, DINOV2_EMBEDDINGS, GATED_BLOCK),
        (DINOV3, DINOV3_EMBEDDINGS, DINOV3_BLOCK),
    ],
    ids=["dinov2", "dinov2-gated", "dinov3"],
)


@ORIGINALS
def test_the_authors_layout_is_written_and_read(
    config: dict[str, Any], embeddings: dict[str, tuple[int, ...]], block: dict[str, tuple[int, ...]]
) -> None:
    network, layout = small(config)
    network.set_mask_probabilities([0.0, 1.0])
    original = layout.alternatives[-1].to_published(network)
    backbone = {
        **embeddings,
        **{f"blocks.{index}.{key}": shape for index in range(3) for key, shape in block.items()},
        "norm.weight": (24,),
        "norm.bias": (24,),
    }
    expected = {**{f"network.encoder.backbone.{key}": shape for key, shape in backbone.items()}, **ORIGINAL_HEADS}
    assert {key: tuple(each.shape) for key, each in original.items()} == expected

    besides = {
        "network.encoder.pixel_mean": torch.zeros(1, 3, 1, 1),
        "network.encoder.pixel_std": torch.ones(1, 3, 1, 1),
        "criterion.empty_weight": torch.ones(4),
    }
    other, other_layout = small(config)
    randomise(other)
    load_strictly(other, other_layout, {**original, **besides})
    pixel_values = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(other(pixel_values).mask_logits, network(pixel_values).mask_logits)


def test_the_packed_projections_are_query_key_value_and_gate_first() -> None:
    """As timm splits them (Attention, GluMlp): its blocks are what the authors' files hold."""
    network, layout = small(GATED)
    original = layout.alternatives[-1].to_published(network)
    attention, gated = network.backbone.blocks[0].attention, network.backbone.blocks[0].feed_forward
    query, key, value = original["network.encoder.backbone.blocks.0.attn.qkv.weight"].chunk(3)
    assert torch.equal(query, attention.query.weight)
    assert torch.equal(key, attention.key.weight)
    assert torch.equal(value, attention.value.weight)
    gate, expand = original["network.encoder.backbone.blocks.0.mlp.fc1.weight"].chunk(2)
    assert torch.equal(gate, gated.gate.weight)
    assert torch.equal(expand, gated.expand.weight)


def test_gated_blocks_are_read_as_transformers_4_and_5_save_them() -> None:
    network, layout = small(GATED)
    four, five = layout, layout.alternatives[0]
    assert "layers.0.mlp.weights_in.weight" in four.published_shapes(network)
    assert "layers.0.mlp.gate_proj.weight" in five.published_shapes(network)
    for each in (four, five):
        other, other_layout = small(GATED)
        randomise(other)
        load_strictly(other, other_layout, each.to_published(network))
        for key, tensor in network.state_dict().items():
            assert torch.equal(other.state_dict()[key], tensor), key


@pytest.mark.parametrize("config", [SMALL, DINOV3], ids=["dinov2", "dinov3"])
def test_a_file_without_mask_probabilities_means_no_masks(config: dict[str, Any]) -> None:
    network, layout = small(config)
    for each in (layout, *layout.alternatives):
        published = each.to_published(network)
        assert (
            published.pop("attn_mask_probs", None) is not None or published.pop("network.attn_mask_probs") is not None
        )
        other, other_layout = eomt.build(config, 3)
        load_strictly(other, other_layout, published)
        assert other.mask_probabilities.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("size", "dim", "depth", "heads", "hidden"),
    [
        ("small", 384, 12, 6, 1536),
        ("base", 768, 12, 12, 3072),
        ("large", 1024, 24, 16, 4096),
        ("giant", 1536, 40, 24, 4096),
    ],
)
def test_the_authors_config_names_its_backbone(size: str, dim: int, depth: int, heads: int, hidden: int) -> None:
    config = {"model_type": "eomt", "backbone": f"vit_{size}_patch14_reg4_dinov2", "image_size": 640, "num_blocks": 3}
    with torch.device("meta"):
        network, _ = eomt.build(config, 4)
    vit = network.backbone.config
    assert (vit.dim, vit.depth, vit.heads, vit.feed_forward, vit.grid) == (dim, depth, heads, hidden, (40, 40))
    assert vit.gated == (size == "giant")


def test_the_authors_config_names_dinov3() -> None:
    config = {"model_type": "eomt", "backbone": "facebook/dinov3-vitb16-pretrain-lvd1689m"}
    with torch.device("meta"):
        network, _ = eomt.build(config, 4)
    vit = network.backbone.config
    assert (vit.dim, vit.depth, vit.heads, vit.feed_forward, vit.grid) == (768, 12, 12, 3072, None)
    assert (vit.norm_eps, vit.key_bias) == (1e-5, False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone": "resnet50"}, "backbone 'resnet50' is not supported.*vit_SIZE_patch14_reg4_dinov2"),
        ({"hidden_act": "relu"}, "hidden_act = 'relu'.*'gelu'"),
        ({"num_blocks": 0}, "num_blocks = 0 of 3 blocks"),
        ({"num_blocks": 4}, "num_blocks = 4 of 3 blocks"),
        ({"image_size": [640, 640]}, "must be one number"),
        ({"model_type": "eomt_dinov3", "query_bias": False}, "query_bias = False"),
        ({"model_type": "eomt_dinov3", "pos_embed_jitter": 1.1}, "pos_embed_jitter = 1.1"),
        ({"model_type": "eomt_dinov3", "rope_parameters": {"rope_type": "linear"}}, "rope_type = 'linear'"),
    ],
)
def test_what_nobody_published_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        eomt.build({**SMALL, **change}, 3)
