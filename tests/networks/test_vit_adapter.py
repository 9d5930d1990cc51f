"""ViT-Adapter gives the published code's numbers, stage by stage, in both of its variants."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn

from everymask.checkpoints.layouts import vit_adapter
from everymask.checkpoints.strict import load_strictly
from everymask.errors import CheckpointError
from everymask.networks.outputs import MaskQueries
from everymask.tiling import Tiling
from parity import randomise, relative_error

FIXTURES = Path(__file__).parents[1] / "fixtures" / "vit_adapter"
TINY = FIXTURES / "tiny-a"
CONFIG: dict[str, Any] = json.loads((TINY / "config.json").read_text())
EXPECTED = {True: "expected.safetensors", False: "expected_no_identity.safetensors"}
both_variants = pytest.mark.parametrize("residual", [True, False], ids=["ModelScope", "ViT-Adapter project"])


def load(residual: bool) -> nn.Module:
    config = {**CONFIG, "adapter_attn_identity": residual}
    network, layout = vit_adapter.build(config, CONFIG["num_classes"])
    load_strictly(network, layout, load_file(TINY / "model.safetensors"))
    return network.eval()


def small(**changes: Any) -> nn.Module:
    torch.manual_seed(0)
    network, _ = vit_adapter.build({**CONFIG, **changes}, 7)
    randomise(network)
    return network.eval()


def recorded(network: nn.Module, pixel_values: Tensor) -> dict[str, Tensor]:
    """What every stage gives, by its name in the golden files; predictions of all layers included."""
    found: dict[str, Tensor] = {}
    for index, interaction in enumerate(network.backbone.interactions):
        interaction.register_forward_hook(
            lambda module, inputs, output, index=index: found.update(
                {f"backbone.interaction{index}.x": output[0][:, 1:], f"backbone.interaction{index}.c": output[1]}
            )
        )
    network.backbone.register_forward_hook(
        lambda module, inputs, output: found.update({f"backbone.f{i + 1}": each for i, each in enumerate(output)})
    )
    network.pixel_decoder.register_forward_hook(
        lambda module, inputs, output: found.update(
            {
                "pixel_decoder.mask_features": output[1].projected(),
                **{f"pixel_decoder.memory{i}": each for i, each in enumerate(output[0])},
            }
        )
    )
    # Training mode gives the predictions of all layers; batch norm stays as it is in eval mode.
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    with torch.no_grad():
        output = network(pixel_values)
    for index, prediction in enumerate((*output.auxiliary, output)):
        found[f"decoder.{index}.class_logits"] = prediction.class_logits
        found[f"decoder.{index}.mask_logits"] = prediction.mask_logits
    return found


def semantic(queries: MaskQueries, size: tuple[int, int]) -> Tensor:
    """The class scores of a window, (B, C, height, width), as the published code has them."""
    probabilities = queries.class_logits.softmax(-1)[..., :-1]
    scores = torch.einsum("bqc,bqhw->bchw", probabilities, queries.mask_logits.sigmoid())
    return F.interpolate(scores, size=size, mode="bilinear", align_corners=False)


@both_variants
def test_every_stage_gives_the_published_numbers(residual: bool) -> None:
    expected = load_file(TINY / EXPECTED[residual])
    pixel_values = load_file(TINY / "input.safetensors")["pixel_values"]
    found = recorded(load(residual), pixel_values)
    stages = [name for name in expected if name.split(".")[0] in ("backbone", "pixel_decoder", "decoder")]
    assert len(stages) == (22 if residual else 2)
    for name in stages:
        assert relative_error(found[name], expected[name]) <= 1e-4, name


@both_variants
def test_one_window_gives_the_published_scores(residual: bool) -> None:
    expected = load_file(TINY / EXPECTED[residual])["window.semantic_logits"]
    pixel_values = load_file(TINY / "input.safetensors")["pixel_values"]
    with torch.inference_mode():
        found = semantic(load(residual)(pixel_values), (96, 128))
    assert relative_error(found, expected) <= 1e-4


def test_sliding_windows_give_the_published_scores() -> None:
    expected = load_file(TINY / EXPECTED[True])["slide.semantic_logits"]
    pixel_values = load_file(TINY / "input.safetensors")["slide_pixel_values"]
    network = load(True)
    recipe = vit_adapter.preprocessor(CONFIG)
    (height, width), stride = recipe["window"], recipe["stride"]
    total, count = torch.zeros_like(expected), torch.zeros(expected.shape[-2:])
    for top, left in Tiling((height, width), (stride[0], stride[1])).corners((128, 160)):
        place = (..., slice(top, top + height), slice(left, left + width))
        with torch.inference_mode():
            total[place] += semantic(network(pixel_values[place]), (height, width))
        count[place] += 1
    assert relative_error(total / count, expected) <= 1e-4


def test_the_variants_differ_by_far() -> None:
    """So that one who mixes them up will notice."""
    pixel_values = load_file(TINY / "input.safetensors")["pixel_values"]
    with torch.inference_mode():
        first, second = (load(residual)(pixel_values).class_logits for residual in (True, False))
    assert relative_error(first, second) > 0.1


def test_what_training_computes_twice_gives_the_same_gradients() -> None:
    pixel_values = load_file(TINY / "input.safetensors")["pixel_values"]
    gradients = []
    for recompute in (True, False):
        network = load(True).train(recompute)  # in eval mode nothing is computed twice
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        network(pixel_values).mask_logits.pow(2).mean().backward()
        gradients.append({name: each.grad for name, each in network.named_parameters()})
    for name, gradient in gradients[0].items():
        other = gradients[1][name]
        assert (gradient is None) == (other is None)
        if gradient is not None:
            torch.testing.assert_close(gradient, other, rtol=1e-3, atol=1e-5 * float(other.abs().max()))


def test_training_mode_gives_the_prediction_of_every_layer() -> None:
    network = small()
    output = network.train()(torch.randn(2, 3, 64, 90))
    assert len(output.auxiliary) == CONFIG["decoder_layers"]
    for prediction in (*output.auxiliary, output):
        assert prediction.class_logits.shape == (2, 10, 8)
        assert prediction.mask_logits.shape == (2, 10, 16, 23)
    assert network.eval()(torch.randn(2, 3, 64, 90)).auxiliary == ()


def test_sides_that_are_no_multiples_of_32_are_padded_with_zeros() -> None:
    network = small()
    pixel_values = torch.randn(1, 3, 70, 120)
    with torch.inference_mode():
        found = network(pixel_values)
        expected = network(F.pad(pixel_values, (0, 8, 0, 26)))
    assert torch.equal(found.class_logits, expected.class_logits)
    assert torch.equal(found.mask_logits, expected.mask_logits[..., :18, :30])


def published() -> dict[str, tuple[int, ...]]:
    """The keys and shapes of the full-size model."""
    rows = (line.split("\t") for line in (FIXTURES / "public_state_dict.txt").read_text().splitlines())
    return {key: tuple(int(side) for side in shape.split("x") if side.isdigit()) for key, shape, _ in rows}


def test_the_published_network_has_the_published_keys_and_shapes() -> None:
    expected = published()
    assert len(expected) == 942
    with torch.device("meta"):
        network, layout = vit_adapter.build({}, 171)
    kept = {key: shape for key, shape in expected.items() if not layout.ignored(key)}
    assert layout.published_shapes(network) == kept
    assert sorted(expected.keys() - kept.keys()) == sorted(
        f"backbone.blocks.{index}.attn.relative_position_index" for index in range(24)
    )
    assert sum(parameter.numel() for parameter in network.parameters()) == 570_765_932


def test_sizes_are_read_from_the_shapes_of_the_published_file() -> None:
    config = vit_adapter.config_of(published())
    with torch.device("meta"):
        network, layout = vit_adapter.build(config, config["num_labels"])
    assert layout.published_shapes(network).items() <= published().items()
    names = (Path(__file__).parents[2] / "src/everymask/data/labels/coco-stuff.json").read_text()
    assert list(config["id2label"].values()) == [each["name"] for each in json.loads(names)["classes"]]
    assert vit_adapter.preprocessor(config) == {
        "image_processor_type": "ViTAdapterImageProcessor",
        "size": {"shortest_edge": 896, "longest_edge": 3584},
        "size_divisor": 32,
        "window": [896, 896],
        "stride": [512, 512],
        "image_mean": [123.675, 116.28, 103.53],
        "image_std": [58.395, 57.12, 57.375],
        "do_rescale": False,
    }


even = st.integers(1, 2).map(lambda each: [[each * index, each * (index + 1) - 1] for index in range(4)])
uneven = st.just([[0, 0], [1, 3], [4, 4], [5, 6]])
configs = st.fixed_dictionaries(
    {
        "img_size": st.sampled_from([32, 64, 96]),
        "num_heads": st.sampled_from([2, 4]),
        "embed_dim": st.sampled_from([32, 48]),
        "mlp_ratio": st.sampled_from([2, 4]),
        "conv_inplane": st.sampled_from([4, 8]),
        "n_points": st.integers(1, 4),
        "deform_num_heads": st.sampled_from([2, 4]),
        "deform_ratio": st.sampled_from([0.5, 1.0]),
        "cffn_ratio": st.sampled_from([0.25, 0.5]),
        "interaction_indexes": st.one_of(even, uneven),
        "extra_extractors": st.integers(0, 2),
        "feat_channels": st.sampled_from([32, 64]),
        "num_queries": st.integers(1, 9),
        "pixel_decoder_layers": st.integers(1, 2),
        "decoder_layers": st.integers(1, 4),
    }
)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(config=configs, num_labels=st.integers(1, 5))
def test_shapes_tell_the_sizes_of_any_network(config: dict[str, Any], num_labels: int) -> None:
    """Built from the shapes of another's tensors, and from what no shape tells, a network takes all of them."""
    full = {
        **config,
        "depth": config["interaction_indexes"][-1][-1] + 1,
        "pixel_decoder_ffn": 24,
        "decoder_ffn": 40,
        "decoder_heads": 4,
    }
    unreadable = {key: full[key] for key in ("n_points", "deform_num_heads", "interaction_indexes", "decoder_heads")}
    with torch.device("meta"):
        network, layout = vit_adapter.build(full, num_labels)
        shapes = layout.published_shapes(network)
        read = vit_adapter.config_of(shapes)
        again, other = vit_adapter.build({**read, **unreadable}, read["num_labels"])
    assert read["num_labels"] == num_labels
    assert read["img_size"] == config["img_size"]
    assert other.published_shapes(again) == shapes


@pytest.mark.parametrize(
    ("side", "num_labels", "expected"),
    [
        (896, 171, (896, 3584, 512)),
        (896, 19, (1024, 2048, 512)),
        (640, 150, (640, 2048, 426)),
        (512, 171, (512, 2048, 341)),
        (480, 59, (520, 4096, 320)),
        (128, 2, (128, 512, 85)),
    ],
)
def test_images_are_resized_as_the_project_tests_its_networks(
    side: int, num_labels: int, expected: tuple[int, int, int]
) -> None:
    """Published configurations: COCO-Stuff 164k, Cityscapes, ADE20K, COCO-Stuff 10k, Pascal Context, CHASE DB1."""
    with torch.device("meta"):
        network, layout = vit_adapter.build({"img_size": side}, num_labels)
        config = vit_adapter.config_of(layout.published_shapes(network))
    recipe = vit_adapter.preprocessor(config)
    assert (recipe["size"]["shortest_edge"], recipe["size"]["longest_edge"], recipe["stride"][0]) == expected
    assert recipe["window"] == [side, side]
    assert len(config.get("id2label", {})) == (num_labels if num_labels > 59 or num_labels == 19 else 0)


def test_the_recipe_of_a_config_is_followed() -> None:
    recipe = vit_adapter.preprocessor(CONFIG)
    assert recipe["size"] == {"shortest_edge": 96, "longest_edge": 384}
    assert (recipe["window"], recipe["stride"]) == ([96, 128], [48, 64])


@both_variants
def test_the_description_says_which_variant_it_is(residual: bool) -> None:
    text = vit_adapter.description({"adapter_attn_identity": residual})
    assert ("as ModelScope's code does" in text) == residual
    assert ("as in the ViT-Adapter project" in text) != residual


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": 14}, "patch_size = 14"),
        ({"use_abs_pos_emb": True}, "use_abs_pos_emb = True"),
        ({"pixel_decoder_points": 8}, "pixel_decoder_points = 8"),
        ({"pixel_decoder_heads": 2}, "pixel_decoder_heads = 2"),
        ({"eps": {"group_norm": 1e-6}}, "group_norm = 1e-06"),
        ({"positional_encoding": {"temperature": 20}}, "temperature = 20"),
        ({"img_size": 112}, "img_size = 112 does not exist; it must be a multiple of 32"),
        ({"interaction_indexes": [[0, 1], [2, 3], [4, 5]]}, "share all 8 blocks among 4 interactions"),
        ({"interaction_indexes": [[0, 1], [2, 3], [4, 5], [5, 7]]}, "share all 8 blocks among 4 interactions"),
    ],
)
def test_settings_that_nobody_published_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        vit_adapter.build({**CONFIG, **changes}, 7)
