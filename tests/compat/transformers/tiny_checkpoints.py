"""A tiny checkpoint of every family with random weights, saved by transformers: both pipelines load the same folder."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import (
    BeitConfig,
    BeitForSemanticSegmentation,
    ConvNextConfig,
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    DetrConfig,
    DetrForSegmentation,
    Dinov2Config,
    DPTConfig,
    DPTForDepthEstimation,
    DPTForSemanticSegmentation,
    EomtConfig,
    EomtForUniversalSegmentation,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    MaskFormerConfig,
    MaskFormerForInstanceSegmentation,
    OneFormerConfig,
    OneFormerForUniversalSegmentation,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ResNetConfig,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SwinConfig,
    UperNetConfig,
    UperNetForSemanticSegmentation,
)

from parity import randomise

NAMES = ("sky", "road", "car", "person", "tree")
STAGES = ["stage1", "stage2", "stage3", "stage4"]
SWIN: dict[str, Any] = {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4}
RESNET: dict[str, Any] = {"embedding_size": 8, "hidden_sizes": [8, 16, 16, 24], "depths": [1, 1, 1, 1]}
VIT: dict[str, Any] = {"hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}
MASKED_DECODER: dict[str, Any] = {
    "num_attention_heads": 4,
    "num_queries": 12,
    "encoder_layers": 1,
    "dim_feedforward": 40,
    "decoder_layers": 3,
}
DETR: dict[str, Any] = {
    "d_model": 32,
    "encoder_attention_heads": 8,
    "decoder_attention_heads": 2,
    "num_queries": 12,
    "encoder_layers": 1,
    "encoder_ffn_dim": 24,
    "decoder_layers": 2,
    "decoder_ffn_dim": 40,
}


def _detr() -> PreTrainedModel:
    backbone = ResNetConfig(**RESNET, layer_type="basic", out_features=STAGES)
    return DetrForSegmentation(DetrConfig(**DETR, backbone_config=backbone, num_labels=len(NAMES)))


def _maskformer() -> PreTrainedModel:
    config = MaskFormerConfig(
        backbone_config=SwinConfig(**SWIN, out_features=STAGES),
        decoder_config=DetrConfig(**DETR),
        fpn_feature_size=32,
        mask_feature_size=32,
        num_labels=len(NAMES),
    )
    return MaskFormerForInstanceSegmentation(config)


def _mask2former() -> PreTrainedModel:
    config = Mask2FormerConfig(
        backbone_config=SwinConfig(**SWIN, out_features=STAGES),
        feature_size=64,
        mask_feature_size=64,
        hidden_dim=64,
        encoder_feedforward_dim=24,
        **MASKED_DECODER,
        num_labels=len(NAMES),
    )
    return Mask2FormerForUniversalSegmentation(config)


def _oneformer() -> PreTrainedModel:
    config = OneFormerConfig(
        backbone_config=SwinConfig(**SWIN, out_features=STAGES),
        hidden_dim=64,
        conv_dim=64,
        mask_dim=64,
        encoder_feedforward_dim=24,
        **MASKED_DECODER,
        is_training=False,
        task_seq_len=12,
        num_labels=len(NAMES),
    )
    return OneFormerForUniversalSegmentation(config)


def _eomt() -> PreTrainedModel:
    config = EomtConfig(
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_blocks=2,
        num_queries=12,
        image_size=64,
        num_labels=len(NAMES),
    )
    network = EomtForUniversalSegmentation(config)
    network.attn_mask_probs.zero_()
    return network


def _segformer() -> PreTrainedModel:
    sizes = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 20, 32], "num_attention_heads": [1, 2, 5, 8]}
    return SegformerForSemanticSegmentation(SegformerConfig(**sizes, decoder_hidden_size=16, num_labels=len(NAMES)))


def _upernet() -> PreTrainedModel:
    backbone = ConvNextConfig(hidden_sizes=[8, 12, 16, 24], depths=[1, 1, 1, 1], out_features=STAGES)
    sizes = {"hidden_size": 16, "auxiliary_in_channels": 16, "auxiliary_channels": 8}
    return UperNetForSemanticSegmentation(UperNetConfig(backbone_config=backbone, **sizes, num_labels=len(NAMES)))


def _beit() -> PreTrainedModel:
    config = BeitConfig(
        **VIT, image_size=64, out_indices=[1, 2, 3, 4], use_relative_position_bias=True, num_labels=len(NAMES)
    )
    return BeitForSemanticSegmentation(config)


NECK: dict[str, Any] = {
    "image_size": 64,
    "backbone_out_indices": [0, 1, 2, 3],
    "neck_hidden_sizes": [8, 12, 16, 24],
    "fusion_hidden_size": 16,
}


def _dpt() -> PreTrainedModel:
    return DPTForSemanticSegmentation(DPTConfig(**VIT, **NECK, num_labels=len(NAMES)))


def _dpt_depth() -> PreTrainedModel:
    return DPTForDepthEstimation(DPTConfig(**VIT, **NECK))


def _depth_anything() -> PreTrainedModel:
    backbone = Dinov2Config(
        hidden_size=24,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=70,
        patch_size=14,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=24, neck_hidden_sizes=[8, 12, 16, 24], fusion_hidden_size=16
    )
    return DepthAnythingForDepthEstimation(config)


@dataclass(frozen=True)
class Tiny:
    """``build``: the network; ``processor``: the content of preprocessor_config.json; ``files``: what else is there.

    ``outputs``: the names of what the network says; of a network with queries the classes come first.
    """

    build: Callable[[], PreTrainedModel]
    processor: dict[str, Any]
    outputs: tuple[str, ...]
    files: dict[str, Any] = field(default_factory=dict)


def _processor(kind: str, **content: Any) -> dict[str, Any]:
    return {"image_processor_type": f"{kind}ImageProcessor", "resample": 2, **content}


SHORTEST = {"size": {"shortest_edge": 64, "longest_edge": 96}}
SQUARE = {"size": {"height": 64, "width": 64}}
EOMT_SQUARE = {"size": {"shortest_edge": 64, "longest_edge": 64}}
EOMT_EDGE = {"size": {"shortest_edge": 64, "longest_edge": None}}
CLASSES = {str(index): {"isthing": int(name in ("car", "person")), "name": name} for index, name in enumerate(NAMES)}

QUERIES = ("class_queries_logits", "masks_queries_logits")

TINY: dict[str, Tiny] = {
    "detr": Tiny(_detr, _processor("Detr", **SHORTEST), ("logits", "pred_masks")),
    "maskformer": Tiny(_maskformer, _processor("MaskFormer", **SHORTEST, size_divisor=32), QUERIES),
    "mask2former": Tiny(_mask2former, _processor("Mask2Former", **SHORTEST, size_divisor=32), QUERIES),
    "oneformer": Tiny(
        _oneformer,
        _processor("OneFormer", **SHORTEST, class_info_file="classes.json", num_labels=len(NAMES), num_text=6),
        QUERIES,
        {"classes.json": CLASSES},
    ),
    "eomt": Tiny(_eomt, _processor("Eomt", **EOMT_SQUARE, do_pad=True, do_split_image=False), QUERIES),
    "eomt-windows": Tiny(_eomt, _processor("Eomt", **EOMT_EDGE, do_pad=False, do_split_image=True), QUERIES),
    "segformer": Tiny(_segformer, _processor("Segformer", **SQUARE), ("logits",)),
    "upernet": Tiny(_upernet, _processor("Segformer", **SQUARE), ("logits",)),
    "beit": Tiny(_beit, _processor("Beit", **SQUARE), ("logits",)),
    "dpt": Tiny(_dpt, _processor("DPT", **SQUARE), ("logits",)),
    "dpt-depth": Tiny(_dpt_depth, _processor("DPT", **SQUARE), ("predicted_depth",)),
    "depth-anything": Tiny(
        _depth_anything,
        _processor("DPT", size={"height": 70, "width": 70}, keep_aspect_ratio=True, ensure_multiple_of=14),
        ("predicted_depth",),
    ),
}


@torch.no_grad()
def save_tiny(name: str, folder: Path) -> Path:
    """Writes the files of a checkpoint; the same weights every time."""
    tiny = TINY[name]
    torch.manual_seed(0)
    network = tiny.build().eval()
    randomise(network)
    for parameter in network.parameters():
        if parameter.dim() == 4:  # so that maps vary over the image
            parameter.mul_(5 * parameter[0].numel() ** -0.5)
    if "masks_queries_logits" in tiny.outputs or "pred_masks" in tiny.outputs:
        _tell_queries_apart(network, tiny)
    if tiny.outputs != ("predicted_depth",):
        network.config.id2label = dict(enumerate(NAMES))
        network.config.label2id = {label: index for index, label in enumerate(NAMES)}
    network.save_pretrained(folder)
    processor = dict(tiny.processor)
    if tiny.files:
        processor["repo_path"] = str(folder)  # where transformers looks for the classes
        _save_tokenizer(folder)
    for file, content in {"preprocessor_config.json": processor, **tiny.files}.items():
        (folder / file).write_text(json.dumps(content))
    return folder


def _tell_queries_apart(network: PreTrainedModel, tiny: Tiny) -> None:
    """Changes weights until queries have different classes and masks: random ones all say the same."""
    for key, parameter in network.named_parameters():
        if parameter.dim() != 2:
            continue
        if re.search(r"quer.*(embed|feature)|^query", key):
            parameter.normal_(std=2.0)
        else:
            attends = re.search(r"[qk]_proj|in_proj|query|key", key)
            parameter.normal_(std=(3.0 if attends else 1.5) * parameter.shape[1] ** -0.5)
    if isinstance(network, DetrForSegmentation):
        # Queries differ in their attention alone, the last channels, which the shared features would drown.
        head = network.mask_head
        head.conv1.conv.weight[:, : DETR["d_model"]] *= 0.1
        head.conv1.conv.weight[:, DETR["d_model"] :] *= 300
        for stage in head.fpn_stages:
            stage.fpn_adapter.weight.mul_(0.1)
        head.output_conv.weight.mul_(8)
        head.output_conv.bias.fill_(-4)
    [classifier] = [
        module
        for key, module in network.named_modules()
        if key.endswith(("class_predictor", "class_labels_classifier", "class_embed")) and isinstance(module, nn.Linear)
    ]
    tokens = {"task_inputs": torch.arange(12)[None]} if tiny.files else {}
    logits = network(torch.randn(1, 3, 64, 64), **tokens)[tiny.outputs[0]][0]  # (Q, C + 1)
    gain = 2.5 / logits.std(0).mean()
    classifier.bias.copy_((classifier.bias - logits.mean(0)) * gain)
    classifier.bias[-1] -= 1  # few queries say "no object"
    classifier.weight.mul_(gain)


def _save_tokenizer(folder: Path) -> None:
    """One that knows the words of OneFormer's tasks; padding has the number 0, as it is published."""
    words = ["<pad>", "<s>", "</s>", "the", "task", "is", "panoptic", "instance", "semantic"]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    marks = [("<s>", 1), ("</s>", 2)]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=marks)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<pad>").save_pretrained(folder)
