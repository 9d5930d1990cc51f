"""Mask2Former as it is saved with mmcv: by mmdet (ModelScope's Swin-L and its own models) and EasyCV (its ResNet-50).

The networks are those of transformers' configurations; only names, files and the preparation of images differ.
"""

import math
from collections.abc import Mapping
from typing import Any

from everymask.checkpoints.layouts import easycv, mmdet
from everymask.checkpoints.layouts.backbones import torchvision_resnet_rules
from everymask.checkpoints.layouts.rules import Layout
from everymask.errors import CheckpointError
from everymask.labels import label_set

BACKBONE, MMDET_HEAD, EASYCV_HEAD = "backbone.", "panoptic_head.", "head."
LABELS = {133: "coco-panoptic", 80: "coco-instance"}
"""The label sets of the published networks, by the number of classes."""
EDGES = (800, 1333)
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of the colours red, green and blue in 0..255

_CLASSES = (MMDET_HEAD + "cls_embed.weight", EASYCV_HEAD + "predictor.class_embed.weight")


def layouts(backbone: str) -> tuple[Layout, ...]:
    """The layouts of a network on ``backbone``, transformers' name of its kind; none where no file is published."""
    if backbone == "swin":
        indices = BACKBONE + "stages.#.blocks.#.attn.w_msa.relative_position_index"
        return (Layout(mmdet.swin_rules(BACKBONE) + mmdet.head_rules(MMDET_HEAD), (indices,)),)
    if backbone == "resnet":
        resnet = torchvision_resnet_rules(BACKBONE)
        return (
            Layout(resnet + mmdet.head_rules(MMDET_HEAD)),
            Layout(resnet + easycv.head_rules(EASYCV_HEAD), ("criterion.empty_weight",)),
        )
    return ()


def preprocessor(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The preprocessor config of a file of mmcv's, which has none: the published test pipeline. None for others."""
    stated = config.get("preprocess")
    if stated is None:
        return None
    shortest, longest = EDGES
    return {
        "image_processor_type": "MMDetImageProcessor",
        "size": {
            "shortest_edge": stated.get("img_scale_short", shortest),
            "longest_edge": stated.get("img_scale_long", longest),
        },
        "pad_divisor": stated.get("size_divisor", 32),
        "image_mean": list(stated.get("mean", MEAN)),
        "image_std": list(stated.get("std", STD)),
        "do_rescale": False,
    }


def belongs(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether tensors of these published names are such a network's."""
    return any(key in shapes for key in _CLASSES)


def config_of(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """The config of a published file that has none, in transformers' words, from the shapes of its tensors.

    Raises CheckpointError where a tensor is missing or strange.
    """
    try:
        return _config_of(shapes)
    except KeyError as error:
        raise CheckpointError(
            f"the weights have no {error.args[0]}; they are not those of a whole Mask2Former on Swin or ResNet"
        ) from error
    except (IndexError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(
            "the weights have the names of a Mask2Former, but other shapes; download them again"
        ) from error


def _config_of(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    by_mmdet = _CLASSES[0] in shapes
    pixels = (MMDET_HEAD if by_mmdet else EASYCV_HEAD) + "pixel_decoder."
    queries = MMDET_HEAD if by_mmdet else EASYCV_HEAD + "predictor."
    encoder = pixels + ("encoder.layers." if by_mmdet else "transformer.encoder.layers.")
    attention = encoder + ("0.attentions.0." if by_mmdet else "0.self_attn.")
    decoder = queries + ("transformer_decoder.layers." if by_mmdet else "transformer_ffn_layers.")
    hidden = "ffns.0.layers.0.0.weight" if by_mmdet else "linear1.weight"
    mask_projection = pixels + ("mask_feature.weight" if by_mmdet else "mask_features.weight")
    num_labels, hidden_dim = shapes[_CLASSES[0] if by_mmdet else _CLASSES[1]]
    heads = shapes[attention + "sampling_offsets.weight"][0] // (3 * 4 * 2)  # three levels, four points, x and y
    config: dict[str, Any] = {
        "model_type": "mask2former",
        "backbone_config": _swin(shapes) if BACKBONE + "patch_embed.norm.weight" in shapes else _resnet(shapes),
        "num_queries": shapes[queries + "query_feat.weight"][0],
        "hidden_dim": hidden_dim,
        "feature_size": shapes[mask_projection][1],
        "mask_feature_size": shapes[mask_projection][0],
        "num_attention_heads": heads,
        "encoder_layers": _count(shapes, encoder),
        "encoder_feedforward_dim": shapes[encoder + "0." + hidden][0],
        "decoder_layers": _count(shapes, decoder) + 1,  # transformers counts predictions
        "dim_feedforward": shapes[decoder + "0." + hidden][0],
        "num_labels": num_labels - 1,
        "preprocess": {},
    }
    if num_labels - 1 in LABELS:
        names = label_set(LABELS[num_labels - 1]).names
        config["id2label"] = {str(index): name for index, name in enumerate(names)}
    return config


def _swin(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    stages = BACKBONE + "stages."
    depths = [_count(shapes, f"{stages}{stage}.blocks.") for stage in range(4)]
    tables = [shapes[f"{stages}{stage}.blocks.0.attn.w_msa.relative_position_bias_table"] for stage in range(4)]
    dim, _, patch, _ = shapes[BACKBONE + "patch_embed.projection.weight"]
    return {
        "model_type": "swin",
        "embed_dim": dim,
        "depths": depths,
        "num_heads": [heads for _, heads in tables],
        "window_size": (math.isqrt(tables[0][0]) + 1) // 2,
        "patch_size": patch,
        "mlp_ratio": shapes[stages + "0.blocks.0.ffn.layers.0.0.weight"][0] / dim,
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    }


def _resnet(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    stages = [f"{BACKBONE}layer{stage + 1}." for stage in range(4)]
    bottleneck = stages[0] + "0.conv3.weight" in shapes
    last = "0.conv3.weight" if bottleneck else "0.conv2.weight"
    return {
        "model_type": "resnet",
        "embedding_size": shapes[BACKBONE + "conv1.weight"][0],
        "hidden_sizes": [shapes[stage + last][0] for stage in stages],
        "depths": [_count(shapes, stage) for stage in stages],
        "layer_type": "bottleneck" if bottleneck else "basic",
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    }


def _count(shapes: Mapping[str, tuple[int, ...]], prefix: str) -> int:
    """How many layers have names that begin so."""
    return len({key.removeprefix(prefix).split(".")[0] for key in shapes if key.startswith(prefix)})
