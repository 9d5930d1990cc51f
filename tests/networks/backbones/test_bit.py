"""BiT gives the published implementation's feature maps."""

from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BitBackbone, BitConfig

from everymask.checkpoints.layouts import dpt
from everymask.checkpoints.layouts.rules import Layout
from everymask.networks.backbones.bit import BiT, reduced_width
from parity import randomise, relative_error

STAGES = ["stage1", "stage2", "stage3"]
PREFIX = "dpt.embeddings.backbone."
# A hybrid DPT around it, for the layout of its keys.
HYBRID = {"hidden_size": 8, "num_attention_heads": 1, "intermediate_size": 8, "image_size": 32, "is_hybrid": True}


def built(bit: dict[str, Any]) -> tuple[torch.nn.Module, Layout]:
    widths = [*bit["hidden_sizes"][:2], 8, 8]
    config = {**HYBRID, "backbone_config": bit, "neck_hidden_sizes": widths, "fusion_hidden_size": 8}
    return dpt.build({**config, "architectures": [dpt.DEPTH]}, 0)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    stem=st.sampled_from([8, 16]),
    widths=st.lists(st.sampled_from([16, 24, 40, 104]), min_size=3, max_size=3),
    depths=st.lists(st.integers(1, 3), min_size=3, max_size=3),
    groups=st.sampled_from([1, 2, 8]),
    height=st.integers(32, 70),
    width=st.integers(32, 70),
)
def test_random_configurations_equal_transformers_at_any_size(
    stem: int, widths: list[int], depths: list[int], groups: int, height: int, width: int
) -> None:
    config: dict[str, Any] = {
        "embedding_size": stem,
        "hidden_sizes": widths,
        "depths": depths,
        "num_groups": groups,
        "out_features": STAGES,
        "layer_type": "bottleneck",
        "global_padding": "same",
        "embedding_dynamic_padding": True,
    }
    torch.manual_seed(height * width)
    reference = BitBackbone(BitConfig(**config)).eval()
    randomise(reference)
    network, layout = built(config)
    published = {**layout.to_published(network), **{PREFIX + k: v for k, v in reference.state_dict().items()}}
    network.load_state_dict(layout.to_ours(published, network))
    bit = network.eval().backbone.bit
    assert isinstance(bit, BiT)
    pixel_values = torch.randn(2, 3, height, width)
    with torch.inference_mode():
        expected = reference(pixel_values).feature_maps
        maps = bit(pixel_values)
    assert tuple(each.shape[1] for each in maps) == bit.widths == tuple(widths)
    for ours, theirs in zip(maps, expected, strict=True):
        assert relative_error(ours, theirs) <= 1e-4


def test_bottlenecks_are_a_quarter_in_multiples_of_8_never_much_less() -> None:
    assert [reduced_width(width) for width in (16, 256, 1024, 40, 44, 104)] == [8, 64, 256, 16, 16, 24]
