"""DPT as transformers saves it (``DPTForSemanticSegmentation`` and ``DPTForDepthEstimation``, 4.x and 5.x).

A network with both heads, which transformers does not have, is the semantic one with ``depth_head.*`` besides.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from everymask.checkpoints.layouts.backbones import beit_config, beit_layout, build_backbone
from everymask.checkpoints.layouts.dpt_neck import neck_rules, unused_side_unit
from everymask.checkpoints.layouts.parts import refuse_unpublished, whole_number
from everymask.checkpoints.layouts.rules import Layout, Rule, flatten, rename
from everymask.checkpoints.layouts.vit import dinov2_config, dinov2_layout, taps
from everymask.errors import CheckpointError
from everymask.networks.backbones.beit import Beit
from everymask.networks.backbones.bit import BiT, BiTConfig
from everymask.networks.backbones.swinv2 import SwinV2
from everymask.networks.backbones.vit import ViT, ViTConfig
from everymask.networks.dpt import DPT, DPTConfig, HybridViT
from everymask.networks.layers.dpt import NeckConfig
from everymask.segmentation import DepthKind, Task

SEMANTIC = "DPTForSemanticSegmentation"
DEPTH = "DPTForDepthEstimation"
BOTH = "DPTForSemanticSegmentationAndDepth"

# What transformers' class takes where a hybrid's config does not describe its BiT, and where it does so in part.
HYBRID_BIT: dict[str, Any] = {
    "layer_type": "bottleneck",
    "global_padding": "SAME",
    "embedding_dynamic_padding": True,
    "depths": [3, 4, 9],
    "out_features": ["stage1", "stage2", "stage3"],
}
BIT_DEFAULTS: dict[str, Any] = {
    "layer_type": "preactivation",
    "global_padding": None,
    "embedding_dynamic_padding": False,
}


def build(config: Mapping[str, Any], num_labels: int) -> tuple[nn.Module, Layout]:
    """The network that a transformers ``config.json`` describes, with fresh weights, and the layout of its file.

    ``architectures`` says which heads it has. Values the file leaves out have the defaults of transformers'
    configuration class. Raises CheckpointError for settings that no published checkpoint has.
    """
    _refuse_unpublished(config)
    backbone = _backbone(config)
    heads = _heads(config)
    neck = NeckConfig(
        dim=backbone.dim,
        widths=tuple(config.get("neck_hidden_sizes", (96, 192, 384, 768))),
        factors=backbone.factors,
        fusion=config.get("fusion_hidden_size", 256),
        readout=config.get("readout_type", "project"),
        batch_norm=_batch_norm(config),
        bias=_bias(config),
    )
    network = DPT(
        DPTConfig(
            neck=neck,
            taps=backbone.taps,
            divisor=backbone.divisor,
            num_labels=None if heads == DEPTH else num_labels,
            depth=heads != SEMANTIC,
            auxiliary=heads != DEPTH and config.get("use_auxiliary_head", True),
            dropout=config.get("semantic_classifier_dropout", 0.1),
            depth_projection=config.get("add_projection", False),
            channels=backbone.channels,
        ),
        backbone.network,
    )
    head_rules = _depth_rules("head.") if heads == DEPTH else (*_class_rules(), *_depth_rules("depth_head."))
    return network, Layout(
        (*backbone.layout.rules, *neck_rules(), *head_rules),
        backbone.layout.leftovers,
        {**backbone.layout.constants, **unused_side_unit(neck)},
    )


def tasks(config: Mapping[str, Any]) -> tuple[Task, ...]:
    """("depth",) where there is no class head; depth beside classes is not a task of its own."""
    return ("depth",) if _heads(config) == DEPTH else ("semantic",)


def depth_kind(config: Mapping[str, Any]) -> DepthKind | None:
    """What the depth of a network means: what its ``everymask`` block says, or else what is known of public ones.

    Those with DINOv2 were trained on metres (NYU, KITTI), all others on inverse depth. None without a depth head.
    Raises CheckpointError if the block says something else than "metric" or "relative".
    """
    if _heads(config) == SEMANTIC:
        return None
    stated = config.get("everymask", {}).get("depth_kind")
    if stated not in (None, "metric", "relative"):
        raise CheckpointError(f'the "everymask" block has "depth_kind" = {stated!r}; it must be "metric" or "relative"')
    if stated is not None:
        kind: DepthKind = stated
        return kind
    return "metric" if (config.get("backbone_config") or {}).get("model_type") == "dinov2" else "relative"


def _refuse_unpublished(config: Mapping[str, Any]) -> None:
    hybrid = config.get("is_hybrid", False)
    expected: dict[str, Any] = {"hidden_act": "gelu", "head_in_index": -1, "backbone": None}
    if hybrid:
        expected["neck_ignore_stages"] = [0, 1]
    refuse_unpublished("DPT", config, expected)
    if config.get("readout_type", "project") not in (("project",) if hybrid else ("ignore", "add", "project")):
        kinds = "'project'" if hybrid else "'ignore', 'add' or 'project'"
        raise CheckpointError(
            f"DPT with readout_type = {config['readout_type']!r} is not supported; it must be {kinds}"
        )


def _heads(config: Mapping[str, Any]) -> str:
    """Which heads there are. A config that does not say so has a class head if it knows of classes."""
    known = (SEMANTIC, DEPTH, BOTH)
    architectures = config.get("architectures") or [SEMANTIC if {"id2label", "num_labels"} & set(config) else DEPTH]
    for each in architectures:
        if each in known:
            return str(each)
    raise CheckpointError(f"DPT with architectures = {architectures} is not supported; it must be {', '.join(known)}")


def _batch_norm(config: Mapping[str, Any]) -> bool:
    return bool(config.get("use_batch_norm_in_fusion_residual", False))


def _bias(config: Mapping[str, Any]) -> bool:
    stated = config.get("use_bias_in_fusion_residual")
    return not _batch_norm(config) if stated is None else bool(stated)


@dataclass(frozen=True, slots=True)
class _Backbone:
    """A backbone, the layout of its keys, and what neck and network must know of it (see their configs)."""

    network: ViT | Beit | HybridViT | SwinV2
    layout: Layout
    dim: int
    taps: tuple[int, ...]
    factors: tuple[float | None, ...]
    divisor: int
    channels: int


def _backbone(config: Mapping[str, Any]) -> _Backbone:
    widths, factors = config.get("neck_hidden_sizes", (96, 192, 384, 768)), _factors(config)
    if len(widths) != len(factors):
        raise CheckpointError(
            f"DPT with {len(widths)} neck_hidden_sizes and {len(factors)} reassemble_factors does not exist; give each "
            "level one"
        )
    described = config.get("backbone_config")
    if config.get("is_hybrid", False):
        found = _hybrid(config, described or HYBRID_BIT, factors)
    elif described is None:
        found = _plain(config, factors)
    else:
        if _heads(config) != DEPTH:
            raise CheckpointError(
                f"DPT with a class head on the backbone {described.get('model_type')!r} is not supported; published "
                "networks with classes have a plain or hybrid ViT and no backbone_config"
            )
        found = _described(config, described, factors)
    levels = len(found.taps) + found.factors.count(None)
    if levels != len(widths):
        raise CheckpointError(
            f"the backbone of the DPT is read at {levels} levels, but neck_hidden_sizes has {len(widths)}; give each "
            "level one"
        )
    return found


def _factors(config: Mapping[str, Any]) -> tuple[float, ...]:
    factors = tuple(config.get("reassemble_factors", (4, 2, 1, 0.5)))
    for factor in factors:
        if not factor > 0 or (factor % 1 if factor >= 1 else 1 / factor % 1):
            raise CheckpointError(f"DPT with the reassemble factor {factor} does not exist; use 4, 2, 1 or 0.5")
    return factors


def _plain(config: Mapping[str, Any], factors: tuple[float, ...]) -> _Backbone:
    patch = whole_number("DPT", config, "patch_size", 16)
    vit = _vit_config(config, patch=patch, channels=config.get("num_channels", 3))
    rules = (
        rename("dpt.embeddings.patch_embeddings.projection.*", "backbone.patch_embedding.*"),
        *_vit_rules("backbone."),
    )
    layout = Layout(rules, constants=_unused_norm(vit))
    return _Backbone(ViT(vit), layout, vit.dim, _own_taps(config, vit.depth), factors, patch, vit.channels)


def _hybrid(config: Mapping[str, Any], described: Mapping[str, Any], factors: tuple[float, ...]) -> _Backbone:
    refuse_unpublished("hybrid DPT", config, {"patch_size": 16})
    bit = _bit_config(described)
    widths = list(config.get("neck_hidden_sizes", (96, 192, 384, 768)))
    if tuple(widths[:2]) != bit.widths[:2]:
        raise CheckpointError(
            f"the neck_hidden_sizes of a DPT on this BiT must begin with {list(bit.widths[:2])}, as wide as its stages"
        )
    # The cells of the last map are the patches.
    vit = _vit_config(config, patch=1, channels=bit.widths[-1])
    theirs, ours = "dpt.embeddings.backbone.bit.", "backbone.bit."
    block, our_block = theirs + "encoder.stages.#.layers.#.", ours + "stages.#.#."
    convolutions = (rename(f"{block}conv{step + 1}.weight", f"{our_block}layers.{step}.0.weight") for step in range(3))
    norms = (rename(f"{block}norm{step + 1}.*", f"{our_block}layers.{step}.1.*") for step in range(3))
    rules = (
        rename(theirs + "embedder.convolution.weight", ours + "stem.0.weight"),
        rename(theirs + "embedder.norm.*", ours + "stem.1.*"),
        *convolutions,
        *norms,
        rename(block + "downsample.conv.weight", our_block + "shortcut.0.weight"),
        rename(block + "downsample.norm.*", our_block + "shortcut.1.*"),
        rename("dpt.embeddings.projection.*", "backbone.vit.patch_embedding.*"),
        *_vit_rules("backbone.vit."),
    )
    return _Backbone(
        HybridViT(BiT(bit), ViT(vit)),
        Layout(rules, constants=_unused_norm(vit)),
        vit.dim,
        _own_taps(config, vit.depth, levels=slice(2, None)),
        (None, None, *factors[2:]),
        16,
        bit.channels,
    )


def _described(config: Mapping[str, Any], described: Mapping[str, Any], factors: tuple[float, ...]) -> _Backbone:
    kind, prefix = described.get("model_type"), "backbone."
    if kind == "dinov2":
        dinov2 = dinov2_config(described)
        read, layout = taps(described, dinov2.depth), dinov2_layout(prefix, dinov2)
        return _Backbone(ViT(dinov2), layout, dinov2.dim, read, factors, dinov2.patch, dinov2.channels)
    if kind == "beit":
        refuse_unpublished("DPT on BEiT", described, {"reshape_hidden_states": False, "add_fpn": False})
        beit = beit_config(described)
        read, layout = taps(described, beit.depth), beit_layout(prefix)
        return _Backbone(Beit(beit), layout, beit.dim, read, factors, beit.patch, beit.channels)
    if kind == "swinv2":
        stages = taps(described, len(described.get("depths", (2, 2, 6, 2))))
        if stages != (1, 2, 3, 4):
            raise CheckpointError("DPT on Swin v2 needs out_features from stage1 to stage4, all four")
        swin, widths, layout = build_backbone(described, prefix)
        assert isinstance(swin, SwinV2)
        if tuple(config.get("neck_hidden_sizes", (96, 192, 384, 768))) != widths:
            raise CheckpointError(
                f"DPT on this Swin v2 needs neck_hidden_sizes of {list(widths)}, as wide as its stages"
            )
        # Padded to this, no stage rounds its size.
        return _Backbone(swin, layout, widths[-1], (), (None,) * 4, swin.patch * 8, swin.channels)
    raise CheckpointError(
        f"DPT on the backbone {kind!r} is not supported; supported are dinov2, beit, swinv2, and bit in a hybrid"
    )


def _vit_config(config: Mapping[str, Any], *, patch: int, channels: int) -> ViTConfig:
    refuse_unpublished("DPT", config, {"qkv_bias": True})
    side = whole_number("DPT", config, "image_size", 384) // config.get("patch_size", 16)
    return ViTConfig(
        dim=config.get("hidden_size", 768),
        depth=config.get("num_hidden_layers", 12),
        heads=config.get("num_attention_heads", 12),
        feed_forward=config.get("intermediate_size", 3072),
        patch=patch,
        registers=None,
        grid=(side, side),
        norm_eps=config.get("layer_norm_eps", 1e-12),
        channels=channels,
        resize="bilinear",
        class_position=True,
        layer_scale=False,
        final_norm=False,
    )


def _own_taps(config: Mapping[str, Any], depth: int, levels: slice = slice(None)) -> tuple[int, ...]:
    # Published numbers are those of the blocks, counted from 0.
    indices = tuple(config.get("backbone_out_indices") or (2, 5, 8, 11))
    if len(set(indices)) != len(indices) or not all(0 <= index < depth for index in indices):
        raise CheckpointError(f"DPT with backbone_out_indices = {indices} of {depth} blocks does not exist")
    return tuple(sorted(index + 1 for index in indices[levels]))


def _bit_config(config: Mapping[str, Any]) -> BiTConfig:
    stated = {**BIT_DEFAULTS, **config}
    if isinstance(stated["global_padding"], str):
        stated["global_padding"] = stated["global_padding"].upper()
    expected = {
        **{key: HYBRID_BIT[key] for key in ("layer_type", "global_padding", "embedding_dynamic_padding")},
        "model_type": "bit",
        "hidden_act": "relu",
        "output_stride": 32,
        "width_factor": 1,
    }
    refuse_unpublished("BiT", stated, expected)
    depths = tuple(config.get("depths", (3, 4, 6, 3)))
    if len(depths) != 3 or taps(config, 3) != (1, 2, 3):
        raise CheckpointError("the BiT of a hybrid DPT needs three depths, and out_features from stage1 to stage3")
    return BiTConfig(
        stem_width=config.get("embedding_size", 64),
        # transformers' default names more widths than there are stages.
        widths=tuple(config.get("hidden_sizes", (256, 512, 1024, 2048)))[:3],
        depths=depths,
        groups=config.get("num_groups", 32),
        channels=config.get("num_channels", 3),
    )


def _vit_rules(ours: str) -> tuple[Rule, ...]:
    block, our_block = "dpt.encoder.layer.#.", ours + "blocks.#."
    attention = block + "attention.attention."
    return (
        rename("dpt.embeddings.cls_token", ours + "class_token"),
        flatten("dpt.embeddings.position_embeddings", ours + "positions"),
        rename(block + "layernorm_before.*", our_block + "attention_norm.*"),
        *(rename(f"{attention}{part}.*", f"{our_block}attention.{part}.*") for part in ("query", "key", "value")),
        rename(block + "attention.output.dense.*", our_block + "attention.output.*"),
        rename(block + "layernorm_after.*", our_block + "feed_forward_norm.*"),
        rename(block + "intermediate.dense.*", our_block + "feed_forward.expand.*"),
        rename(block + "output.dense.*", our_block + "feed_forward.contract.*"),
    )


def _unused_norm(vit: ViTConfig) -> dict[str, Tensor]:
    """The norm of the last tokens, which only classifiers of images read."""
    return {"dpt.layernorm.weight": torch.ones(vit.dim), "dpt.layernorm.bias": torch.zeros(vit.dim)}


def _class_rules() -> tuple[Rule, ...]:
    return (rename("head.head.#.*", "class_head.#.*"), rename("auxiliary_head.head.#.*", "auxiliary_head.#.*"))


def _depth_rules(published: str) -> tuple[Rule, ...]:
    # The file counts the resize and the activations between the convolutions, too.
    layers = ((0, "reduce"), (2, "smooth"), (4, "predict"))
    return (
        rename(published + "projection.*", "depth_head.projection.*"),
        *(rename(f"{published}head.{index}.*", f"depth_head.{name}.*") for index, name in layers),
    )
