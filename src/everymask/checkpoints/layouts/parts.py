"""Parts that the layouts of several families share, as transformers names them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from everymask.checkpoints.layouts.rules import Rule, rename, split
from everymask.errors import CheckpointError


def refuse_unpublished(family: str, config: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raises CheckpointError where ``config`` has another value than ``expected``, which all published ones have."""
    for key, value in expected.items():
        if config.get(key, value) != value:
            raise CheckpointError(
                f"{family} with {key} = {config[key]!r} is not supported; published checkpoints have {value!r}"
            )


def whole_number(family: str, config: Mapping[str, Any], key: str, default: int) -> int:
    """A size in pixels that transformers would take as a pair, too. Raises CheckpointError if it is one."""
    value = config.get(key, default)
    if type(value) is not int:
        raise CheckpointError(f"{family} with {key} = {value!r} is not supported; it must be one number")
    return value


def attention_rules(published: str, ours: str) -> tuple[Rule, ...]:
    """Attention with separate projections. Both prefixes end with a dot."""
    return (
        rename(published + "q_proj.*", ours + "query.*"),
        rename(published + "k_proj.*", ours + "key.*"),
        rename(published + "v_proj.*", ours + "value.*"),
        rename(published + "out_proj.*", ours + "output.*"),
    )


def packed_attention_rules(published: str, ours: str) -> tuple[Rule, ...]:
    """Attention whose query, key and value projections lie in one tensor. Both prefixes end with a dot."""
    parts = tuple(ours + f"{part}." for part in ("query", "key", "value"))
    return (
        split(published + "in_proj_weight", tuple(part + "weight" for part in parts)),
        split(published + "in_proj_bias", tuple(part + "bias" for part in parts)),
        rename(published + "out_proj.*", ours + "output.*"),
    )


def feed_forward_rules(published: str, ours: str) -> tuple[Rule, ...]:
    """A feed-forward block and the norm after it. Both prefixes, those of the layer, end with a dot."""
    return (
        rename(published + "fc1.*", ours + "feed_forward.expand.*"),
        rename(published + "fc2.*", ours + "feed_forward.contract.*"),
        rename(published + "final_layer_norm.*", ours + "feed_forward_norm.*"),
    )


def detr_decoder_rules(published: str, ours: str) -> tuple[Rule, ...]:
    """The query decoder of DETR and MaskFormer. Both prefixes end with a dot."""
    layer, our_layer = published + "layers.#.", ours + "layers.#."
    return (
        *attention_rules(layer + "self_attn.", our_layer + "self_attention."),
        rename(layer + "self_attn_layer_norm.*", our_layer + "self_attention_norm.*"),
        *attention_rules(layer + "encoder_attn.", our_layer + "cross_attention."),
        rename(layer + "encoder_attn_layer_norm.*", our_layer + "cross_attention_norm.*"),
        *feed_forward_rules(layer, our_layer),
        rename(published + "layernorm.*", ours + "norm.*"),
    )


def mask_embedder_rules(published: str, ours: str) -> tuple[Rule, ...]:
    """The three-layer perceptron that turns queries into mask embeddings. Both prefixes end with a dot."""
    # The file counts the layers, our nn.Sequential the activations between them, too.
    return tuple(rename(published + f"{layer}.0.*", ours + f"{2 * layer}.*") for layer in range(3))


def uper_head_rules(norm: str) -> tuple[Rule, ...]:
    """The head of UPerNet and BEiT and the auxiliary one; ``norm``: the family's word for batch norm."""
    modules = {
        "decode_head.psp_modules.#.1.": "head.pooling.projections.#.",
        "decode_head.bottleneck.": "head.pooling.fuse.",
        "decode_head.lateral_convs.#.": "head.laterals.#.",
        "decode_head.fpn_convs.#.": "head.smoothings.#.",
        "decode_head.fpn_bottleneck.": "head.fuse.",
        "auxiliary_head.convs.0.": "auxiliary_head.fuse.",
    }
    return (
        *(rename(f"{theirs}conv.weight", f"{ours}0.weight") for theirs, ours in modules.items()),
        *(rename(f"{theirs}{norm}.*", f"{ours}1.*") for theirs, ours in modules.items()),
        rename("decode_head.classifier.*", "head.classifier.*"),
        rename("auxiliary_head.classifier.*", "auxiliary_head.classifier.*"),
    )


def class_weights(num_labels: int, no_object: float) -> Tensor:
    """The weight of every class in the classification loss, "no object" last: (num_labels + 1,)."""
    return torch.tensor([1.0] * num_labels + [no_object])
