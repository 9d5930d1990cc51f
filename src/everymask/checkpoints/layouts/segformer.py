"""SegFormer as transformers saves it (``SegformerForSemanticSegmentation``, 4.x and 5.x)."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from everymask.checkpoints.layouts.parts import refuse_unpublished
from everymask.checkpoints.layouts.rules import Layout, Rule, rename, stack
from everymask.errors import CheckpointError
from everymask.networks.backbones.mix_transformer import KERNELS, STRIDES, MixTransformer, MixTransformerConfig
from everymask.networks.segformer import SegFormer, SegFormerConfig


def build(config: Mapping[str, Any], num_labels: int) -> tuple[nn.Module, Layout]:
    """The network that a transformers ``config.json`` describes, with fresh weights, and the layout of its file.

    Values the file leaves out have the defaults of transformers' configuration class; its ``layer_norm_eps`` is not
    used there either. Raises CheckpointError for settings that no published checkpoint has.
    """
    _refuse_unpublished(config)
    backbone = MixTransformer(
        MixTransformerConfig(
            widths=tuple(config.get("hidden_sizes", (32, 64, 160, 256))),
            depths=tuple(config.get("depths", (2, 2, 2, 2))),
            heads=tuple(config.get("num_attention_heads", (1, 2, 5, 8))),
            reductions=tuple(config.get("sr_ratios", (8, 4, 2, 1))),
            mlp_ratios=tuple(config.get("mlp_ratios", (4, 4, 4, 4))),
            channels=config.get("num_channels", 3),
        )
    )
    network = SegFormer(SegFormerConfig(num_labels=num_labels, dim=config.get("decoder_hidden_size", 256)), backbone)
    return network, Layout(_backbone_rules() + _decoder_rules())


def _refuse_unpublished(config: Mapping[str, Any]) -> None:
    expected = {
        "num_encoder_blocks": 4,
        "patch_sizes": list(KERNELS),
        "strides": list(STRIDES),
        "hidden_act": "gelu",
        "reshape_last_stage": True,
    }
    refuse_unpublished("SegFormer", config, expected)
    for key in ("hidden_sizes", "depths", "num_attention_heads", "sr_ratios", "mlp_ratios"):
        if len(config.get(key, STRIDES)) != len(STRIDES):
            raise CheckpointError(
                f"{key} of SegFormer has {len(config[key])} entries; give one for each of its {len(STRIDES)} stages"
            )


def _backbone_rules() -> tuple[Rule, ...]:
    theirs, ours = "segformer.encoder.", "backbone.stages.#."
    block, our_block = theirs + "block.#.#.", ours + "blocks.#."
    attention = block + "attention.self."
    return (
        rename(theirs + "patch_embeddings.#.proj.*", ours + "patch_embedding.*"),
        rename(theirs + "patch_embeddings.#.layer_norm.*", ours + "patch_norm.*"),
        rename(block + "layer_norm_1.*", our_block + "attention_norm.*"),
        rename(attention + "query.*", our_block + "attention.query.*"),
        stack((attention + "key.*", attention + "value.*"), our_block + "attention.key_value.*"),
        rename(attention + "sr.*", our_block + "attention.reduce.*"),
        rename(attention + "layer_norm.*", our_block + "attention.reduce_norm.*"),
        rename(block + "attention.output.dense.*", our_block + "attention.output.*"),
        rename(block + "layer_norm_2.*", our_block + "feed_forward_norm.*"),
        rename(block + "mlp.dense1.*", our_block + "feed_forward.expand.*"),
        rename(block + "mlp.dwconv.dwconv.*", our_block + "feed_forward.mix.*"),
        rename(block + "mlp.dense2.*", our_block + "feed_forward.contract.*"),
        rename(theirs + "layer_norm.#.*", ours + "norm.*"),
    )


def _decoder_rules() -> tuple[Rule, ...]:
    theirs, ours = "decode_head.", "decoder."
    return (
        rename(theirs + "linear_c.#.proj.*", ours + "projections.#.*"),
        rename(theirs + "linear_fuse.weight", ours + "fuse.weight"),
        rename(theirs + "batch_norm.*", ours + "norm.*"),
        rename(theirs + "classifier.*", ours + "classifier.*"),
    )
