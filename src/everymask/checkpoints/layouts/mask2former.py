"""Mask2Former as transformers saves it (``Mask2FormerForUniversalSegmentation``, 4.x and 5.x), or mmcv."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from everymask.checkpoints.layouts import mask2former_mmcv
from everymask.checkpoints.layouts.backbones import build_backbone
from everymask.checkpoints.layouts.parts import (
    attention_rules,
    class_weights,
    feed_forward_rules,
    mask_embedder_rules,
    packed_attention_rules,
    refuse_unpublished,
)
from everymask.checkpoints.layouts.pixel_decoder import pixel_decoder_rules
from everymask.checkpoints.layouts.rules import Layout, Rule, rename
from everymask.networks.mask2former import Mask2Former, Mask2FormerConfig


def build(config: Mapping[str, Any], num_labels: int) -> tuple[nn.Module, Layout]:
    """The network that a transformers ``config.json`` describes, with fresh weights, and the layout of its file.

    Values the file leaves out have the defaults of transformers' configuration class. Raises CheckpointError for
    settings that no published checkpoint has.
    """
    _refuse_unpublished(config)
    backbone_config = config.get("backbone_config") or {"model_type": "swin"}
    backbone, widths, backbone_layout = build_backbone(backbone_config, "model.pixel_level_module.encoder.")
    network = Mask2Former(
        Mask2FormerConfig(
            num_labels=num_labels,
            num_queries=config.get("num_queries", 100),
            hidden_dim=config.get("hidden_dim", 256),
            feature_dim=config.get("feature_size", 256),
            mask_dim=config.get("mask_feature_size", 256),
            heads=config.get("num_attention_heads", 8),
            encoder_layers=config.get("encoder_layers", 6),
            encoder_feed_forward=config.get("encoder_feedforward_dim", 1024),
            decoder_layers=config.get("decoder_layers", 10) - 1,  # the published number counts predictions
            decoder_feed_forward=config.get("dim_feedforward", 2048),
        ),
        backbone,
        widths,
    )
    return network, Layout(
        backbone_layout.rules + pixel_decoder_rules() + _query_decoder_rules(),
        backbone_layout.leftovers,
        {"criterion.empty_weight": class_weights(num_labels, config.get("no_object_weight", 0.1))},
        alternatives=mask2former_mmcv.layouts(backbone_config["model_type"]),
    )


def _refuse_unpublished(config: Mapping[str, Any]) -> None:
    expected = {
        "pre_norm": False,
        "activation_function": "relu",
        "common_stride": 4,
        "feature_strides": [4, 8, 16, 32],
        "enforce_input_projection": False,
    }
    refuse_unpublished("Mask2Former", config, expected)


def _query_decoder_rules() -> tuple[Rule, ...]:
    theirs, ours = "model.transformer_module.", "query_decoder."
    layer, our_layer = theirs + "decoder.layers.#.", ours + "layers.#."
    return (
        rename(theirs + "queries_embedder.weight", ours + "query_positions"),
        rename(theirs + "queries_features.weight", ours + "query_features"),
        rename(theirs + "level_embed.weight", ours + "level_embed"),
        rename(theirs + "input_projections.#.*", ours + "input_projections.#.*"),
        *packed_attention_rules(layer + "cross_attn.", our_layer + "cross_attention."),
        rename(layer + "cross_attn_layer_norm.*", our_layer + "cross_attention_norm.*"),
        *attention_rules(layer + "self_attn.", our_layer + "self_attention."),
        rename(layer + "self_attn_layer_norm.*", our_layer + "self_attention_norm.*"),
        *feed_forward_rules(layer, our_layer),
        rename(theirs + "decoder.layernorm.*", ours + "norm.*"),
        *mask_embedder_rules(theirs + "decoder.mask_predictor.mask_embedder.", ours + "mask_embedder."),
        rename("class_predictor.*", ours + "class_predictor.*"),
    )
