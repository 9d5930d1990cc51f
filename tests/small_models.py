"""Small checkpoints of networks that score pixels or give depth, with random weights, as folders."""

from pathlib import Path
from typing import Any

import torch

from everymask.checkpoints.families import FAMILIES
from everymask.checkpoints.save import save_checkpoint
from everymask.labels import LabelSet
from parity import randomise

LABELS = LabelSet(("sky", "road", "car", "person"), (False, False, True, True), ((9, 9, 200), (90, 90, 90), None, None))
NO_LABELS = LabelSet((), (), ())

SEGFORMER = {
    "model_type": "segformer",
    "architectures": ["SegformerForSemanticSegmentation"],
    "depths": [1, 1, 1, 1],
    "hidden_sizes": [8, 16, 20, 32],
    "num_attention_heads": [1, 2, 5, 8],
    "decoder_hidden_size": 16,
}
SEGFORMER_PROCESSOR = {"image_processor_type": "SegformerImageProcessor", "size": {"height": 64, "width": 64}}
DEPTH_ANYTHING: dict[str, Any] = {
    "model_type": "depth_anything",
    "architectures": ["DepthAnythingForDepthEstimation"],
    "backbone_config": {
        "model_type": "dinov2",
        "hidden_size": 24,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "image_size": 70,
        "patch_size": 14,
        "out_indices": [1, 2, 3, 4],
        "reshape_hidden_states": False,
    },
    "reassemble_hidden_size": 24,
    "neck_hidden_sizes": [8, 12, 16, 24],
    "fusion_hidden_size": 16,
}
METRIC = {**DEPTH_ANYTHING, "depth_estimation_type": "metric", "max_depth": 20}
DEPTH_PROCESSOR = {
    "image_processor_type": "DPTImageProcessor",
    "size": {"height": 98, "width": 98},
    "keep_aspect_ratio": True,
    "ensure_multiple_of": 14,
}
DPT_BOTH = {
    "model_type": "dpt",
    "architectures": ["DPTForSemanticSegmentationAndDepth"],
    "hidden_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 64,
    "patch_size": 16,
    "backbone_out_indices": [0, 1, 2, 3],
    "neck_hidden_sizes": [8, 8, 16, 16],
    "fusion_hidden_size": 16,
    "use_batch_norm_in_fusion_residual": True,
}
DPT_PROCESSOR = {"image_processor_type": "DPTImageProcessor", "size": {"height": 64, "width": 64}, "resample": 2}


def save_small(folder: Path, config: dict[str, Any], processor: dict[str, Any]) -> Path:
    """Saves a network of ``config`` with random weights, such that its maps vary over the image."""
    torch.manual_seed(0)
    family = FAMILIES[config["model_type"]]
    tasks = family.tasks(config)
    labels = NO_LABELS if tasks == ("depth",) else LABELS
    network, layout = family.build(config, len(labels))
    randomise(network)
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data *= 5 * parameter[0].numel() ** -0.5
    save_checkpoint(folder, network, layout, config, processor, labels=labels, tasks=tasks, license="CC0 1.0")
    return folder
