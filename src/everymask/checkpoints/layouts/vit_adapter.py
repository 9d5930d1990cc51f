"""Mask2Former on ViT-Adapter, as its authors and ModelScope save it."""

import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from everymask.checkpoints.layouts.mmdet import deformable_attention_rules, head_rules
from everymask.checkpoints.layouts.parts import refuse_unpublished
from everymask.checkpoints.layouts.rules import Layout, Rule, rename
from everymask.errors import CheckpointError
from everymask.labels import label_set
from everymask.networks.backbones.beit import BeitConfig
from everymask.networks.backbones.vit_adapter import ViTAdapter, ViTAdapterConfig
from everymask.networks.mask2former import Mask2FormerConfig
from everymask.networks.vit_adapter import ViTAdapterMask2Former

PATCH = 16
INTERACTIONS = 4
POINTS = 4
BACKBONE, HEAD = "backbone.", "decode_head."
PIXEL_DECODER, DECODER = HEAD + "pixel_decoder.", HEAD + "transformer_decoder."
INJECTOR_SCALE = BACKBONE + "interactions.0.injector.gamma"
TABLE = BACKBONE + "blocks.0.attn.relative_position_bias_table"
CLASSES = HEAD + "cls_embed.weight"

LABELS = {171: "coco-stuff", 150: "ade20k", 19: "cityscapes"}
"""The label sets of the published networks, by the number of classes."""

RECIPES = {896: (896, 3584, 512), 640: (640, 2048, 426), 512: (512, 2048, 341), 480: (520, 4096, 320)}
"""How the published networks are tested, by the side of the window: shortest and longest edge of images, stride."""
CITYSCAPES_EDGES = (1024, 2048)
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of the colours red, green and blue in 0..255


def build(config: Mapping[str, Any], num_labels: int) -> tuple[nn.Module, Layout]:
    """The network that a config describes, with fresh weights, and the layout of its file.

    The config has the words of the published configurations; what it leaves out is as in the network for COCO-Stuff
    164k. Raises CheckpointError for settings that no published checkpoint has.
    """
    _refuse_unpublished(config)
    dim, depth, heads = (
        config.get(key, value) for key, value in (("embed_dim", 1024), ("depth", 24), ("num_heads", 16))
    )
    feature_dim = config.get("feat_channels", 1024)
    height, width = _pair(config.get("img_size", 896))
    vit = BeitConfig(
        dim=dim,
        depth=depth,
        heads=heads,
        feed_forward=int(dim * config.get("mlp_ratio", 4)),
        patch=PATCH,
        window=(height // PATCH, width // PATCH),
        norm_eps=1e-6,
        layer_scale=config.get("init_values", 1e-6),
    )
    extra_extractors = config.get("extra_extractors", 2)
    adapter = ViTAdapterConfig(
        vit=vit,
        interactions=_interactions(config, depth),
        prior=config.get("conv_inplane", 64),
        heads=config.get("deform_num_heads", heads),
        points=config.get("n_points", POINTS),
        value_dim=int(dim * config.get("deform_ratio", 0.5)),
        feed_forward=int(dim * config.get("cffn_ratio", 0.25)),
        extra_extractors=extra_extractors,
        attention_residual=config.get("adapter_attn_identity", True),
    )
    head = Mask2FormerConfig(
        num_labels=num_labels,
        num_queries=config.get("num_queries", 200),
        hidden_dim=feature_dim,
        feature_dim=feature_dim,
        mask_dim=feature_dim,
        heads=config.get("decoder_heads", feature_dim // 32),
        encoder_layers=config.get("pixel_decoder_layers", 6),
        encoder_feed_forward=config.get("pixel_decoder_ffn", 4096),
        decoder_layers=config.get("decoder_layers", 9),
        decoder_feed_forward=config.get("decoder_ffn", 4096),
        norm_groups=config.get("pixel_decoder_gn_groups", 32),
        recompute=True,
    )
    network = ViTAdapterMask2Former(head, ViTAdapter(adapter))
    # The index of the bias tables can be rebuilt, and is not needed.
    leftovers = (BACKBONE + "blocks.#.attn.relative_position_index",)
    return network, Layout(_vit_rules() + _adapter_rules(extra_extractors) + head_rules(HEAD), leftovers)


def description(config: Mapping[str, Any]) -> str:
    """Which of the two networks that share a layout the config means."""
    if config.get("adapter_attn_identity", True):
        variant = "adapter attention adds its normalised query, as ModelScope's code does"
    else:
        variant = "adapter attention adds no query of its own, as in the ViT-Adapter project"
    return f"ViT-Adapter with Mask2Former's head; {variant}"


def preprocessor(config: Mapping[str, Any]) -> dict[str, Any]:
    """The preprocessor config of a checkpoint, which has none: resize, then windows (the published test pipelines)."""
    stated = config.get("preprocess", {})
    window = _pair(config.get("crop_size", config.get("img_size", 896)))
    side = min(window)
    shortest, longest, stride = RECIPES.get(side, (side, 4 * side, side * 2 // 3))
    return {
        "image_processor_type": "ViTAdapterImageProcessor",
        "size": {
            "shortest_edge": stated.get("img_scale_short", shortest),
            "longest_edge": stated.get("img_scale_long", longest),
        },
        "size_divisor": stated.get("size_divisor", 32),
        "window": list(window),
        "stride": list(_pair(config.get("stride", stride))),
        "image_mean": list(stated.get("mean", MEAN)),
        "image_std": list(stated.get("std", STD)),
        "do_rescale": False,
    }


def belongs(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether tensors of these published names are such a network's."""
    return INJECTOR_SCALE in shapes and CLASSES in shapes and TABLE in shapes


def config_of(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """The config of a published file that has none, from the shapes of its tensors.

    All sizes but ``img_size`` where the window of the positions is no square, and those that no shape tells: they are
    left out, or as all published networks have them. Raises CheckpointError where a tensor is missing or strange.
    """
    try:
        return _config_of(shapes)
    except KeyError as error:
        raise CheckpointError(
            f"the weights have no {error.args[0]}; they are not those of a whole ViT-Adapter with Mask2Former's head"
        ) from error
    except (IndexError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(
            "the weights have the names of ViT-Adapter with Mask2Former's head, but other shapes; download them again"
        ) from error


def _config_of(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    def count(prefix: str) -> int:
        return len({key.removeprefix(prefix).split(".")[0] for key in shapes if key.startswith(prefix)})

    dim = shapes[BACKBONE + "cls_token"][-1]
    rows, heads = shapes[TABLE]
    num_labels, feature_dim = shapes[CLASSES][0] - 1, shapes[CLASSES][1]
    extractor = BACKBONE + "interactions.0.extractor."
    encoder, decoder = PIXEL_DECODER + "encoder.layers.", DECODER + "layers."
    config: dict[str, Any] = {
        "model_type": "vit_adapter",
        "embed_dim": dim,
        "depth": count(BACKBONE + "blocks."),
        "num_heads": heads,
        "mlp_ratio": shapes[BACKBONE + "blocks.0.mlp.fc1.weight"][0] / dim,
        "conv_inplane": shapes[BACKBONE + "spm.stem.0.weight"][0],
        "cffn_ratio": shapes[extractor + "ffn.fc1.weight"][0] / dim,
        "deform_ratio": shapes[extractor + "attn.value_proj.weight"][0] / dim,
        "extra_extractors": count(BACKBONE + f"interactions.{INTERACTIONS - 1}.extra_extractors."),
        "feat_channels": feature_dim,
        "num_queries": shapes[HEAD + "query_feat.weight"][0],
        "pixel_decoder_layers": count(encoder),
        "pixel_decoder_ffn": shapes[encoder + "0.ffns.0.layers.0.0.weight"][0],
        "decoder_layers": count(decoder),
        "decoder_ffn": shapes[decoder + "0.ffns.0.layers.0.0.weight"][0],
        "num_labels": num_labels,
    }
    if num_labels in LABELS:
        names = label_set(LABELS[num_labels]).names
        config["id2label"] = {str(index): name for index, name in enumerate(names)}
    side = (math.isqrt(max(rows - 3, 0)) + 1) // 2
    if (2 * side - 1) ** 2 + 3 == rows:
        config["img_size"] = PATCH * side
    if num_labels == 19:
        config["preprocess"] = dict(zip(("img_scale_short", "img_scale_long"), CITYSCAPES_EDGES, strict=True))
    return config


def _pair(value: Any) -> tuple[int, int]:
    height, width = (value, value) if isinstance(value, int) else value
    return height, width


def _interactions(config: Mapping[str, Any], depth: int) -> tuple[int, int, int, int]:
    """How many blocks each interaction runs."""
    each = depth // INTERACTIONS
    even = [[each * index, each * (index + 1) - 1] for index in range(INTERACTIONS)]
    indexes = config.get("interaction_indexes", even)
    covered = [block for first, last in indexes for block in range(first, last + 1)]
    if len(indexes) != INTERACTIONS or covered != list(range(depth)):
        raise CheckpointError(
            f"ViT-Adapter with interaction_indexes = {indexes} is not supported; they must share all {depth} blocks "
            f"among {INTERACTIONS} interactions, in order"
        )
    first, second, third, fourth = (last - first + 1 for first, last in indexes)
    return first, second, third, fourth


def _refuse_unpublished(config: Mapping[str, Any]) -> None:
    refuse_unpublished(
        "ViT-Adapter",
        config,
        {
            "patch_size": PATCH,
            "qkv_bias": True,
            "use_abs_pos_emb": False,
            "use_rel_pos_bias": True,
            "pixel_decoder_points": 4,
            "pixel_decoder_heads": config.get("decoder_heads", config.get("feat_channels", 1024) // 32),
            "num_feature_levels": 3,
            "strides": [4, 8, 16, 32],
            "inference_mode": "slide",
        },
    )
    eps = {"backbone_layer_norm": 1e-6, "batch_norm": 1e-5, "group_norm": 1e-5, "head_layer_norm": 1e-5}
    refuse_unpublished("ViT-Adapter", config.get("eps", {}), eps)
    positions = {"temperature": 10000, "normalize": True, "scale": 2 * math.pi, "eps": 1e-6, "offset": 0.0}
    positions["num_feats"] = config.get("feat_channels", 1024) // 2
    refuse_unpublished("ViT-Adapter", config.get("positional_encoding", {}), positions)
    for side in _pair(config.get("img_size", 896)):
        if side % 32:
            raise CheckpointError(f"ViT-Adapter with img_size = {side} does not exist; it must be a multiple of 32")


def _vit_rules() -> tuple[Rule, ...]:
    theirs, ours = BACKBONE + "blocks.#.", "backbone.vit.blocks.#."
    return (
        rename(BACKBONE + "cls_token", "backbone.vit.class_token"),
        rename(BACKBONE + "patch_embed.proj.*", "backbone.vit.patch_embedding.*"),
        rename(theirs + "norm1.*", ours + "attention_norm.*"),
        rename(theirs + "attn.qkv.weight", ours + "attention.qkv.weight"),
        rename(theirs + "attn.q_bias", ours + "attention.query_bias"),
        rename(theirs + "attn.v_bias", ours + "attention.value_bias"),
        rename(theirs + "attn.proj.*", ours + "attention.output.*"),
        rename(theirs + "attn.relative_position_bias_table", ours + "relative_positions.table"),
        rename(theirs + "gamma_1", ours + "attention_scale"),
        rename(theirs + "norm2.*", ours + "feed_forward_norm.*"),
        rename(theirs + "mlp.fc1.*", ours + "feed_forward.expand.*"),
        rename(theirs + "mlp.fc2.*", ours + "feed_forward.contract.*"),
        rename(theirs + "gamma_2", ours + "feed_forward_scale"),
    )


def _adapter_rules(extra_extractors: int) -> tuple[Rule, ...]:
    prior, ours = BACKBONE + "spm.", "backbone.prior."
    interaction, our_interaction = BACKBONE + "interactions.#.", "backbone.interactions.#."
    injector, our_injector = interaction + "injector.", our_interaction + "injector."
    extractors = ("extractor.", *(f"extra_extractors.{index}." for index in range(extra_extractors)))
    return (
        rename(BACKBONE + "level_embed", "backbone.level_embed"),
        # The file counts convolutions, norms and activations, we count the three together.
        *(rename(prior + f"stem.{3 * index}.*", ours + f"stem.{index}.0.*") for index in range(3)),
        *(rename(prior + f"stem.{3 * index + 1}.*", ours + f"stem.{index}.1.*") for index in range(3)),
        *(rename(prior + f"conv{index + 2}.#.*", ours + f"reductions.{index}.#.*") for index in range(3)),
        *(rename(prior + f"fc{index + 1}.*", ours + f"projections.{index}.*") for index in range(4)),
        *_cross_attention_rules(injector, our_injector),
        rename(injector + "gamma", our_injector + "scale"),
        *(
            rule
            for index, extractor in enumerate(extractors)
            for rule in _extractor_rules(interaction + extractor, our_interaction + f"extractors.{index}.")
        ),
        rename(BACKBONE + "up.*", "backbone.enlarge.*"),
        *(rename(BACKBONE + f"norm{index + 1}.*", f"backbone.norms.{index}.*") for index in range(4)),
    )


def _extractor_rules(theirs: str, ours: str) -> tuple[Rule, ...]:
    return (
        *_cross_attention_rules(theirs, ours),
        rename(theirs + "ffn_norm.*", ours + "feed_forward_norm.*"),
        rename(theirs + "ffn.fc1.*", ours + "feed_forward.expand.*"),
        rename(theirs + "ffn.dwconv.dwconv.*", ours + "feed_forward.smooth.*"),
        rename(theirs + "ffn.fc2.*", ours + "feed_forward.contract.*"),
    )


def _cross_attention_rules(theirs: str, ours: str) -> tuple[Rule, ...]:
    return (
        rename(theirs + "query_norm.*", ours + "query_norm.*"),
        rename(theirs + "feat_norm.*", ours + "token_norm.*"),
        *deformable_attention_rules(theirs + "attn.", ours + "attention."),
    )
