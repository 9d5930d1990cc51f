"""Small checkpoints in the transformers layout, made here."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from everymask.checkpoints.layouts import mask2former

SHARED = Path(__file__).parents[2].parent / "shared"
SMALL_CONFIG: dict[str, Any] = {
    "model_type": "mask2former",
    "backbone_config": {
        "model_type": "resnet",
        "layer_type": "basic",
        "embedding_size": 8,
        "hidden_sizes": [8, 8, 16, 16],
        "depths": [1, 1, 1, 1],
    },
    "hidden_dim": 32,
    "feature_size": 32,
    "mask_feature_size": 32,
    "num_attention_heads": 4,
    "encoder_layers": 1,
    "encoder_feedforward_dim": 16,
    "decoder_layers": 2,
    "dim_feedforward": 16,
    "num_queries": 5,
}
SMALL_PREPROCESSOR = {
    "image_processor_type": "Mask2FormerImageProcessor",
    "size": {"height": 64, "width": 96},
    "size_divisor": 32,
}

MakeCheckpoint = Callable[..., dict[str, torch.Tensor]]


def small_config(names: list[str], **changes: Any) -> dict[str, Any]:
    return {**SMALL_CONFIG, "id2label": {str(i): name for i, name in enumerate(names)}, **changes}


@pytest.fixture(scope="session")
def make_checkpoint() -> MakeCheckpoint:
    """Writes a small checkpoint with these class names into a folder, and gives its tensors as published."""

    def make(folder: Path, names: list[str], **changes: Any) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        config = small_config(names, **changes)
        network, layout = mask2former.build(config, len(names))
        published = layout.to_published(network)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "preprocessor_config.json").write_text(json.dumps(SMALL_PREPROCESSOR))
        save_file(published, folder / "model.safetensors")
        return published

    return make


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden checkpoints and public configs beside the repository."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared, the golden checkpoints and public configs beside the repository")
    return SHARED
