"""Small DPT networks of every kind, as transformers describes them."""

from typing import Any

import torch
from torch import nn

from everymask.checkpoints.layouts import dpt
from everymask.checkpoints.layouts.rules import Layout
from parity import randomise

SIZES: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 40,
    "image_size": 64,
    "backbone_out_indices": [0, 1, 2, 3],
    "neck_hidden_sizes": [8, 12, 16, 24],
    "fusion_hidden_size": 16,
}
SEMANTIC = {**SIZES, "architectures": [dpt.SEMANTIC]}
DEPTH = {**SIZES, "architectures": [dpt.DEPTH]}
BOTH = {**SIZES, "architectures": [dpt.BOTH]}
BIT: dict[str, Any] = {
    **dpt.HYBRID_BIT,
    "embedding_size": 8,
    "hidden_sizes": [8, 16, 24],
    "depths": [1, 1, 2],
    "num_groups": 4,
}
STAGES = ["stage1", "stage2", "stage3", "stage4"]
DINOV2 = {
    "model_type": "dinov2",
    "hidden_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "image_size": 70,
    "out_features": STAGES,
    "reshape_hidden_states": False,
}
BEIT = {
    "model_type": "beit",
    "hidden_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 40,
    "image_size": 64,
    "out_features": STAGES,
    "reshape_hidden_states": False,
    "use_relative_position_bias": True,
}
SWINV2 = {
    "model_type": "swinv2",
    "embed_dim": 8,
    "depths": [2, 1, 2, 1],
    "num_heads": [1, 2, 2, 4],
    "image_size": 64,
    "window_size": 4,
    "out_features": STAGES,
}
HYBRID = {**DEPTH, "is_hybrid": True, "backbone_config": BIT, "neck_hidden_sizes": [8, 16, 16, 24]}
ON_SWINV2 = {**DEPTH, "backbone_config": SWINV2, "neck_hidden_sizes": [8, 16, 32, 64]}


def small(config: dict[str, Any], num_labels: int = 3) -> tuple[nn.Module, Layout]:
    torch.manual_seed(0)
    network, layout = dpt.build(config, num_labels)
    randomise(network)
    return network.eval(), layout
