"""MaskFormer as transformers saves it (``MaskFormerForInstanceSegmentation``, 4.x and 5.x)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from everymask.checkpoints.layouts.backbones import build_backbone, swin_config, swin_rules
from everymask.checkpoints.layouts.parts import (
    class_weights,
    detr_decoder_rules,
    mask_embedder_rules,
    refuse_unpublished,
)
from everymask.checkpoints.layouts.rules import Layout, Rule, rename
from everymask.networks.backbones.swin import Swin, SwinConfig
from everymask.networks.backbones.windows import relative_position_index
from everymask.networks.maskformer import MaskFormer, MaskFormerConfig

ENCODER = "model.pixel_level_module.encoder."

# What the network is built from where the file names no backbone (transformers' default for this family).
DEFAULT_BACKBONE = {
    "model_type": "swin",
    "embed_dim": 128,
    "depths": [2, 2, 18, 2],
    "num_heads": [4, 8, 16, 32],
    "window_size": 12,
}


def build(config: Mapping[str, Any], num_labels: int) -> tuple[nn.Module, Layout]:
    """The network that a transformers ``config.json`` describes, with fresh weights, and the layout of its file.

    Values the file leaves out have the defaults of transformers' configuration classes. Raises CheckpointError for
    settings that no published checkpoint has.
    """
    decoder = config.get("decoder_config") or {}
    _refuse_unpublished(decoder)
    backbone, widths, backbone_layout = _build_backbone(config.get("backbone_config") or DEFAULT_BACKBONE)
    hidden_dim = decoder.get("d_model", 256)
    network = MaskFormer(
        MaskFormerConfig(
            num_labels=num_labels,
            num_queries=decoder.get("num_queries", 100),
            hidden_dim=hidden_dim,
            feature_dim=config.get("fpn_feature_size", 256),
            mask_dim=config.get("mask_feature_size", 256),
            heads=decoder.get("decoder_attention_heads", 8),
            decoder_layers=decoder.get("decoder_layers", 6),
            decoder_feed_forward=decoder.get("decoder_ffn_dim", 2048),
        ),
        backbone,
        widths,
    )
    weights = class_weights(num_labels, config.get("no_object_weight", 0.1))
    return network, Layout(
        backbone_layout.rules + _pixel_decoder_rules() + _query_decoder_rules(),
        backbone_layout.leftovers,
        {**backbone_layout.constants, "criterion.empty_weight": weights},
    )


def _refuse_unpublished(decoder: Mapping[str, Any]) -> None:
    expected = {"model_type": "detr", "activation_function": "relu", "position_embedding_type": "sine"}
    refuse_unpublished("the decoder_config of MaskFormer", decoder, expected)


def _build_backbone(config: Mapping[str, Any]) -> tuple[nn.Module, tuple[int, ...], Layout]:
    # MaskFormer brought its own class of Swin: the network of all others, under other names.
    if config.get("model_type") not in ("swin", "maskformer-swin"):
        return build_backbone(config, ENCODER)
    swin = swin_config(config)
    return Swin(swin), swin.widths, _swin_layout(swin)


def _swin_layout(swin: SwinConfig) -> Layout:
    theirs = ENCODER + "model."
    index = relative_position_index(swin.window)
    constants: dict[str, Tensor] = {
        f"{theirs}encoder.layers.{stage}.blocks.{block}.attention.self.relative_position_index": index.clone()
        for stage, depth in enumerate(swin.depths)
        for block in range(depth)
    }
    # The norm of a Swin without stages' norms; nothing in MaskFormer reads what comes out of it.
    constants[theirs + "layernorm.weight"] = torch.ones(swin.widths[-1])
    constants[theirs + "layernorm.bias"] = torch.zeros(swin.widths[-1])
    norms = rename(ENCODER + "hidden_states_norms.#.*", "backbone.norms.#.*")
    return Layout((*swin_rules(theirs), norms), constants=constants)


def _pixel_decoder_rules() -> tuple[Rule, ...]:
    theirs, ours = "model.pixel_level_module.decoder.", "pixel_decoder."
    return (
        rename(theirs + "fpn.stem.#.*", ours + "stem.#.*"),
        rename(theirs + "fpn.layers.#.proj.#.*", ours + "laterals.#.#.*"),
        rename(theirs + "fpn.layers.#.block.#.*", ours + "fusions.#.#.*"),
        rename(theirs + "mask_projection.*", ours + "mask_projection.*"),
    )


def _query_decoder_rules() -> tuple[Rule, ...]:
    theirs, ours = "model.transformer_module.", "query_decoder."
    return (
        rename(theirs + "queries_embedder.weight", ours + "query_positions"),
        rename(theirs + "input_projection.*", ours + "input_projection.*"),
        *detr_decoder_rules(theirs + "decoder.", ours + "decoder."),
        *mask_embedder_rules("mask_embedder.", ours + "mask_embedder."),
        rename("class_predictor.*", ours + "class_predictor.*"),
    )
