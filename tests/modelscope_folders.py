"""Small folders as ModelScope publishes them, with what its own code finds in an image."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

FIXTURES = Path(__file__).parent / "fixtures"
VIT_ADAPTER = FIXTURES / "vit_adapter" / "tiny-a"


@dataclass(frozen=True)
class Answer:
    """An image (H, W, 3) uint8, blue, green, red, and ModelScope's answer: names, and masks (N, H, W) bool."""

    image: NDArray[np.uint8]
    labels: list[str]
    masks: NDArray[np.bool_]


def save_vit_adapter(folder: Path) -> Path:
    """Saves the ViT-Adapter of the fixtures as ModelScope would."""
    return _save(folder, VIT_ADAPTER, "image-semantic-segmentation")


def vit_adapter_answer() -> Answer:
    expected = load_file(VIT_ADAPTER / "expected.safetensors")
    return Answer(
        load_file(VIT_ADAPTER / "input.safetensors")["image_bgr"].numpy(),
        [f"LABEL_{index}" for index in expected["image.result_label_ids"].tolist()],
        expected["image.result_masks"].numpy().astype(bool),
    )


def _save(folder: Path, fixture: Path, pipeline: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        key: each.float() if each.is_floating_point() else each
        for key, each in load_file(fixture / "model.safetensors").items()
    }
    torch.save({"meta": {}, "state_dict": tensors}, folder / "pytorch_model.pt")
    configuration = {"task": "image-segmentation", "pipeline": {"type": pipeline}}
    (folder / "configuration.json").write_text(json.dumps(configuration))
    (folder / "config.json").write_text((fixture / "config.json").read_text())
    return folder
