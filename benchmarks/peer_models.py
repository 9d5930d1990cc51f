"""The networks that are compared: transformers' own classes at the sizes of public checkpoints, with random weights.

``save`` writes a folder as the Hub has it; everymask and transformers both load from there.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedModel

from everymask.networks.outputs import MaskQueries, Output

TASKS = ("panoptic", "instance", "semantic")
KEPT = 10
"""How many queries are kept: with random weights no query is sure of anything."""


@dataclass(frozen=True)
class PeerModel:
    """``title``: network and input, as the table names them. ``build``: the network, with random weights.

    ``processor``: the content of preprocessor_config.json, such that a photograph of 640 x 480 comes to ``size``.
    ``task``: what is compared. ``outputs``: what its post-processing reads. ``labels``: the number of classes.
    ``files``: what else the folder holds, by name.
    """

    title: str
    build: Callable[[], PreTrainedModel]
    processor: dict[str, Any]
    size: tuple[int, int]
    task: str
    outputs: tuple[str, ...]
    labels: int
    files: dict[str, Any] = field(default_factory=dict)


def _swin_tiny(**options: Any) -> transformers.SwinConfig:
    stages = ["stage1", "stage2", "stage3", "stage4"]
    return transformers.SwinConfig(depths=[2, 2, 6, 2], out_features=stages, drop_path_rate=0.3, **options)


def _mask2former() -> PreTrainedModel:
    config = transformers.Mask2FormerConfig(backbone_config=_swin_tiny(), num_labels=133)
    return transformers.Mask2FormerForUniversalSegmentation(config)


def _oneformer() -> PreTrainedModel:
    config = transformers.OneFormerConfig(backbone_config=_swin_tiny(), num_labels=150, is_training=False)
    return transformers.OneFormerForUniversalSegmentation(config)


def _maskformer() -> PreTrainedModel:
    config = transformers.MaskFormerConfig(
        backbone_config=_swin_tiny(), decoder_config=transformers.DetrConfig(num_queries=100), num_labels=133
    )
    return transformers.MaskFormerForInstanceSegmentation(config)


def _detr() -> PreTrainedModel:
    """Its backbone is transformers' own, not timm's."""
    backbone = transformers.ResNetConfig(out_features=["stage1", "stage2", "stage3", "stage4"])
    return transformers.DetrForSegmentation(transformers.DetrConfig(backbone_config=backbone, num_labels=250))


def _segformer() -> PreTrainedModel:
    """The configuration is that of B0 where nothing else is said."""
    return transformers.SegformerForSemanticSegmentation(transformers.SegformerConfig(num_labels=150))


def _upernet() -> PreTrainedModel:
    backbone = transformers.ConvNextConfig(
        hidden_sizes=[96, 192, 384, 768], depths=[3, 3, 9, 3], out_features=["stage1", "stage2", "stage3", "stage4"]
    )
    config = transformers.UperNetConfig(backbone_config=backbone, auxiliary_in_channels=384, num_labels=150)
    return transformers.UperNetForSemanticSegmentation(config)


def _dpt() -> PreTrainedModel:
    config = transformers.DPTConfig(
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        backbone_out_indices=[5, 11, 17, 23],
        neck_hidden_sizes=[256, 512, 1024, 1024],
        use_batch_norm_in_fusion_residual=True,
        num_labels=150,
    )
    return transformers.DPTForSemanticSegmentation(config)


def _eomt() -> PreTrainedModel:
    """The configuration is that of EoMT-L at 640 where nothing else is said."""
    return transformers.EomtForUniversalSegmentation(transformers.EomtConfig(num_labels=133))


def _processor(kind: str, height: int, width: int, **options: Any) -> dict[str, Any]:
    return {"image_processor_type": kind, "size": {"height": height, "width": width}, "resample": 2, **options}


_QUERIES = ("class_queries_logits", "masks_queries_logits")
_SHORTEST = {"size": {"shortest_edge": 800, "longest_edge": 1333}, "size_divisor": 32, "num_labels": 133}

MODELS: dict[str, PeerModel] = {
    "mask2former": PeerModel(
        "Mask2Former Swin-T 800x1088",
        _mask2former,
        {"image_processor_type": "Mask2FormerImageProcessor", "resample": 2, **_SHORTEST},
        (800, 1088),
        "panoptic",
        _QUERIES,
        133,
    ),
    "mask2former-384": PeerModel(
        "Mask2Former Swin-T 384x384",
        _mask2former,
        _processor("Mask2FormerImageProcessor", 384, 384, size_divisor=32, num_labels=133),
        (384, 384),
        "panoptic",
        _QUERIES,
        133,
    ),
    "oneformer": PeerModel(
        "OneFormer Swin-T 800x1088",
        _oneformer,
        _processor("OneFormerImageProcessor", 800, 1088, class_info_file="classes.json", num_labels=150, num_text=134),
        (800, 1088),
        "semantic",  # its panoptic post-processing fails in transformers 5.23 where torchvision is not installed
        _QUERIES,
        150,
        {"classes.json": {str(index): {"isthing": index % 2, "name": f"class {index}"} for index in range(150)}},
    ),
    "detr": PeerModel(
        "DETR-R50 panoptic 800x1066",
        _detr,
        {"image_processor_type": "DetrImageProcessor", "size": {"shortest_edge": 800, "longest_edge": 1333}},
        (800, 1066),
        "panoptic",
        ("logits", "pred_masks"),
        250,
    ),
    "maskformer": PeerModel(
        "MaskFormer Swin-T 800x1088",
        _maskformer,
        {"image_processor_type": "MaskFormerImageProcessor", "resample": 2, **_SHORTEST},
        (800, 1088),
        "panoptic",
        _QUERIES,
        133,
    ),
    "segformer": PeerModel(
        "SegFormer-B0 512x512",
        _segformer,
        _processor("SegformerImageProcessor", 512, 512),
        (512, 512),
        "semantic",
        ("logits",),
        150,
    ),
    "upernet": PeerModel(
        "UPerNet ConvNeXt-T 512x512",
        _upernet,
        _processor("SegformerImageProcessor", 512, 512),
        (512, 512),
        "semantic",
        ("logits",),
        150,
    ),
    "dpt": PeerModel(
        "DPT-Large ADE 480x480",
        _dpt,
        _processor("DPTImageProcessor", 480, 480, image_mean=[0.5] * 3, image_std=[0.5] * 3),
        (480, 480),
        "semantic",
        ("logits",),
        150,
    ),
    "eomt": PeerModel(
        "EoMT-L 640x640",
        _eomt,
        {
            "image_processor_type": "EomtImageProcessor",
            "size": {"shortest_edge": 640, "longest_edge": 640},
            "do_pad": True,
            "resample": 2,
        },
        (640, 640),
        "panoptic",
        _QUERIES,
        133,
    ),
}


def save(model: PeerModel, folder: Path) -> None:
    """Writes config.json, model.safetensors and preprocessor_config.json, and a tokenizer where one is needed."""
    torch.manual_seed(0)
    network = model.build()
    network.config.id2label = {index: f"class {index}" for index in range(model.labels)}
    network.config.label2id = {label: index for index, label in network.config.id2label.items()}
    network.save_pretrained(folder)
    processor = dict(model.processor)
    if model.files:
        processor["repo_path"] = str(folder)  # where transformers looks for the classes
        _write_tokenizer(folder)
    for name, content in {"preprocessor_config.json": processor, **model.files}.items():
        (folder / name).write_text(json.dumps(content))


def threshold_of(output: Output) -> float:
    """The score of the eleventh query whose best class is an object: above it are ten."""
    assert isinstance(output, MaskQueries)
    probabilities = output.class_logits[0].float().softmax(-1)  # (Q, C + 1)
    score = probabilities[:, :-1].amax(-1)
    score = score[score >= probabilities[:, -1]].sort(descending=True).values
    if len(score) <= KEPT:
        raise SystemExit(f"only {len(score)} of the queries are objects: the random weights need another seed")
    return float(score[KEPT])  # what is kept exceeds the threshold


def _write_tokenizer(folder: Path) -> None:
    """One that knows the words of OneFormer's tasks; how they are numbered changes no time."""
    words = ["<pad>", "<s>", "</s>", "the", "task", "is", *TASKS]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    marks = [("<s>", 1), ("</s>", 2)]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=marks)
    tokenizer.save(str(folder / "tokenizer.json"))
