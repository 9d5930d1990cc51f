"""Depth Anything gives the published implementation's numbers, relative and metric."""

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
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config
from transformers.core_model_loading import revert_weight_conversion

from everymask.checkpoints.layouts import depth_anything
from everymask.checkpoints.load import load_checkpoint
from everymask.checkpoints.strict import load_strictly
from everymask.errors import CheckpointError
from parity import randomise, relative_error, shapes
from shared import SHARED, needs_shared

CONFIGS = SHARED / "checkpoints" / "configs"
PUBLIC = [f"depth-anything--Depth-Anything-V2-{size}-hf.json" for size in ("Small", "Base", "Large")]
TAPS = {"Small": (3, 6, 9, 12), "Base": (3, 6, 9, 12), "Large": (5, 12, 18, 24)}
BACKBONE = {
    "model_type": "dinov2",
    "hidden_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "image_size": 70,
    "patch_size": 14,
    "out_indices": [1, 2, 3, 4],
    "reshape_hidden_states": False,
}
SMALL = {
    "model_type": "depth_anything",
    "backbone_config": BACKBONE,
    "reassemble_hidden_size": 24,
    "neck_hidden_sizes": [8, 12, 16, 24],
    "fusion_hidden_size": 16,
}


def load(folder: Path) -> nn.Module:
    config = json.loads((folder / "config.json").read_text())
    network, layout = depth_anything.build(config, 0)
    load_strictly(network, layout, load_file(folder / "model.safetensors"))
    return network.eval()


def randomise_evenly(network: nn.Module) -> None:
    """Random values, such that maps stay of order one: a saturated sigmoid tells roundings apart, not networks."""
    randomise(network)
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data *= 5 * parameter[0].numel() ** -0.5


def small(**changes: Any) -> nn.Module:
    torch.manual_seed(0)
    network, _ = depth_anything.build({**SMALL, **changes}, 0)
    randomise_evenly(network)
    return network.eval()


@needs_shared
def test_the_golden_checkpoint_gives_its_numbers() -> None:
    folder = SHARED / "golden" / "transformers-4.57" / "depth_anything"
    expected = load_file(folder / "expected.safetensors")
    with torch.inference_mode():
        output = load(folder)(expected["pixel_values"])
    assert relative_error(output.depth, expected["depth"]) <= 1e-4


backbones = st.fixed_dictionaries(
    {
        "hidden_size": st.sampled_from([16, 24]),
        "num_attention_heads": st.sampled_from([1, 4]),
        "mlp_ratio": st.integers(1, 4),
        "image_size": st.sampled_from([42, 70, 98]),
        "layer_norm_eps": st.sampled_from([1e-6, 1e-3]),
        "use_swiglu_ffn": st.booleans(),
        "use_mask_token": st.booleans(),
    }
)
necks = st.fixed_dictionaries(
    {
        "neck_hidden_sizes": st.lists(st.sampled_from([8, 12, 20]), min_size=4, max_size=4),
        "fusion_hidden_size": st.sampled_from([8, 18]),
        "head_hidden_size": st.sampled_from([4, 32]),
    }
)
# As V1 and V2 choose them: the last blocks, or spread over all; in either way of saying it.
taps = st.sampled_from(
    [
        {"num_hidden_layers": 4, "out_indices": [1, 2, 3, 4]},
        {"num_hidden_layers": 6, "out_indices": [3, 4, 5, 6]},
        {"num_hidden_layers": 6, "out_features": ["stage1", "stage3", "stage4", "stage6"]},
        {"num_hidden_layers": 5, "out_indices": [0, 2, 3, 4]},
    ]
)


@settings(max_examples=24, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    backbone=backbones,
    neck=necks,
    taps=taps,
    depth=st.sampled_from(["relative", "metric"]),
    farthest=st.sampled_from([20, 80]),
    batch=st.integers(1, 2),
    rows=st.integers(3, 9),
    columns=st.integers(3, 9),
)
def test_random_configurations_equal_transformers(
    backbone: dict[str, Any],
    neck: dict[str, Any],
    taps: dict[str, Any],
    depth: str,
    farthest: int,
    batch: int,
    rows: int,
    columns: int,
    tmp_path: Path,
) -> None:
    """Images of any whole number of patches, odd ones included, which the neck halves."""
    config = DepthAnythingConfig(
        backbone_config=Dinov2Config(**backbone, **taps, patch_size=14, reshape_hidden_states=False),
        reassemble_hidden_size=backbone["hidden_size"],
        depth_estimation_type=depth,
        max_depth=farthest if depth == "metric" else 1,
        **neck,
    )
    torch.manual_seed(rows * 10 + columns)
    reference = DepthAnythingForDepthEstimation(config).eval()
    randomise_evenly(reference)
    reference.head.conv3.bias.data.fill_(1.0)  # or the ReLU may leave nothing to compare
    reference.save_pretrained(tmp_path)
    network = load(tmp_path)
    pixel_values = torch.randn(batch, 3, 14 * rows, 14 * columns)
    with torch.inference_mode():
        expected = reference(pixel_values).predicted_depth
        output = network(pixel_values)
    assert expected.max() > 0
    assert relative_error(output.depth, expected) <= 1e-4


def test_what_is_saved_here_loads_in_transformers(tmp_path: Path) -> None:
    config = DepthAnythingConfig(**{key: value for key, value in SMALL.items() if key != "model_type"})
    network, layout = depth_anything.build(SMALL, 0)
    randomise_evenly(network)
    reference, info = DepthAnythingForDepthEstimation.from_pretrained(
        None, config=config, state_dict=layout.to_published(network), output_loading_info=True
    )
    assert not any(info.values())
    pixel_values = torch.randn(1, 3, 56, 84)
    with torch.inference_mode():
        expected = reference.eval()(pixel_values).predicted_depth
        assert relative_error(network.eval()(pixel_values).depth, expected) <= 1e-4


def published_by_transformers(reference: Any) -> dict[str, tuple[int, ...]]:
    """What a model on the meta device would save; in memory it has other names."""
    return shapes(revert_weight_conversion(reference, reference.state_dict()))


def published_table() -> dict[str, tuple[int, ...]]:
    """The rows of a table of layouts.md: how many tensors a pattern stands for, and the shape of the first leaf."""
    text = (SHARED / "checkpoints" / "layouts.md").read_text()
    section = text.split("## Depth Anything: depth-anything/Depth-Anything-V2-Small-hf")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\S+)` \| (\d+) \| (\S+?),? ", section, re.M)
    assert len(rows) == 26
    return {pattern: (int(count), *map(int, shape.rstrip(",").split("x"))) for pattern, count, shape in rows}


@needs_shared
@pytest.mark.parametrize("name", PUBLIC)
def test_public_configs_build_networks_with_the_published_keys(name: str) -> None:
    config = json.loads((CONFIGS / name).read_text())
    with torch.device("meta"):
        network, layout = depth_anything.build(config, 0)
        reference = DepthAnythingForDepthEstimation(DepthAnythingConfig.from_dict(config))
    tensors = {**layout.published_shapes(network), **shapes(layout.constants)}
    assert tensors == published_by_transformers(reference)
    assert network.taps == TAPS[name.split("-V2-")[1].split("-")[0]]


@needs_shared
def test_the_small_model_has_the_keys_that_were_seen() -> None:
    """287 keys, 99.1 MB."""
    config = json.loads((CONFIGS / PUBLIC[0]).read_text())
    with torch.device("meta"):
        network, layout = depth_anything.build(config, 0)
    tensors = {**layout.published_shapes(network), **shapes(layout.constants)}
    assert len(tensors) == 287
    assert sum(torch.Size(shape).numel() for shape in tensors.values()) * 4 / 1e6 == pytest.approx(99.1, abs=0.1)
    for pattern, (count, *shape) in published_table().items():
        first, leaves = re.sub(r"\{(\w+).*\}", r"\1", pattern), re.search(r"\{(.*)\}", pattern)
        for leaf in leaves[1].split(",") if leaves else [""]:
            key = re.sub(r"\{.*\}", leaf, pattern)
            found = [each for each in tensors if re.fullmatch(re.escape(key).replace(r"\#", r"\d+"), each)]
            assert len(found) == count, key
            if key == first:
                assert tensors[found[0]] == tuple(shape), key


def test_v1_reads_the_last_four_blocks_of_a_backbone_the_config_need_not_describe() -> None:
    with torch.device("meta"):
        network, layout = depth_anything.build({"model_type": "depth_anything"}, 0)
        reference = DepthAnythingForDepthEstimation(DepthAnythingConfig())
    assert network.taps == (9, 10, 11, 12)
    assert {**layout.published_shapes(network), **shapes(layout.constants)} == published_by_transformers(reference)


@torch.inference_mode()
def test_metric_depth_is_in_metres_up_to_the_largest() -> None:
    pixel_values = torch.randn(1, 3, 56, 56)
    near, far = (small(depth_estimation_type="metric", max_depth=metres)(pixel_values).depth for metres in (20, 80))
    assert 0 < near.min() < near.max() < 20
    torch.testing.assert_close(4 * near, far)


@torch.inference_mode()
def test_an_image_of_no_whole_number_of_patches_is_padded_not_cut() -> None:
    """transformers drops what is beyond the last whole patch."""
    network = small()
    pixel_values = torch.randn(1, 3, 60, 75)
    padded = nn.functional.pad(pixel_values, (0, 84 - 75, 0, 70 - 60))
    depth = network(pixel_values).depth
    assert depth.shape == (1, 60, 75)
    assert torch.equal(depth, network(padded).depth[:, :60, :75])


@pytest.mark.parametrize(("stated", "kind"), [({}, "relative"), ({"depth_estimation_type": "metric"}, "metric")])
def test_a_loaded_checkpoint_gives_depth_alone_and_says_which(
    stated: dict[str, str], kind: str, tmp_path: Path
) -> None:
    config = {**SMALL, **stated}
    network, layout = depth_anything.build(config, 0)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "preprocessor_config.json").write_text('{"image_processor_type": "DPTImageProcessor"}')
    save_file(layout.to_published(network), tmp_path / "model.safetensors")
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.tasks == ("depth",)
    assert checkpoint.depth_kind == kind


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone": "facebook/dinov2-small"}, "backbone = 'facebook/dinov2-small'"),
        ({"backbone_config": {"model_type": "beit"}}, "model_type = 'beit'.*'dinov2'"),
        ({"backbone_config": {**BACKBONE, "hidden_act": "relu"}}, "hidden_act = 'relu'"),
        ({"backbone_config": {**BACKBONE, "reshape_hidden_states": True}}, "reshape_hidden_states = True"),
        ({"backbone_config": {**BACKBONE, "out_indices": [2, 4]}}, "read at 2 levels.*has 4; both must be 4"),
        ({"backbone_config": {**BACKBONE, "out_indices": [1, 2, 3, 5]}}, "has no 5 to read"),
        ({"neck_hidden_sizes": [8, 12, 16]}, "read at 4 levels.*has 3; both must be 4"),
        ({"reassemble_factors": [2, 2, 1, 0.5]}, "reassemble_factors = "),
        ({"reassemble_hidden_size": 384}, "reassemble_hidden_size = 384.*have 24"),
        ({"patch_size": 16}, "patch_size = 16.*have 14"),
        ({"head_in_index": 0}, "head_in_index = 0"),
        ({"max_depth": 80}, "max_depth = 80"),
        ({"depth_estimation_type": "disparity"}, "'disparity' is not supported; it must be 'metric' or 'relative'"),
    ],
)
def test_what_nobody_published_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        depth_anything.build({**SMALL, **change}, 0)
