"""EoMT, with DINOv2 or DINOv3, as transformers saves it and as its authors do (tue-mps/eomt)."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from everymask.checkpoints.layouts.parts import attention_rules, class_weights, refuse_unpublished, whole_number
from everymask.checkpoints.layouts.rules import Layout, Rule, flatten, rename, split
from everymask.checkpoints.layouts.vit import (
    block_rules,
    dinov2_feed_forward_rules,
    gated_width,
    unpacked_gated_rules,
)
from everymask.errors import CheckpointError
from everymask.networks.backbones.vit import ViT, ViTConfig
from everymask.networks.eomt import EoMT, EoMTConfig

ORIGINAL_BACKBONE = "network.encoder.backbone."
"""What the keys of the ViT begin with in the authors' layout."""

# What the authors' configs name by ``backbone``, as transformers spells it out: width, blocks, heads.
DINOV2 = re.compile(r"vit_(small|base|large|giant)_patch14_reg4_dinov2")
DINOV3 = re.compile(r"(?:facebook/)?dinov3-vit(s|b|l)16-pretrain-lvd1689m")
SIZES = {"s": (384, 12, 6), "b": (768, 12, 12), "l": (1024, 24, 16), "g": (1536, 40, 24)}


def build(config: Mapping[str, Any], num_labels: int) -> tuple[nn.Module, Layout]:
    """The network that a ``config.json`` describes, with fresh weights, and the layout of its file.

    The config is transformers' (``eomt`` or ``eomt_dinov3``; values it leaves out have the defaults of that class) or
    the authors' of seven fields, which names its ``backbone``. The layout is transformers', with the authors' as an
    alternative. Raises CheckpointError for settings that no published checkpoint has.
    """
    config = spelled_out(config)
    vit = _dinov3(config) if config["model_type"] == "eomt_dinov3" else _dinov2(config)
    sizes = EoMTConfig(
        num_labels=num_labels,
        num_queries=config.get("num_queries", 200),
        query_blocks=config.get("num_blocks", 4),
        upscale_blocks=config.get("num_upscale_blocks", 2),
    )
    if not 1 <= sizes.query_blocks <= vit.depth:
        raise CheckpointError(f"EoMT with num_blocks = {sizes.query_blocks} of {vit.depth} blocks does not exist")
    network = EoMT(sizes, ViT(vit))
    # Published networks run without masks; a file that does not say so means the same.
    without_masks = torch.zeros(sizes.query_blocks)
    constants = {"criterion.empty_weight": class_weights(num_labels, config.get("no_object_weight", 0.1))}
    transformers_vit = _transformers_dinov2(vit.gated) if vit.grid else (_transformers_dinov3(),)
    first, *others = (
        Layout(vit_rules + _transformers_heads(), (), constants, {"attn_mask_probs": without_masks})
        for vit_rules in transformers_vit
    )
    original = Layout(
        (_original_dinov2(vit.gated) if vit.grid else _original_dinov3()) + _original_heads(),
        (
            "network.encoder.pixel_mean",
            "network.encoder.pixel_std",
            "criterion.empty_weight",
            ORIGINAL_BACKBONE + "patch_embed.mask_token",
        ),
        absent={"network.attn_mask_probs": without_masks},
    )
    return network, replace(first, alternatives=(*others, original))


def original_preprocessor(config: Mapping[str, Any], *, semantic: bool) -> dict[str, Any] | None:
    """The preprocessor config of a checkpoint in the authors' layout, which has none; None for any other ``config``.

    Images are resized into a square of ``image_size`` and padded; for the ``semantic`` task their shortest side becomes
    ``image_size``, and windows go along the longest.
    """
    if "backbone" not in config:
        return None
    side = config.get("image_size", 640)
    return {
        "image_processor_type": "EomtImageProcessor",
        "size": {"shortest_edge": side, "longest_edge": None if semantic else side},
        "do_split_image": semantic,
        "do_pad": not semantic,
    }


def spelled_out(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config in transformers' words; what it says itself goes before what its ``backbone`` implies.

    Raises CheckpointError for a ``backbone`` that no published checkpoint has.
    """
    name = config.get("backbone")
    if name is None:
        return config
    dinov2, dinov3 = DINOV2.fullmatch(str(name)), DINOV3.fullmatch(str(name))
    found = dinov2 or dinov3
    if found is None:
        raise CheckpointError(
            f"EoMT with the backbone {name!r} is not supported; supported are vit_SIZE_patch14_reg4_dinov2 and "
            "facebook/dinov3-vitSIZE16-pretrain-lvd1689m"
        )
    dim, depth, heads = SIZES[found[1][0]]
    implied: dict[str, Any] = {"hidden_size": dim, "num_hidden_layers": depth, "num_attention_heads": heads}
    if dinov3:
        implied |= {"intermediate_size": 4 * dim, "layer_norm_eps": 1e-5}
    return {
        **implied,
        "use_swiglu_ffn": found[1] == "giant",
        **config,
        "model_type": "eomt_dinov3" if dinov3 else "eomt",
    }


def _dinov2(config: Mapping[str, Any]) -> ViTConfig:
    dim, gated = config.get("hidden_size", 1024), config.get("use_swiglu_ffn", False)
    hidden = int(dim * config.get("mlp_ratio", 4))
    return ViTConfig(
        **_common(config),
        feed_forward=gated_width(hidden) if gated else hidden,
        grid=(config.get("image_size", 640) // config.get("patch_size", 16),) * 2,
        activation=nn.SiLU if gated else nn.GELU,
        gated=gated,
    )


def _dinov3(config: Mapping[str, Any]) -> ViTConfig:
    refuse_unpublished(
        "EoMT",
        config,
        {
            "query_bias": True,
            "value_bias": True,
            "proj_bias": True,
            "mlp_bias": True,
            "pos_embed_shift": None,
            "pos_embed_jitter": None,
        },
    )
    rope = config.get("rope_parameters") or {"rope_theta": config.get("rope_theta", 100.0)}
    if rope.get("rope_type", "default") != "default":
        raise CheckpointError(f"EoMT with rope_type = {rope['rope_type']!r} is not supported; use 'default'")
    return ViTConfig(
        **_common(config),
        feed_forward=config.get("intermediate_size", 4096),
        grid=None,
        gated=config.get("use_gated_mlp", False),
        key_bias=config.get("key_bias", False),
        rotary_base=rope.get("rope_theta", 100.0),
        rotary_rescale=config.get("pos_embed_rescale", 2.0),
    )


def _common(config: Mapping[str, Any]) -> dict[str, Any]:
    refuse_unpublished("EoMT", config, {"hidden_act": "gelu"})
    for key in ("image_size", "patch_size"):
        whole_number("EoMT", config, key, 16)
    return {
        "dim": config.get("hidden_size", 1024),
        "depth": config.get("num_hidden_layers", 24),
        "heads": config.get("num_attention_heads", 16),
        "patch": config.get("patch_size", 16),
        "registers": config.get("num_register_tokens", 4),
        "norm_eps": config.get("layer_norm_eps", 1e-6),
        "channels": config.get("num_channels", 3),
    }


def _transformers_heads() -> tuple[Rule, ...]:
    block = "upscale_block.block.#."
    return (
        rename("attn_mask_probs", "mask_probabilities"),
        rename("query.weight", "queries"),
        rename(block + "conv1.*", "upscale.#.enlarge.*"),
        rename(block + "conv2.weight", "upscale.#.smooth.weight"),
        rename(block + "layernorm2d.*", "upscale.#.norm.*"),
        # Our nn.Sequential counts the activations between the layers, too.
        *(rename(f"mask_head.fc{layer + 1}.*", f"mask_embedder.{2 * layer}.*") for layer in range(3)),
        rename("class_predictor.*", "class_predictor.*"),
    )


def _original_heads() -> tuple[Rule, ...]:
    return (
        rename("network.attn_mask_probs", "mask_probabilities"),
        rename("network.q.weight", "queries"),
        rename("network.upscale.#.conv1.*", "upscale.#.enlarge.*"),
        rename("network.upscale.#.conv2.weight", "upscale.#.smooth.weight"),
        rename("network.upscale.#.norm.*", "upscale.#.norm.*"),
        rename("network.mask_head.#.*", "mask_embedder.#.*"),
        rename("network.class_head.*", "class_predictor.*"),
    )


def _transformers_dinov2(gated: bool) -> tuple[tuple[Rule, ...], ...]:
    """The layouts of the ViT: one, or for gated blocks those of transformers 4.x and 5.x."""
    block, ours = "layers.#.", "backbone.blocks.#."
    rules = (
        rename("embeddings.cls_token", "backbone.class_token"),
        rename("embeddings.register_tokens", "backbone.register_tokens"),
        rename("embeddings.patch_embeddings.projection.*", "backbone.patch_embedding.*"),
        rename("embeddings.position_embeddings.weight", "backbone.positions"),
        rename("layernorm.*", "backbone.norm.*"),
        *block_rules(block),
        *attention_rules(block + "attention.", ours + "attention."),
    )
    return tuple((*rules, *feed_forward) for feed_forward in dinov2_feed_forward_rules(block + "mlp.", gated=gated))


def _original_dinov2(gated: bool) -> tuple[Rule, ...]:
    """The ViT as timm names it, with packed projections; ``gated`` packs the gate with the expansion."""
    theirs, block, ours = ORIGINAL_BACKBONE, ORIGINAL_BACKBONE + "blocks.#.", "backbone.blocks.#."
    return (
        rename(theirs + "cls_token", "backbone.class_token"),
        rename(theirs + "reg_token", "backbone.register_tokens"),
        flatten(theirs + "pos_embed", "backbone.positions"),
        rename(theirs + "patch_embed.proj.*", "backbone.patch_embedding.*"),
        rename(theirs + "norm.*", "backbone.norm.*"),
        rename(block + "norm1.*", ours + "attention_norm.*"),
        split(block + "attn.qkv.*", tuple(ours + f"attention.{part}.*" for part in ("query", "key", "value"))),
        rename(block + "attn.proj.*", ours + "attention.output.*"),
        rename(block + "ls1.gamma", ours + "attention_scale"),
        rename(block + "norm2.*", ours + "feed_forward_norm.*"),
        split(block + "mlp.fc1.*", (ours + "feed_forward.gate.*", ours + "feed_forward.expand.*"))
        if gated
        else rename(block + "mlp.fc1.*", ours + "feed_forward.expand.*"),
        rename(block + "mlp.fc2.*", ours + "feed_forward.contract.*"),
        rename(block + "ls2.gamma", ours + "feed_forward_scale"),
    )


def _transformers_dinov3() -> tuple[Rule, ...]:
    return (*_dinov3_rules("embeddings.", "layers.#."), rename("layernorm.*", "backbone.norm.*"))


def _original_dinov3() -> tuple[Rule, ...]:
    theirs = ORIGINAL_BACKBONE
    return (
        *_dinov3_rules(theirs + "patch_embed.", theirs + "blocks.#."),
        rename(theirs + "norm.*", "backbone.norm.*"),
    )


def _dinov3_rules(embeddings: str, block: str) -> tuple[Rule, ...]:
    ours = "backbone.blocks.#.attention."
    return (
        rename(embeddings + "cls_token", "backbone.class_token"),
        rename(embeddings + "register_tokens", "backbone.register_tokens"),
        rename(embeddings + "patch_embeddings.*", "backbone.patch_embedding.*"),
        *block_rules(block),
        rename(block + "attention.q_proj.*", ours + "query.*"),
        rename(block + "attention.k_proj.*", ours + "key.*"),
        rename(block + "attention.v_proj.*", ours + "value.*"),
        rename(block + "attention.o_proj.*", ours + "output.*"),
        *unpacked_gated_rules(block + "mlp."),
    )
