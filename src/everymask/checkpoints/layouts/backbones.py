"""Layouts of the backbones that several families share, as transformers saves them."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from everymask.checkpoints.layouts.parts import refuse_unpublished, whole_number
from everymask.checkpoints.layouts.rules import Layout, Rule, flatten, rename, stack
from everymask.errors import CheckpointError
from everymask.networks.backbones.beit import BeitConfig
from everymask.networks.backbones.convnext import ConvNeXt, ConvNeXtConfig
from everymask.networks.backbones.dinat import Dinat, DinatConfig
from everymask.networks.backbones.resnet import ResNet, ResNetConfig
from everymask.networks.backbones.swin import Swin, SwinConfig
from everymask.networks.backbones.swinv2 import SwinV2, SwinV2Config


def build_backbone(config: Mapping[str, Any], published: str) -> tuple[nn.Module, tuple[int, ...], Layout]:
    """The backbone that a ``backbone_config`` describes, its widths, and the layout of its keys.

    ``published`` is the prefix of the backbone's keys in the file, with the dot; ours is "backbone.". Raises
    CheckpointError for a backbone that is not supported.
    """
    kind = config.get("model_type")
    if kind == "swin":
        swin = swin_config(config)
        return Swin(swin), swin.widths, _swin_layout(published)
    if kind == "swinv2":
        swinv2 = swinv2_config(config)
        return SwinV2(swinv2), swinv2.widths, swinv2_layout(published)
    if kind == "resnet":
        resnet = resnet_config(config)
        return ResNet(resnet), resnet.widths, resnet_layout(published)
    if kind == "dinat":
        dinat = dinat_config(config)
        return Dinat(dinat), dinat.widths, _dinat_layout(published)
    if kind == "convnext":
        convnext = convnext_config(config)
        return ConvNeXt(convnext), convnext.widths, _convnext_layout(published)
    raise CheckpointError(
        f"the backbone {kind!r} is not supported; supported backbones are swin, swinv2, resnet, dinat and convnext"
    )


def swin_config(config: Mapping[str, Any]) -> SwinConfig:
    """Reads a transformers Swin configuration, with that class's defaults for what it leaves out."""
    if config.get("use_absolute_embeddings", False):
        raise CheckpointError("Swin with absolute position embeddings is not supported; no public checkpoint has them")
    if config.get("hidden_act", "gelu") != "gelu":
        raise CheckpointError(f"Swin with the activation {config['hidden_act']!r} is not supported; use gelu")
    return SwinConfig(
        embed_dim=config.get("embed_dim", 96),
        depths=tuple(config.get("depths", (2, 2, 6, 2))),
        heads=tuple(config.get("num_heads", (3, 6, 12, 24))),
        window=config.get("window_size", 7),
        patch=config.get("patch_size", 4),
        channels=config.get("num_channels", config.get("in_channels", 3)),
        mlp_ratio=config.get("mlp_ratio", 4.0),
        qkv_bias=config.get("qkv_bias", True),
        norm_eps=config.get("layer_norm_eps", 1e-5),
    )


def swinv2_config(config: Mapping[str, Any]) -> SwinV2Config:
    """Reads a transformers Swin v2 configuration, with that class's defaults for what it leaves out."""
    refuse_unpublished("Swin v2", config, {"use_absolute_embeddings": False, "hidden_act": "gelu"})
    image = whole_number("Swin v2", config, "image_size", 224)
    patch = whole_number("Swin v2", config, "patch_size", 4)
    depths = tuple(config.get("depths", (2, 2, 6, 2)))
    sides = tuple(image // patch // 2**stage for stage in range(len(depths)))  # of the maps it was trained with
    if min(sides) < 1:
        raise CheckpointError(
            f"Swin v2 with image_size = {image} leaves its last stage nothing; {patch * 2 ** (len(depths) - 1)} is "
            "the smallest"
        )
    window = config.get("window_size", 7)
    windows = tuple(min(side, window) for side in sides)
    pretrained = config.get("pretrained_window_sizes") or (0,) * len(depths)
    return SwinV2Config(
        embed_dim=config.get("embed_dim", 96),
        depths=depths,
        heads=tuple(config.get("num_heads", (3, 6, 12, 24))),
        windows=windows,
        # Nothing is beyond a window that held the whole map.
        shifts=tuple(window // 2 if side > window else 0 for side in sides),
        bias_ranges=tuple(max((before or now) - 1, 1) for before, now in zip(pretrained, windows, strict=True)),
        patch=patch,
        channels=config.get("num_channels", 3),
        mlp_ratio=config.get("mlp_ratio", 4.0),
        qkv_bias=config.get("qkv_bias", True),
        norm_eps=config.get("layer_norm_eps", 1e-5),
    )


def resnet_config(config: Mapping[str, Any]) -> ResNetConfig:
    """Reads a transformers ResNet configuration, with that class's defaults for what it leaves out."""
    if config.get("hidden_act", "relu") != "relu":
        raise CheckpointError(f"ResNet with the activation {config['hidden_act']!r} is not supported; use relu")
    block = config.get("layer_type", "bottleneck")
    if block not in ("basic", "bottleneck"):
        raise CheckpointError(f"ResNet blocks of type {block!r} do not exist; layer_type is 'basic' or 'bottleneck'")
    return ResNetConfig(
        stem_width=config.get("embedding_size", 64),
        widths=tuple(config.get("hidden_sizes", (256, 512, 1024, 2048))),
        depths=tuple(config.get("depths", (3, 4, 6, 3))),
        block=block,
        channels=config.get("num_channels", 3),
        stride_in_first_1x1=config.get("downsample_in_bottleneck", False),
        downsample_first_stage=config.get("downsample_in_first_stage", False),
    )


def dinat_config(config: Mapping[str, Any]) -> DinatConfig:
    """Reads a transformers DiNAT configuration, with that class's defaults for what it leaves out."""
    if config.get("hidden_act", "gelu") != "gelu":
        raise CheckpointError(f"DiNAT with the activation {config['hidden_act']!r} is not supported; use gelu")
    depths = config.get("depths", (3, 4, 6, 5))
    dilations = config.get("dilations") or ((1, 8, 1), (1, 4, 1, 4), (1, 2, 1, 2, 1, 2), (1, 1, 1, 1, 1))
    short = [stage for stage, depth in enumerate(depths) if len(dilations[stage]) < depth]
    if short:
        raise CheckpointError(
            f"stage {short[0]} of the DiNAT backbone has {depths[short[0]]} blocks but {len(dilations[short[0]])} "
            "dilations; give every block one"
        )
    return DinatConfig(
        embed_dim=config.get("embed_dim", 64),
        heads=tuple(config.get("num_heads", (2, 4, 8, 16))),
        # Blocks take the first dilations; published files list no more than they need.
        dilations=tuple(tuple(each[:depth]) for each, depth in zip(dilations, depths, strict=True)),
        kernel=config.get("kernel_size", 7),
        channels=config.get("num_channels", 3),
        mlp_ratio=config.get("mlp_ratio", 3.0),
        qkv_bias=config.get("qkv_bias", True),
        norm_eps=config.get("layer_norm_eps", 1e-5),
        layer_scale=config.get("layer_scale_init_value", 0.0) > 0,
    )


def convnext_config(config: Mapping[str, Any]) -> ConvNeXtConfig:
    """Reads a transformers ConvNeXt configuration, with that class's defaults for what it leaves out."""
    refuse_unpublished("ConvNeXt", config, {"hidden_act": "gelu", "patch_size": 4, "num_stages": 4})
    widths, depths = config.get("hidden_sizes", (96, 192, 384, 768)), config.get("depths", (3, 3, 9, 3))
    if not len(widths) == len(depths) == 4:
        raise CheckpointError(
            f"the ConvNeXt backbone has {len(widths)} hidden_sizes and {len(depths)} depths; give each of its 4 "
            "stages one"
        )
    return ConvNeXtConfig(
        widths=tuple(widths),
        depths=tuple(depths),
        channels=config.get("num_channels", 3),
        layer_scale=(config.get("layer_scale_init_value", 1e-6) or 0.0) > 0,  # null means none, as 0 does
    )


def beit_config(config: Mapping[str, Any]) -> BeitConfig:
    """Reads a transformers BEiT configuration, with that class's defaults for what it leaves out."""
    refuse_unpublished("BEiT", config, {"hidden_act": "gelu", "use_mask_token": False, "use_mean_pooling": True})
    image = whole_number("BEiT", config, "image_size", 224)
    patch = whole_number("BEiT", config, "patch_size", 16)
    layer_scale = config.get("layer_scale_init_value", 0.1)
    if not layer_scale > 0:
        raise CheckpointError(f"BEiT with layer_scale_init_value = {layer_scale} is not supported; it must be above 0")
    block = config.get("use_relative_position_bias", False)
    shared = config.get("use_shared_relative_position_bias", False)
    if block and shared:
        raise CheckpointError(
            "BEiT with use_relative_position_bias and use_shared_relative_position_bias is not supported; choose one"
        )
    return BeitConfig(
        dim=config.get("hidden_size", 768),
        depth=config.get("num_hidden_layers", 12),
        heads=config.get("num_attention_heads", 12),
        feed_forward=config.get("intermediate_size", 3072),
        patch=patch,
        window=(image // patch, image // patch),
        relative_positions="block" if block else "shared" if shared else None,
        absolute_positions=config.get("use_absolute_position_embeddings", False),
        norm_eps=config.get("layer_norm_eps", 1e-12),
        layer_scale=layer_scale,
        channels=config.get("num_channels", 3),
    )


def swin_rules(prefix: str) -> tuple[Rule, ...]:
    """Swin up to the norms of its stages, which each family names in its own way. ``prefix`` ends with a dot."""
    block = prefix + "encoder.layers.#.blocks.#."
    attention = block + "attention.self."
    ours = "backbone.stages.#.#."
    return (
        rename(prefix + "embeddings.patch_embeddings.projection.*", "backbone.patch_embedding.*"),
        rename(prefix + "embeddings.norm.*", "backbone.patch_norm.*"),
        rename(block + "layernorm_before.*", ours + "attention_norm.*"),
        rename(attention + "relative_position_bias_table", ours + "attention.relative_position_bias"),
        stack(tuple(attention + f"{part}.*" for part in ("query", "key", "value")), ours + "attention.qkv.*"),
        rename(block + "attention.output.dense.*", ours + "attention.output.*"),
        rename(block + "layernorm_after.*", ours + "feed_forward_norm.*"),
        rename(block + "intermediate.dense.*", ours + "feed_forward.expand.*"),
        rename(block + "output.dense.*", ours + "feed_forward.contract.*"),
        rename(prefix + "encoder.layers.#.downsample.reduction.weight", "backbone.mergings.#.reduction.weight"),
        rename(prefix + "encoder.layers.#.downsample.norm.*", "backbone.mergings.#.norm.*"),
    )


def _swin_layout(prefix: str) -> Layout:
    # Stages are counted from 1 in the file.
    norms = (
        rename(prefix + f"hidden_states_norms.stage{stage + 1}.*", f"backbone.norms.{stage}.*") for stage in range(4)
    )
    return Layout(
        rules=(*swin_rules(prefix), *norms),
        leftovers=(
            # recomputed from the window size
            prefix + "encoder.layers.#.blocks.#.attention.self.relative_position_index",
            prefix + "swin.layernorm.weight",  # written by transformers 5, never used
            prefix + "swin.layernorm.bias",
        ),
    )


def swinv2_layout(prefix: str) -> Layout:
    """Swin v2 as transformers names it. ``prefix`` ends with a dot."""
    attention, ours = prefix + "encoder.layers.#.blocks.#.attention.self.", "backbone.stages.#.#.attention."
    return Layout(
        rules=(
            *swin_rules(prefix),
            rename(attention + "logit_scale", ours + "logit_scale"),
            rename(attention + "continuous_position_bias_mlp.#.*", ours + "bias.#.*"),
            stack((attention + "query.bias", attention + "value.bias"), ours + "query_value_bias"),
        ),
    )


def resnet_layout(prefix: str) -> Layout:
    """ResNet as transformers names it. ``prefix`` ends with a dot."""
    stem = prefix + "embedder.embedder."
    layer = prefix + "encoder.stages.#.layers.#."
    return Layout(
        rules=(
            rename(stem + "convolution.weight", "backbone.stem.0.weight"),
            rename(stem + "normalization.*", "backbone.stem.1.*"),
            rename(layer + "layer.#.convolution.weight", "backbone.stages.#.#.layers.#.0.weight"),
            rename(layer + "layer.#.normalization.*", "backbone.stages.#.#.layers.#.1.*"),
            rename(layer + "shortcut.convolution.weight", "backbone.stages.#.#.shortcut.0.weight"),
            rename(layer + "shortcut.normalization.*", "backbone.stages.#.#.shortcut.1.*"),
        ),
    )


def torchvision_resnet_rules(prefix: str) -> tuple[Rule, ...]:
    """ResNet as torchvision, timm and mmcv name it, all counted from 1. ``prefix`` ends with a dot."""
    rules = [rename(prefix + "conv1.weight", "backbone.stem.0.weight"), rename(prefix + "bn1.*", "backbone.stem.1.*")]
    for stage in range(4):
        theirs, ours = f"{prefix}layer{stage + 1}.#.", f"backbone.stages.{stage}.#."
        for layer in range(3):
            rules += [
                rename(f"{theirs}conv{layer + 1}.weight", f"{ours}layers.{layer}.0.weight"),
                rename(f"{theirs}bn{layer + 1}.*", f"{ours}layers.{layer}.1.*"),
            ]
        rules += [
            rename(theirs + "downsample.0.weight", ours + "shortcut.0.weight"),
            rename(theirs + "downsample.1.*", ours + "shortcut.1.*"),
        ]
    return tuple(rules)


def _dinat_layout(prefix: str) -> Layout:
    block = prefix + "encoder.levels.#.layers.#."
    attention = block + "attention.self."
    ours = "backbone.stages.#.#."
    # Stages are counted from 1 in the file.
    norms = (
        rename(prefix + f"hidden_states_norms.stage{stage + 1}.*", f"backbone.norms.{stage}.*") for stage in range(4)
    )
    return Layout(
        rules=(
            rename(prefix + "embeddings.patch_embeddings.projection.#.*", "backbone.patch_embedding.#.*"),
            rename(prefix + "embeddings.norm.*", "backbone.patch_norm.*"),
            rename(block + "layernorm_before.*", ours + "attention_norm.*"),
            stack(tuple(attention + f"{part}.*" for part in ("query", "key", "value")), ours + "attention.qkv.*"),
            rename(attention + "rpb", ours + "attention.relative_position_bias"),
            rename(block + "attention.output.dense.*", ours + "attention.output.*"),
            rename(block + "layernorm_after.*", ours + "feed_forward_norm.*"),
            rename(block + "intermediate.dense.*", ours + "feed_forward.expand.*"),
            rename(block + "output.dense.*", ours + "feed_forward.contract.*"),
            rename(block + "layer_scale_parameters", ours + "layer_scale"),
            rename(prefix + "encoder.levels.#.downsample.reduction.weight", "backbone.downsamplers.#.reduction.weight"),
            rename(prefix + "encoder.levels.#.downsample.norm.*", "backbone.downsamplers.#.norm.*"),
            *norms,
        ),
    )


def _convnext_layout(prefix: str) -> Layout:
    stages = prefix + "encoder.stages."
    layer, ours = stages + "#.layers.#.", "backbone.stages.#.#."
    # The file has each downsampling with the stage after it, and counts the stages of the norms from 1.
    downsamplers = (
        rename(f"{stages}{stage + 1}.downsampling_layer.{index}.*", f"backbone.downsamplers.{stage}.{name}.*")
        for stage in range(3)
        for index, name in enumerate(("norm", "reduction"))
    )
    norms = (
        rename(prefix + f"hidden_states_norms.stage{stage + 1}.*", f"backbone.norms.{stage}.*") for stage in range(4)
    )
    return Layout(
        rules=(
            rename(prefix + "embeddings.patch_embeddings.*", "backbone.patch_embedding.*"),
            rename(prefix + "embeddings.layernorm.*", "backbone.patch_norm.*"),
            rename(layer + "dwconv.*", ours + "convolution.*"),
            rename(layer + "layernorm.*", ours + "norm.*"),
            rename(layer + "pwconv1.*", ours + "feed_forward.expand.*"),
            rename(layer + "pwconv2.*", ours + "feed_forward.contract.*"),
            rename(layer + "layer_scale_parameter", ours + "layer_scale"),
            *downsamplers,
            *norms,
        ),
    )


def beit_layout(prefix: str) -> Layout:
    """BEiT as transformers names it. ``prefix`` ends with a dot."""
    block, ours = prefix + "encoder.layer.#.", "backbone.blocks.#."
    attention, our_attention = block + "attention.attention.", ours + "attention."
    weights = tuple(attention + f"{part}.weight" for part in ("query", "key", "value"))
    relative = "relative_position_bias.relative_position_"
    return Layout(
        rules=(
            rename(prefix + "embeddings.cls_token", "backbone.class_token"),
            flatten(prefix + "embeddings.position_embeddings", "backbone.positions"),
            rename(prefix + "embeddings.patch_embeddings.projection.*", "backbone.patch_embedding.*"),
            rename(prefix + "encoder." + relative + "bias_table", "backbone.relative_positions.table"),
            rename(block + "layernorm_before.*", ours + "attention_norm.*"),
            stack(weights, our_attention + "qkv.weight"),
            rename(attention + "query.bias", our_attention + "query_bias"),
            rename(attention + "value.bias", our_attention + "value_bias"),
            rename(attention + relative + "bias_table", ours + "relative_positions.table"),
            rename(block + "attention.output.dense.*", our_attention + "output.*"),
            rename(block + "lambda_1", ours + "attention_scale"),
            rename(block + "layernorm_after.*", ours + "feed_forward_norm.*"),
            rename(block + "intermediate.dense.*", ours + "feed_forward.expand.*"),
            rename(block + "output.dense.*", ours + "feed_forward.contract.*"),
            rename(block + "lambda_2", ours + "feed_forward_scale"),
        ),
        # old files count pairs of patches, for the size they were trained at
        leftovers=(prefix + "encoder." + relative + "index", attention + relative + "index"),
    )
