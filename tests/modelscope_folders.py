"""Small folders as ModelScope publishes them, with what its own code finds in an image."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

FIXTURES = Path(__file__).parent / "fixtures"
VIT_ADAPTER = FIXTURES / "vit_adapter" / "tiny-a"
MASK2FORMER = FIXTURES / "mask2former_mmdet"

Kind = Literal["swin", "resnet", "easycv"]
KINDS: tuple[Kind, ...] = ("swin", "resnet", "easycv")
"""Mask2Former under mmdet's names on Swin and on ResNet, and the latter under EasyCV's."""


@dataclass(frozen=True)
class Answer:
    """An image (H, W, 3) uint8, blue, green, red, and ModelScope's answer: names, and masks (N, H, W) bool."""

    image: NDArray[np.uint8]
    labels: list[str]
    masks: NDArray[np.bool_]


def save_vit_adapter(folder: Path) -> Path:
    """Saves the ViT-Adapter of the fixtures as ModelScope would."""
    return _save(folder, VIT_ADAPTER, "image-semantic-segmentation", {})


def vit_adapter_answer() -> Answer:
    expected = load_file(VIT_ADAPTER / "expected.safetensors")
    return Answer(
        load_file(VIT_ADAPTER / "input.safetensors")["image_bgr"].numpy(),
        [f"LABEL_{index}" for index in expected["image.result_label_ids"].tolist()],
        expected["image.result_masks"].numpy().astype(bool),
    )


def save_mask2former(folder: Path, kind: Kind, pipeline: str = "image-panoptic-segmentation") -> Path:
    """Saves a Mask2Former of the fixtures as ModelScope would, for one of its pipelines."""
    return _save(folder, fixture_of(kind), pipeline, easycv_names() if kind == "easycv" else {})


def mask2former_answer(kind: Kind, task: str) -> Answer:
    expected = load_file(fixture_of(kind) / "expected.safetensors")
    labels = json.loads((fixture_of(kind) / "labels.json").read_text())[task]
    return Answer(expected["image_bgr"].numpy(), labels, expected[f"{task}.masks"].numpy().astype(bool))


def fixture_of(kind: Kind) -> Path:
    """The folder of the fixtures that has the numbers for ``kind``."""
    return MASK2FORMER / ("swin" if kind == "swin" else "resnet")


def easycv_names() -> dict[str, str]:
    """EasyCV's name of every tensor of a head, by mmdet's."""
    lines = (MASK2FORMER / "easycv_keys.txt").read_text().splitlines()
    return {mmdet: easycv for easycv, mmdet in map(str.split, lines)}


def _save(folder: Path, fixture: Path, pipeline: str, names: Mapping[str, str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    stored = {names.get(key, key): each for key, each in load_file(fixture / "model.safetensors").items()}
    tensors = {key: each.float() if each.is_floating_point() else each for key, each in stored.items()}
    torch.save({"meta": {}, "state_dict": tensors}, folder / "pytorch_model.pt")
    configuration = {"task": "image-segmentation", "pipeline": {"type": pipeline}}
    (folder / "configuration.json").write_text(json.dumps(configuration))
    (folder / "config.json").write_text((fixture / "config.json").read_text())
    return folder
