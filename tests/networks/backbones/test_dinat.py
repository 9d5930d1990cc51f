"""DiNAT gives the published implementation's feature maps."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor
from transformers import DinatBackbone, DinatConfig
from transformers.models.dinat import modeling_dinat

from everymask.checkpoints.layouts.backbones import build_backbone
from everymask.errors import CheckpointError
from neighborhood_reference import products, weighted

STAGES = ["stage1", "stage2", "stage3", "stage4"]


@pytest.fixture
def transformers_without_natten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets transformers run DiNAT, with the reference in the place of NATTEN's functions.

    transformers hands over (B, W, H, heads, d), but takes back (B, heads, H, W, d), as NATTEN has it.
    """

    def as_natten(tensor: Tensor) -> Tensor:
        return tensor.permute(0, 3, 2, 1, 4)

    monkeypatch.setattr(modeling_dinat, "requires_backends", lambda *_: None)
    monkeypatch.setattr(
        modeling_dinat, "natten2dqkrpb", lambda query, key, *rest: products(as_natten(query), as_natten(key), *rest)
    )
    monkeypatch.setattr(
        modeling_dinat, "natten2dav", lambda weights, value, *rest: weighted(weights, as_natten(value), *rest)
    )


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    dilations=st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=2), min_size=4, max_size=4),
    kernel=st.sampled_from([3, 5]),
    qkv_bias=st.booleans(),
    layer_scale=st.sampled_from([0.0, 0.5]),
    batch=st.integers(1, 2),
    height=st.integers(32, 110),
    width=st.integers(32, 110),
)
def test_random_configurations_equal_transformers(
    dilations: list[list[int]],
    kernel: int,
    qkv_bias: bool,
    layer_scale: float,
    batch: int,
    height: int,
    width: int,
    tmp_path: Path,
    transformers_without_natten: None,
) -> None:
    """Maps that are no multiple of anything, and smaller than the windows."""
    config = DinatConfig(
        embed_dim=8,
        depths=[len(each) for each in dilations],
        num_heads=[1, 2, 2, 4],
        kernel_size=kernel,
        dilations=dilations,
        qkv_bias=qkv_bias,
        layer_scale_init_value=layer_scale,
        out_features=STAGES,
    )
    torch.manual_seed(height * width)
    reference = DinatBackbone(config).eval()
    for name, tensor in reference.state_dict().items():
        tensor.normal_(mean=1.0 if "norm" in name and name.endswith("weight") else 0.0, std=0.2)
    reference.save_pretrained(tmp_path)
    network, widths, layout = build_backbone(config.to_dict(), "")
    assert widths == (8, 16, 32, 64)
    published = load_file(tmp_path / "model.safetensors")
    holder = torch.nn.ModuleDict({"backbone": network})
    assert layout.published_shapes(holder) == {key: tuple(tensor.shape) for key, tensor in published.items()}
    holder.load_state_dict(layout.to_ours(published, holder))
    pixel_values = torch.randn(batch, 3, height, width)
    with torch.inference_mode():
        expected = reference(pixel_values).feature_maps
        output = network.eval()(pixel_values)
    for ours, theirs in zip(output, expected, strict=True):
        assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_act": "relu"}, "activation 'relu' is not supported; use gelu"),
        ({"depths": [3, 4, 18, 5]}, "stage 2 of the DiNAT backbone has 18 blocks but 6 dilations"),
    ],
)
def test_what_cannot_be_built_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        build_backbone({"model_type": "dinat", **changes}, "")
