"""OneFormer as transformers saves it (``OneFormerForUniversalSegmentation``, 4.x and 5.x)."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from everymask.checkpoints.layouts.backbones import build_backbone
from everymask.checkpoints.layouts.parts import (
    attention_rules,
    class_weights,
    mask_embedder_rules,
    packed_attention_rules,
    refuse_unpublished,
)
from everymask.checkpoints.layouts.pixel_decoder import pixel_decoder_rules
from everymask.checkpoints.layouts.rules import Layout, Rule, rename
from everymask.errors import CheckpointError
from everymask.networks.oneformer import OneFormer, OneFormerConfig, TextMapperConfig


def build(config: Mapping[str, Any], num_labels: int) -> tuple[nn.Module, Layout]:
    """The network that a transformers ``config.json`` describes, with fresh weights, and the layout of its file.

    The network has a text mapper if the config says ``is_training``; otherwise a file may hold one or not (the files on
    the Hub do not), and it is left out. Values the file leaves out have the defaults of transformers' configuration
    class. Raises CheckpointError for settings that no published checkpoint has.
    """
    dim = config.get("hidden_dim", 256)
    _refuse_unpublished(config, dim)
    backbone, widths, backbone_layout = build_backbone(
        config.get("backbone_config") or {"model_type": "swin"}, "model.pixel_level_module.encoder."
    )
    trains = config.get("is_training", False)
    network = OneFormer(
        OneFormerConfig(
            num_labels=num_labels,
            num_queries=config.get("num_queries", 150),
            dim=dim,
            heads=config.get("num_attention_heads", 8),
            task_length=config.get("task_seq_len", 77),
            encoder_layers=config.get("encoder_layers", 6),
            encoder_feed_forward=config.get("encoder_feedforward_dim", 1024),
            query_layers=config.get("query_dec_layers", 2),
            decoder_layers=config.get("decoder_layers", 10) - 1,  # the published number counts predictions
            decoder_feed_forward=config.get("dim_feedforward", 2048),
            text=_text_mapper_config(config, dim) if trains else None,
        ),
        backbone,
        widths,
    )
    text_rules = _text_mapper_rules(config.get("text_encoder_proj_layers", 2))
    constants = {"criterion.empty_weight": class_weights(num_labels, config.get("no_object_weight", 0.1))}
    if not trains:
        constants["criterion.logit_scale"] = _logit_scale(config)
    return network, Layout(
        backbone_layout.rules + pixel_decoder_rules() + _task_encoder_rules() + _query_decoder_rules() + text_rules,
        backbone_layout.leftovers + tuple(key for rule in text_rules for key in rule.published),
        constants,
    )


def _refuse_unpublished(config: Mapping[str, Any], dim: int) -> None:
    expected = {
        "pre_norm": False,
        "common_stride": 4,
        "strides": [4, 8, 16, 32],
        "enforce_input_proj": False,
        "norm": "GN",
        "use_task_norm": True,
        "layer_norm_eps": 1e-5,
        "conv_dim": dim,
        "mask_dim": dim,
    }
    refuse_unpublished("OneFormer", config, expected)


def _text_mapper_config(config: Mapping[str, Any], dim: int) -> TextMapperConfig:
    width, contexts = config.get("text_encoder_width", 256), config.get("text_encoder_n_ctx", 16)
    if width != dim or width % 64 or contexts < 1:
        raise CheckpointError(
            f"a OneFormer text mapper with text_encoder_width {width}, hidden_dim {dim} and text_encoder_n_ctx "
            f"{contexts} is not supported; both widths must be the same multiple of 64, and the last at least 1"
        )
    return TextMapperConfig(
        vocabulary=config.get("text_encoder_vocab_size", 49408),
        length=config.get("text_encoder_context_length", 77),
        layers=config.get("text_encoder_num_layers", 6),
        projection_layers=config.get("text_encoder_proj_layers", 2),
        contexts=contexts,
        temperature=config.get("contrastive_temperature", 0.07),
    )


def _logit_scale(config: Mapping[str, Any]) -> Tensor:
    """What the contrastive loss starts from: a scalar."""
    return torch.tensor(-math.log(config.get("contrastive_temperature", 0.07)))


def _task_encoder_rules() -> tuple[Rule, ...]:
    theirs, ours = "model.task_encoder.task_mlp.layers.", "task_encoder."
    return rename(theirs + "0.0.*", ours + "expand.*"), rename(theirs + "1.0.*", ours + "contract.*")


def _query_decoder_rules() -> tuple[Rule, ...]:
    module, ours = "model.transformer_module.", "query_decoder."
    theirs = module + "decoder."
    layer, our_layer = theirs + "layers.#.", ours + "layers.#."
    initial, our_initial = theirs + "query_transformer.decoder.layers.#.", ours + "initial_layers.#."
    return (
        rename(module + "queries_embedder.weight", ours + "query_positions"),
        rename(module + "level_embed.weight", ours + "level_embed"),
        rename(theirs + "query_input_projection.*", ours + "feature_projection.*"),
        *packed_attention_rules(initial + "self_attn.", our_initial + "self_attention."),
        rename(initial + "norm1.*", our_initial + "self_attention_norm.*"),
        *packed_attention_rules(initial + "multihead_attn.", our_initial + "cross_attention."),
        rename(initial + "norm2.*", our_initial + "cross_attention_norm.*"),
        rename(initial + "linear1.*", our_initial + "feed_forward.expand.*"),
        rename(initial + "linear2.*", our_initial + "feed_forward.contract.*"),
        rename(initial + "norm3.*", our_initial + "feed_forward_norm.*"),
        rename(theirs + "query_transformer.decoder.norm.*", ours + "initial_norm.*"),
        *packed_attention_rules(layer + "cross_attn.multihead_attn.", our_layer + "cross_attention."),
        rename(layer + "cross_attn.norm.*", our_layer + "cross_attention_norm.*"),
        *attention_rules(layer + "self_attn.self_attn.", our_layer + "self_attention."),
        rename(layer + "self_attn.norm.*", our_layer + "self_attention_norm.*"),
        rename(layer + "ffn.linear1.*", our_layer + "feed_forward.expand.*"),
        rename(layer + "ffn.linear2.*", our_layer + "feed_forward.contract.*"),
        rename(layer + "ffn.norm.*", our_layer + "feed_forward_norm.*"),
        rename(theirs + "decoder_norm.*", ours + "norm.*"),
        *mask_embedder_rules(theirs + "mask_embed.layers.", ours + "mask_embedder."),
        rename(theirs + "class_embed.*", ours + "class_predictor.*"),
    )


def _text_mapper_rules(projection_layers: int) -> tuple[Rule, ...]:
    theirs, ours = "model.text_mapper.", "text_mapper."
    encoder = theirs + "text_encoder."
    layer, our_layer = encoder + "transformer.layers.#.", ours + "layers.#."
    return (
        rename(encoder + "token_embedding.weight", ours + "token_embedding.weight"),
        rename(encoder + "positional_embedding", ours + "positions"),
        *packed_attention_rules(layer + "self_attn.", our_layer + "attention."),
        rename(layer + "layer_norm1.*", our_layer + "attention_norm.*"),
        rename(layer + "mlp.fc1.*", our_layer + "feed_forward.expand.*"),
        rename(layer + "mlp.fc2.*", our_layer + "feed_forward.contract.*"),
        rename(layer + "layer_norm2.*", our_layer + "feed_forward_norm.*"),
        rename(encoder + "ln_final.*", ours + "norm.*"),
        # The file counts the layers of the projector, our nn.Sequential the activations between them, too.
        *(
            rename(theirs + f"text_projector.layers.{index}.0.*", ours + f"projector.{2 * index}.*")
            for index in range(projection_layers)
        ),
        rename(theirs + "prompt_ctx.weight", ours + "contexts"),
        rename("criterion.logit_scale", ours + "logit_scale"),
    )
