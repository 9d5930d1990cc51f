"""DINOv2 and its kin as transformers saves them; our names are below ``backbone.``."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from everymask.checkpoints.layouts.parts import refuse_unpublished, whole_number
from everymask.checkpoints.layouts.rules import Layout, Rule, flatten, rename, split
from everymask.errors import CheckpointError
from everymask.networks.backbones.vit import ViTConfig

BLOCK = "backbone.blocks.#."


def dinov2_config(config: Mapping[str, Any]) -> ViTConfig:
    """Reads a transformers DINOv2 configuration, with that class's defaults for what it leaves out."""
    expected = {"hidden_act": "gelu", "qkv_bias": True, "apply_layernorm": True, "reshape_hidden_states": False}
    refuse_unpublished("DINOv2", config, expected)
    dim, gated = config.get("hidden_size", 768), config.get("use_swiglu_ffn", False)
    patch = whole_number("DINOv2", config, "patch_size", 14)
    hidden = int(dim * config.get("mlp_ratio", 4))
    return ViTConfig(
        dim=dim,
        depth=config.get("num_hidden_layers", 12),
        heads=config.get("num_attention_heads", 12),
        feed_forward=gated_width(hidden) if gated else hidden,
        patch=patch,
        registers=None,
        grid=(whole_number("DINOv2", config, "image_size", 224) // patch,) * 2,
        activation=nn.SiLU if gated else nn.GELU,
        gated=gated,
        norm_eps=config.get("layer_norm_eps", 1e-6),
        channels=config.get("num_channels", 3),
        class_position=True,
    )


def taps(config: Mapping[str, Any], depth: int) -> tuple[int, ...]:
    """After how many of its ``depth`` blocks a ``backbone_config`` has its tokens read; 0 stands for the embedding.

    Said by ``out_features`` or ``out_indices``; the last block alone where neither is there. Raises CheckpointError for
    blocks that do not exist.
    """
    names = ["stem", *(f"stage{number}" for number in range(1, depth + 1))]
    features, indices = config.get("out_features"), config.get("out_indices")
    if features is None:
        features = [names[-1]] if indices is None else indices
    found = []
    for each in features:
        if each in names:
            found.append(names.index(each))
        elif type(each) is int and -len(names) <= each < len(names):
            found.append(each % len(names))
        else:
            raise CheckpointError(f"the backbone of {depth} blocks has no {each!r} to read; it has stem to {names[-1]}")
    return tuple(found)


def dinov2_layout(published: str, config: ViTConfig) -> Layout:
    """DINOv2 as files of every release hold it. ``published`` is the prefix of the backbone's keys, with the dot.

    Pretraining's mask token is of no use; transformers misses it if it is not there.
    """
    block = published + "encoder.layer.#."
    attention = block + "attention.attention."
    # transformers 5 has other names in memory, but writes these.
    feed_forward, *_ = dinov2_feed_forward_rules(block + "mlp.", gated=config.gated)
    return Layout(
        rules=(
            rename(published + "embeddings.cls_token", "backbone.class_token"),
            flatten(published + "embeddings.position_embeddings", "backbone.positions"),
            rename(published + "embeddings.patch_embeddings.projection.*", "backbone.patch_embedding.*"),
            *block_rules(block),
            *(rename(f"{attention}{part}.*", f"{BLOCK}attention.{part}.*") for part in ("query", "key", "value")),
            rename(block + "attention.output.dense.*", BLOCK + "attention.output.*"),
            *feed_forward,
            rename(published + "layernorm.*", "backbone.norm.*"),
        ),
        constants={published + "embeddings.mask_token": torch.zeros(1, config.dim)},
    )


def gated_width(hidden: int) -> int:
    """The hidden units of a gated block in place of ``hidden``: two thirds, rounded up to a multiple of 8."""
    return (int(hidden * 2 / 3) + 7) // 8 * 8


def block_rules(block: str) -> tuple[Rule, ...]:
    """The norms and scales of a block in transformers' words. ``block`` ends with a dot."""
    return (
        rename(block + "norm1.*", BLOCK + "attention_norm.*"),
        rename(block + "layer_scale1.lambda1", BLOCK + "attention_scale"),
        rename(block + "norm2.*", BLOCK + "feed_forward_norm.*"),
        rename(block + "layer_scale2.lambda1", BLOCK + "feed_forward_scale"),
    )


def dinov2_feed_forward_rules(prefix: str, *, gated: bool) -> tuple[tuple[Rule, ...], ...]:
    """The layouts of the feed-forward blocks: one, or for gated ones the packed and the unpacked."""
    if not gated:
        return (_feed_forward_rules(prefix, expand="fc1", contract="fc2"),)
    packed = (
        split(prefix + "weights_in.*", (BLOCK + "feed_forward.gate.*", BLOCK + "feed_forward.expand.*")),
        rename(prefix + "weights_out.*", BLOCK + "feed_forward.contract.*"),
    )
    return packed, unpacked_gated_rules(prefix)


def unpacked_gated_rules(prefix: str) -> tuple[Rule, ...]:
    """Gated feed-forward blocks, each projection by itself; blocks without gates have none of the gate's keys."""
    return _feed_forward_rules(prefix, gate="gate_proj", expand="up_proj", contract="down_proj")


def _feed_forward_rules(prefix: str, **names: str) -> tuple[Rule, ...]:
    return tuple(rename(f"{prefix}{name}.*", f"{BLOCK}feed_forward.{ours}.*") for ours, name in names.items())
