"""A small configuration of every family that can be trained, and drawn images to train it on."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from everymask.checkpoints import Checkpoint, load_checkpoint
from everymask.checkpoints.families import FAMILIES
from everymask.checkpoints.save import save_checkpoint
from everymask.datasets.dataset import Conventions, Truth, TruthSegment
from everymask.geometry import Size
from everymask.labels import LabelSet
from everymask.segmentation import Region, Task
from everymask.training.adaptation import adapt
from everymask.training.defaults import default_recipe
from everymask.training.job import TrainingJob
from everymask.training.recipe import changed

STAGES = ["stage1", "stage2", "stage3", "stage4"]
RESNET = {
    "model_type": "resnet",
    "layer_type": "basic",
    "embedding_size": 8,
    "hidden_sizes": [8, 16, 24, 32],
    "depths": [1, 1, 1, 1],
    "out_features": STAGES,
}
SWIN = {
    "model_type": "swin",
    "embed_dim": 8,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 1, 2, 2],
    "window_size": 4,
    "out_features": STAGES,
}
DECODER = {
    "num_queries": 8,
    "hidden_dim": 64,
    "num_attention_heads": 4,
    "encoder_layers": 1,
    "encoder_feedforward_dim": 24,
    "decoder_layers": 3,
    "dim_feedforward": 40,
    "dropout": 0.0,
}
VIT = {"hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 40, "image_size": 64}

CONFIGS: dict[str, dict[str, Any]] = {
    "mask2former": {
        **DECODER,
        "model_type": "mask2former",
        "architectures": ["Mask2FormerForUniversalSegmentation"],
        "feature_size": 64,
        "mask_feature_size": 32,
        "backbone_config": RESNET,
    },
    "maskformer": {
        "model_type": "maskformer",
        "architectures": ["MaskFormerForInstanceSegmentation"],
        "fpn_feature_size": 64,
        "mask_feature_size": 32,
        "backbone_config": SWIN,
        "decoder_config": {
            "model_type": "detr",
            "num_queries": 8,
            "d_model": 32,
            "encoder_layers": 0,
            "decoder_attention_heads": 4,
            "decoder_layers": 2,
            "decoder_ffn_dim": 40,
            "dropout": 0.0,
        },
    },
    "oneformer": {
        **DECODER,
        "model_type": "oneformer",
        "architectures": ["OneFormerForUniversalSegmentation"],
        "conv_dim": 64,
        "mask_dim": 64,
        "backbone_config": SWIN,
        "text_encoder_width": 64,
        "text_encoder_num_layers": 1,
        "text_encoder_n_ctx": 2,
        "text_encoder_vocab_size": 32,
    },
    "eomt": {
        "model_type": "eomt",
        "architectures": ["EomtForUniversalSegmentation"],
        **VIT,
        "num_blocks": 2,
        "num_queries": 8,
    },
    "detr": {
        "model_type": "detr",
        "architectures": ["DetrForSegmentation"],
        "use_timm_backbone": False,
        "backbone_config": RESNET,
        "d_model": 64,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_ffn_dim": 24,
        "decoder_ffn_dim": 24,
        "num_queries": 8,
        "dropout": 0.0,
    },
    "segformer": {
        "model_type": "segformer",
        "architectures": ["SegformerForSemanticSegmentation"],
        "depths": [1, 1, 1, 1],
        "hidden_sizes": [8, 16, 20, 24],
        "num_attention_heads": [1, 2, 5, 3],
        "decoder_hidden_size": 16,
        "classifier_dropout_prob": 0.0,
    },
    "upernet": {
        "model_type": "upernet",
        "architectures": ["UperNetForSemanticSegmentation"],
        "hidden_size": 16,
        "auxiliary_in_channels": 24,
        "auxiliary_channels": 8,
        "backbone_config": RESNET,
    },
    "beit": {
        "model_type": "beit",
        "architectures": ["BeitForSemanticSegmentation"],
        **VIT,
        "out_indices": [1, 2, 3, 4],
        "use_relative_position_bias": True,
        "auxiliary_channels": 16,
    },
    "dpt": {
        "model_type": "dpt",
        "architectures": ["DPTForSemanticSegmentation"],
        **VIT,
        "backbone_out_indices": [0, 1, 2, 3],
        "neck_hidden_sizes": [8, 8, 16, 16],
        "fusion_hidden_size": 16,
        "semantic_classifier_dropout": 0.0,
    },
}
SQUARE = {"height": 64, "width": 64}
PROCESSORS: dict[str, dict[str, Any]] = {
    "mask2former": {"image_processor_type": "Mask2FormerImageProcessor", "size": SQUARE, "size_divisor": 32},
    "maskformer": {"image_processor_type": "MaskFormerImageProcessor", "size": SQUARE, "size_divisor": 32},
    "oneformer": {"image_processor_type": "OneFormerImageProcessor", "size": SQUARE, "class_info_file": ""},
    "eomt": {
        "image_processor_type": "EomtImageProcessor",
        "size": {"shortest_edge": 64, "longest_edge": 64},
        "do_pad": True,
    },
    "detr": {"image_processor_type": "DetrImageProcessor", "size": SQUARE},
    "segformer": {"image_processor_type": "SegformerImageProcessor", "size": SQUARE, "do_reduce_labels": True},
    "upernet": {"image_processor_type": "SegformerImageProcessor", "size": SQUARE},
    "beit": {"image_processor_type": "BeitImageProcessor", "size": SQUARE},
    "dpt": {"image_processor_type": "DPTImageProcessor", "size": SQUARE, "resample": 2},
}
SOURCE_LABELS = LabelSet(("sky", "road", "car"), (False, False, True), (None, None, None))
LABELS = LabelSet(
    ("background", "red box", "green box", "blue box"),
    (False, True, True, True),
    ((60, 60, 60), (200, 40, 40), (40, 200, 40), (40, 40, 200)),
)


def save_source(folder: Path, family: str, labels: LabelSet = SOURCE_LABELS) -> Path:
    """A checkpoint with random weights to start from, as a folder."""
    torch.manual_seed(0)
    config = CONFIGS[family]
    network, layout = FAMILIES[config["model_type"]].build(config, len(labels))
    tasks = FAMILIES[config["model_type"]].tasks(config)
    save_checkpoint(folder, network, layout, config, PROCESSORS[family], labels=labels, tasks=tasks, license="MIT")
    if family == "oneformer":
        write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path) -> None:
    """A tokenizer of a few words; the mark of the end has the largest number, as CLIP's has."""
    words = ["unknown", "the", "task", "is", "panoptic", "instance", "semantic", "a", "an", "photo", "with"]
    words += ["background", "red", "green", "blue", "box", "start", "end"]
    numbers = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="unknown"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    marks = [(mark, numbers[mark]) for mark in ("start", "end")]
    tokenizer.post_processor = processors.TemplateProcessing(single="start $A end", special_tokens=marks)
    tokenizer.save(str(folder / "tokenizer.json"))


def source(folder: Path, family: str, labels: LabelSet = SOURCE_LABELS) -> Checkpoint:
    return load_checkpoint(save_source(folder, family, labels))


SMALL = Size(64, 64)
FEW_POINTS = {"masks": {"sampling": {"num_points": 256}}}
BOXES = Conventions((), 0, "every box is an instance")


@dataclass(frozen=True)
class DrawnData:
    """Images of ``boxes`` coloured boxes on a grey ground, drawn from the number of the image; as a DataSet is."""

    count: int
    size: Size = SMALL
    boxes: int = 3
    name: str = "drawn boxes"
    labels: LabelSet = LABELS
    tasks: tuple[Task, ...] = ("panoptic", "instance", "semantic")
    conventions: Conventions = BOXES

    @property
    def names(self) -> Sequence[str]:
        return [f"drawn-{index}" for index in range(self.count)]

    def _id_map(self, index: int) -> tuple[NDArray[np.int32], list[int]]:
        """Id 1 is the ground, then the boxes, without those that later ones cover whole."""
        random = np.random.default_rng(index)
        height, width = self.size
        id_map, classes = np.ones((height, width), np.int32), [0]
        for _ in range(self.boxes):
            top, left = random.integers(0, height - 8), random.integers(0, width - 8)
            rows, columns = random.integers(8, max(height // 2, 9)), random.integers(8, max(width // 2, 9))
            classes.append(int(random.integers(1, len(self.labels))))
            id_map[top : top + rows, left : left + columns] = len(classes)
        present = np.unique(id_map)
        renumbered = np.zeros(len(classes) + 1, np.int32)
        renumbered[present] = np.arange(1, len(present) + 1)
        return renumbered[id_map], [classes[each - 1] for each in present]

    def read_image(self, index: int) -> NDArray[np.uint8]:
        id_map, classes = self._id_map(index)
        colors = np.array([(0, 0, 0), *(self.labels.colors[each] for each in classes)], np.uint8)
        noise = np.random.default_rng(index).integers(-20, 20, (*self.size, 3))
        return (colors[id_map].astype(np.int64) + noise).clip(0, 255).astype(np.uint8)

    def read_truth(self, index: int) -> Truth:
        id_map, classes = self._id_map(index)
        segments = [
            TruthSegment(each, Region(id_map, number), int((id_map == number).sum()))
            for number, each in enumerate(classes, 1)
        ]
        return Truth(self.size, tuple(segments), id_map)

    def source(self, index: int) -> str:
        return self.names[index]


def job_for(
    folder: Path,
    family: str,
    *,
    images: int = 8,
    held_out: int = 0,
    devices: int = 1,
    resume: bool = False,
    state_interval: int = 250,
    data: DrawnData | None = None,
    **settings: Any,
) -> TrainingJob:
    """A run of a small network on drawn boxes in folder/run, 3 steps of 2 images without ``settings`` of the recipe."""
    task: Task = "panoptic" if "num_queries" in str(CONFIGS[family]) else "semantic"
    start = adapt(source(folder / "start", family), LABELS, task, seed=0)
    small: dict[str, Any] = {
        "steps": 3,
        "batch_size": 2,
        "crop": [64, 64],
        "precision": "32-true",
        "learning_rate": 1e-3,
    }
    recipe = default_recipe(start.config, task, start.preprocessing, LABELS)
    if recipe.loss.masks is not None and recipe.loss.masks.sampling is not None:
        small["loss"] = FEW_POINTS
    recipe = changed(recipe, {**small, **settings})
    return TrainingJob(
        start,
        data or DrawnData(images),
        DrawnData(held_out, name="held out") if held_out else None,
        task,
        recipe,
        folder / "run",
        license="MIT",
        devices=devices,
        resume=resume,
        state_interval=state_interval,
    )


def figures(folder: Path) -> list[dict[str, str]]:
    """What the run of ``job_for`` in a folder said of its steps, as text."""
    with (folder / "run" / "steps.csv").open(newline="") as opened:
        return list(csv.DictReader(opened))
