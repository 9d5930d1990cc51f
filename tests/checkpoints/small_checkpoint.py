"""A small checkpoint in the transformers layout, made here."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from everymask.checkpoints.layouts import mask2former

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


def make_checkpoint(folder: Path, names: list[str], **changes: Any) -> dict[str, torch.Tensor]:
    """Writes a Mask2Former with these class names into a folder, and gives its tensors as published.

    ``changes`` go into the config.
    """
    torch.manual_seed(0)
    config = {**SMALL_CONFIG, "id2label": {str(index): name for index, name in enumerate(names)}, **changes}
    network, layout = mask2former.build(config, len(names))
    published = layout.to_published(network)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(SMALL_PREPROCESSOR))
    save_file(published, folder / "model.safetensors")
    return published
