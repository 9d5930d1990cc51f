"""DETR with its mask head as transformers saves it (``DetrForSegmentation``, 4.x and 5.x)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from everymask.checkpoints.layouts.backbones import resnet_config, resnet_layout, torchvision_resnet_rules
from everymask.checkpoints.layouts.parts import (
    attention_rules,
    detr_decoder_rules,
    feed_forward_rules,
    refuse_unpublished,
)
from everymask.checkpoints.layouts.rules import Layout, Rule, rename
from everymask.errors import CheckpointError
from everymask.networks.backbones.resnet import ResNet, ResNetConfig
from everymask.networks.detr import Detr, DetrConfig

BACKBONE = "detr.model.backbone.conv_encoder.model."
TIMM_DEPTHS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
STAGES = ["stage1", "stage2", "stage3", "stage4"]


def build(config: Mapping[str, Any], num_labels: int) -> tuple[nn.Module, Layout]:
    """The network that a transformers ``config.json`` describes, with fresh weights, and the layout of its file.

    Values the file leaves out have the defaults of transformers' configuration class. Raises CheckpointError for
    settings that no published checkpoint has, and for a DETR without a mask head.
    """
    _refuse_unpublished(config)
    resnet, backbone_layout = _read_backbone(config)
    network = Detr(
        DetrConfig(
            num_labels=num_labels,
            num_queries=config.get("num_queries", 100),
            hidden_dim=config.get("d_model", 256),
            encoder_layers=config.get("encoder_layers", 6),
            encoder_heads=config.get("encoder_attention_heads", 8),
            encoder_feed_forward=config.get("encoder_ffn_dim", 2048),
            decoder_layers=config.get("decoder_layers", 6),
            decoder_heads=config.get("decoder_attention_heads", 8),
            decoder_feed_forward=config.get("decoder_ffn_dim", 2048),
        ),
        ResNet(resnet),
        resnet.widths,
    )
    return network, Layout(
        backbone_layout.rules + _transformer_rules() + _head_rules(),
        backbone_layout.leftovers,
    )


def _refuse_unpublished(config: Mapping[str, Any]) -> None:
    architectures = config.get("architectures") or ["DetrForSegmentation"]
    if "DetrForSegmentation" not in architectures:
        raise CheckpointError(
            f"this DETR is a {architectures[0]}, which has no mask head and finds boxes only; "
            "use one for segmentation, such as facebook/detr-resnet-50-panoptic"
        )
    expected = {"activation_function": "relu", "position_embedding_type": "sine"}
    refuse_unpublished("DETR", config, expected)


def _read_backbone(config: Mapping[str, Any]) -> tuple[ResNetConfig, Layout]:
    """The ResNet: transformers' own where ``backbone_config`` describes one, otherwise timm's of some name."""
    backbone = config.get("backbone_config") or {}
    kind = backbone.get("model_type", "timm_backbone")
    if kind == "resnet":
        if backbone.get("out_features") != STAGES:
            raise CheckpointError(
                f"the mask head needs all four stages of the backbone; set out_features of backbone_config to {STAGES}"
            )
        return replace(resnet_config(backbone), frozen_norm=True), resnet_layout(BACKBONE)
    if kind != "timm_backbone":
        raise CheckpointError(f"the backbone {kind!r} is not supported; DETR's are resnet and timm_backbone")
    # transformers 5 writes backbone_config, 4 the top level's backbone, dilation and backbone_kwargs.
    name = backbone.get("backbone") or config.get("backbone") or "resnet50"
    if name not in TIMM_DEPTHS:
        raise CheckpointError(f"timm's backbone {name!r} is not supported; supported are {', '.join(TIMM_DEPTHS)}")
    changes = config.get("backbone_kwargs") or {}
    resnet = ResNetConfig(
        stem_width=64,
        widths=tuple(4 * width for width in changes.get("channels", (64, 128, 256, 512))),
        depths=tuple(changes.get("layers", TIMM_DEPTHS[name])),
        block="bottleneck",
        channels=changes.get("in_chans", backbone.get("num_channels", config.get("num_channels", 3))),
        dilate_last_stage=bool(config.get("dilation")) or backbone.get("output_stride", 32) == 16,
        frozen_norm=True,
    )
    # The batch norms of the shortcuts counted batches when the public files were written; frozen ones do not.
    counted = BACKBONE + "layer#.#.downsample.1.num_batches_tracked"
    return resnet, Layout(torchvision_resnet_rules(BACKBONE), leftovers=(counted,))


def _transformer_rules() -> tuple[Rule, ...]:
    theirs = "detr.model."
    layer, our_layer = theirs + "encoder.layers.#.", "encoder_layers.#."
    return (
        rename(theirs + "input_projection.*", "input_projection.*"),
        rename(theirs + "query_position_embeddings.weight", "query_positions"),
        *attention_rules(layer + "self_attn.", our_layer + "attention."),
        rename(layer + "self_attn_layer_norm.*", our_layer + "attention_norm.*"),
        *feed_forward_rules(layer, our_layer),
        *detr_decoder_rules(theirs + "decoder.", "decoder."),
    )


def _head_rules() -> tuple[Rule, ...]:
    head = "mask_head."
    convolutions = ("first", "second", "refinements.0", "refinements.1", "refinements.2")
    return (
        rename("detr.class_labels_classifier.*", "class_predictor.*"),
        # The file counts the layers of the box MLP, our nn.Sequential its activations, too.
        *(rename(f"detr.bbox_predictor.layers.{layer}.*", f"box_predictor.{2 * layer}.*") for layer in range(3)),
        rename("bbox_attention.q_linear.*", "mask_attention.query.*"),
        rename("bbox_attention.k_linear.*", "mask_attention.key.*"),
        *(rename(f"{head}lay{i}.*", f"{head}{name}.conv.*") for i, name in enumerate(convolutions, start=1)),
        *(rename(f"{head}gn{i}.*", f"{head}{name}.norm.*") for i, name in enumerate(convolutions, start=1)),
        rename(head + "out_lay.*", head + "predictor.*"),
        *(rename(f"{head}adapter{i + 1}.*", f"{head}adapters.{i}.*") for i in range(3)),
    )
