"""What every network keeps to, whatever its family."""

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from everymask.checkpoints.layouts import (
    beit,
    depth_anything,
    detr,
    dpt,
    eomt,
    mask2former,
    maskformer,
    oneformer,
    segformer,
    upernet,
    vit_adapter,
)
from everymask.checkpoints.layouts.backbones import beit_config
from everymask.checkpoints.layouts.rules import Layout
from everymask.networks.backbones.beit import BeitBlock

NUM_LABELS = 4
DECODER = {
    "num_queries": 6,
    "hidden_dim": 64,
    "feature_size": 64,
    "mask_feature_size": 32,
    "num_attention_heads": 4,
    "encoder_layers": 1,
    "encoder_feedforward_dim": 48,
    "decoder_layers": 4,
    "dim_feedforward": 64,
}
SWIN = {"model_type": "swin", "embed_dim": 16, "depths": [2, 2, 2, 2], "num_heads": [1, 2, 2, 4], "window_size": 4}
DINAT = {
    "model_type": "dinat",
    "embed_dim": 16,
    "depths": [1, 2, 1, 1],
    "num_heads": [1, 2, 2, 4],
    "kernel_size": 3,
    "dilations": [[2], [1, 3], [1], [2]],
    "layer_scale_init_value": 0.5,
}
CONVNEXT = {"model_type": "convnext", "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}
FOUR = {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
TAPPED = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "reshape_hidden_states": False, **FOUR}
DINOV2 = {"model_type": "dinov2", "image_size": 70, **TAPPED}
BEIT = {"model_type": "beit", "image_size": 64, "intermediate_size": 48, "use_relative_position_bias": True, **TAPPED}
SWINV2 = {**SWIN, "model_type": "swinv2", "image_size": 64, **FOUR}
BIT = {**dpt.HYBRID_BIT, "embedding_size": 8, "hidden_sizes": [8, 16, 24], "depths": [1, 2, 1], "num_groups": 4}
BASIC = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}


Shapes = dict[str, tuple[int, ...]]


def queries_at_a_quarter(height: int, width: int) -> Shapes:
    queries = DECODER["num_queries"]
    size = (-(-height // 4), -(-width // 4))
    return {"class_logits": (1, queries, NUM_LABELS + 1), "mask_logits": (1, queries, *size)}


def logits_at_a_quarter(height: int, width: int) -> Shapes:
    return {"logits": (1, NUM_LABELS, -(-height // 4), -(-width // 4))}


def logits_at_full_size(height: int, width: int) -> Shapes:
    return {"logits": (1, NUM_LABELS, height, width)}


def depth_at_full_size(height: int, width: int) -> Shapes:
    return {"depth": (1, height, width)}


@dataclass(frozen=True)
class Case:
    """A family with small random weights.

    ``idle`` are parameters that change nothing, as published. ``shapes``: of every tensor that one image of a size
    gives, by name.
    """

    name: str
    build: Callable[[], tuple[nn.Module, Layout]]
    idle: frozenset[str] = frozenset()
    shapes: Callable[[int, int], Shapes] = queries_at_a_quarter


def tensors(output: Any) -> dict[str, Tensor]:
    """All that a network says, by name; without what it says in training only."""
    found: dict[str, Tensor] = {}
    for field in fields(output):
        value = getattr(output, field.name)
        if isinstance(value, Tensor):
            found[field.name] = value
        elif is_dataclass(value):
            found.update(tensors(value))
    return found


def predictions(output: Any) -> list[Any]:
    """What a network says in training, the auxiliary predictions included."""
    if hasattr(output, "auxiliary"):
        return [output, *output.auxiliary]
    parts = [value for field in fields(output) if is_dataclass(value := getattr(output, field.name))]
    return [each for part in parts for each in predictions(part)] or [output]


def mask2former_case(name: str, backbone: dict[str, Any]) -> Case:
    return Case(name, lambda: mask2former.build({**DECODER, "backbone_config": backbone}, NUM_LABELS))


def detr_decoder_idle(decoder: str) -> frozenset[str]:
    """Queries start as zeros: in the first self-attention every value is the bias, wherever a query looks."""
    attention = decoder + "layers.0.self_attention."
    parts = ("query.weight", "query.bias", "key.weight", "key.bias", "value.weight")
    return frozenset(attention + part for part in parts)


def maskformer_case(name: str, backbone: dict[str, Any]) -> Case:
    decoder = {
        "num_queries": 6,
        "d_model": 32,
        "decoder_attention_heads": 4,
        "decoder_layers": 3,
        "decoder_ffn_dim": 48,
    }
    sizes = {"fpn_feature_size": 64, "mask_feature_size": 32}
    return Case(
        name,
        lambda: maskformer.build({**sizes, "decoder_config": decoder, "backbone_config": backbone}, NUM_LABELS),
        detr_decoder_idle("query_decoder.decoder."),
    )


def detr_case(name: str, **backbone: Any) -> Case:
    sizes = {"d_model": 64, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "num_queries": 6}
    config = {**sizes, "encoder_layers": 1, "decoder_layers": 2, **backbone}
    return Case(name, lambda: detr.build(config, NUM_LABELS), detr_decoder_idle("decoder."))


def eomt_case(name: str, **changes: Any) -> Case:
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "num_blocks": 2, "num_queries": 6}
    config = {**sizes, "model_type": "eomt", "intermediate_size": 48, "image_size": 64, **changes}
    return Case(name, lambda: eomt.build(config, NUM_LABELS))


def oneformer_case(name: str, backbone: dict[str, Any]) -> Case:
    width = DECODER["hidden_dim"]
    config = {**DECODER, "conv_dim": width, "mask_dim": width, "backbone_config": backbone}

    def build() -> tuple[nn.Module, Layout]:
        network, layout = oneformer.build(config, NUM_LABELS)
        network.register_forward_pre_hook(add_task, with_kwargs=True)
        return network, layout

    # The first self-attention is among copies of one task: all values are the same, wherever a query looks.
    attention = "query_decoder.initial_layers.0.self_attention."
    parts = ("query.weight", "query.bias", "key.weight", "key.bias")
    return Case(name, build, frozenset(attention + part for part in parts))


def segformer_case(name: str) -> Case:
    sizes = {"hidden_sizes": [8, 16, 20, 24], "depths": [1, 2, 1, 1], "num_attention_heads": [1, 2, 5, 3]}
    config = {**sizes, "decoder_hidden_size": 16}
    return Case(name, lambda: segformer.build(config, NUM_LABELS), shapes=logits_at_a_quarter)


def upernet_case(name: str, backbone: dict[str, Any]) -> Case:
    config = {"hidden_size": 16, "auxiliary_channels": 8, "backbone_config": backbone}
    return Case(name, lambda: upernet.build(config, NUM_LABELS), shapes=logits_at_full_size)


def depth_anything_case(name: str, **changes: Any) -> Case:
    backbone = {"model_type": "dinov2", "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2}
    config = {
        "backbone_config": {**backbone, "image_size": 70, "out_indices": [1, 2, 3, 4]},
        "neck_hidden_sizes": [8, 16, 24, 32],
        "fusion_hidden_size": 16,
        **changes,
    }

    def build() -> tuple[nn.Module, Layout]:
        network, layout = depth_anything.build(config, 0)
        # A fresh head may see nothing but what a ReLU takes away.
        torch.nn.init.constant_(network.head.predict.bias, 0.5)
        return network, layout

    return Case(name, build, shapes=depth_at_full_size)


def beit_case(name: str, **changes: Any) -> Case:
    sizes = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 48}
    heads = {"out_indices": [1, 2, 3, 4], "auxiliary_channels": 16}
    config = {**sizes, **heads, "image_size": 64, "use_relative_position_bias": True, **changes}
    # No map is taken after the last block.
    last = BeitBlock(beit_config(config))
    idle = frozenset(f"backbone.blocks.3.{parameter}" for parameter, _ in last.named_parameters())
    return Case(name, lambda: beit.build(config, NUM_LABELS), idle, logits_at_a_quarter)


def dpt_case(name: str, heads: str, *, patch: int | None = 16, **changes: Any) -> Case:
    """On patches of ``patch`` pixels, None for Swin v2."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 48}
    neck = {"backbone_out_indices": [0, 1, 2, 3], "neck_hidden_sizes": [16, 16, 24, 32], "fusion_hidden_size": 16}
    config = {**sizes, **neck, "image_size": 64, "architectures": [heads], **changes}

    def side(image: int) -> int:
        """Every patch becomes 16 pixels, and an odd number of patches those of one more; what was padded is cut off."""
        if patch is None:
            return image
        patches = -(-image // patch)
        return -(-16 * (patches + patches % 2) * image // (patches * patch))

    def shapes(height: int, width: int) -> Shapes:
        size = (side(height), side(width))
        logits = {"logits": (1, NUM_LABELS, *size)} if heads != dpt.DEPTH else {}
        return {**logits, **({"depth": (1, *size)} if heads != dpt.SEMANTIC else {})}

    def build() -> tuple[nn.Module, Layout]:
        network, layout = dpt.build(config, NUM_LABELS)
        if network.depth_head is not None:
            # What random weights put below zero, a ReLU takes away, gradients and all.
            torch.nn.init.constant_(network.depth_head.predict.bias, 0.5)
            network.depth_head.predict.register_forward_hook(lift_in_training)
        return network, layout

    return Case(name, build, shapes=shapes)


def lift_in_training(layer: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
    """Adds ten to every depth; tests of gradients choose larger weights of their own."""
    return output + 10 if layer.training else output


def vit_adapter_case(name: str, **changes: Any) -> Case:
    sizes = {"img_size": [64, 96], "embed_dim": 32, "depth": 4, "num_heads": 2, "conv_inplane": 8}
    head = {"feat_channels": 64, "pixel_decoder_layers": 1, "pixel_decoder_ffn": 48, "decoder_layers": 3}
    config = {**sizes, **head, "decoder_ffn": 64, "num_queries": DECODER["num_queries"], **changes}
    return Case(name, lambda: vit_adapter.build(config, NUM_LABELS))


def add_task(network: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Gives every image the task "panoptic"."""
    tokens = torch.tensor([49406, 518, 10549, 533, 1072, 24755, 49407] + [0] * 70)
    return args, {**kwargs, "task_tokens": tokens.expand(len(args[0]), -1)}


CASES = [
    mask2former_case("mask2former-swin", SWIN),
    mask2former_case("mask2former-resnet-basic", {**BASIC, "layer_type": "basic"}),
    mask2former_case("mask2former-resnet-bottleneck", {**BASIC, "layer_type": "bottleneck"}),
    maskformer_case("maskformer-swin", SWIN),
    maskformer_case("maskformer-resnet", {**BASIC, "layer_type": "basic"}),
    detr_case("detr-timm-dc5", backbone_kwargs={"channels": [4, 8, 8, 16], "layers": [1, 1, 1, 2]}, dilation=True),
    detr_case("detr-resnet", backbone_config={**BASIC, "out_features": ["stage1", "stage2", "stage3", "stage4"]}),
    eomt_case("eomt-dinov2"),
    eomt_case("eomt-dinov2-gated", use_swiglu_ffn=True),
    eomt_case("eomt-dinov3", model_type="eomt_dinov3"),
    oneformer_case("oneformer-swin", SWIN),
    oneformer_case("oneformer-dinat", DINAT),
    segformer_case("segformer"),
    beit_case("beit"),
    beit_case(
        "beit-shared-positions",
        use_relative_position_bias=False,
        use_shared_relative_position_bias=True,
        use_absolute_position_embeddings=True,
    ),
    upernet_case("upernet-convnext", CONVNEXT),
    upernet_case("upernet-swin", SWIN),
    upernet_case("upernet-resnet", {**BASIC, "layer_type": "basic"}),
    dpt_case("dpt-semantic", dpt.SEMANTIC, use_batch_norm_in_fusion_residual=True),
    dpt_case("dpt-depth", dpt.DEPTH, readout_type="add"),
    dpt_case("dpt-semantic-and-depth", dpt.BOTH, readout_type="ignore"),
    dpt_case("dpt-hybrid", dpt.DEPTH, is_hybrid=True, backbone_config=BIT, neck_hidden_sizes=[8, 16, 24, 32]),
    dpt_case("dpt-dinov2", dpt.DEPTH, patch=14, backbone_config=DINOV2, add_projection=True),
    dpt_case("dpt-beit", dpt.DEPTH, backbone_config=BEIT),
    dpt_case("dpt-swinv2", dpt.DEPTH, patch=None, backbone_config=SWINV2, neck_hidden_sizes=[16, 32, 64, 128]),
    depth_anything_case("depth-anything"),
    depth_anything_case("depth-anything-metric", depth_estimation_type="metric", max_depth=20),
    vit_adapter_case("vit-adapter-modelscope"),
    vit_adapter_case("vit-adapter-original", adapter_attn_identity=False),
]
every_network = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def built(case: Case) -> tuple[nn.Module, Layout]:
    torch.manual_seed(0)
    network, layout = case.build()
    return network.eval(), layout


def close(ours: Tensor, expected: Tensor, relative: float) -> bool:
    return bool((ours - expected).abs().max() <= relative * expected.abs().max())


@every_network
@torch.inference_mode()
def test_a_batch_gives_what_each_image_gives_alone(case: Case) -> None:
    network, _ = built(case)
    pixel_values = torch.randn(3, 3, 96, 75)
    together = tensors(network(pixel_values))
    for index in range(3):
        for name, alone in tensors(network(pixel_values[index : index + 1])).items():
            assert close(together[name][index : index + 1], alone, 1e-5)


@every_network
@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 47), (64, 200), (101, 32)])
@torch.inference_mode()
def test_any_size_from_32_pixels_up_gives_the_shapes_of_the_family(case: Case, height: int, width: int) -> None:
    network, _ = built(case)
    output = tensors(network(torch.randn(1, 3, height, width)))
    expected = case.shapes(height, width)
    assert {name: tuple(each.shape) for name, each in output.items() if name in expected} == expected
    assert all(torch.isfinite(each).all() for each in output.values())


@every_network
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
@torch.inference_mode()
def test_half_precision_is_within_five_percent(case: Case, dtype: torch.dtype) -> None:
    """Of the largest value, on average over all of them: masked attention may flip single pixels."""
    network, _ = built(case)
    pixel_values = torch.randn(1, 3, 64, 96)
    expected = tensors(network(pixel_values))
    output = tensors(network.to(dtype)(pixel_values.to(dtype)))
    for name in case.shapes(64, 96):
        assert output[name].dtype == dtype
        assert (output[name].float() - expected[name]).abs().mean() <= 0.05 * expected[name].abs().max()


@every_network
def test_gradients_reach_every_parameter(case: Case) -> None:
    network, _ = built(case)
    # Sampling offsets are born on whole pixels with zero weights: random weights give every place a slope.
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    output = network.train()(torch.randn(2, 3, 64, 96))
    # All that a prediction is made of: DETR's has boxes besides.
    loss = sum((each**2).mean() for prediction in predictions(output) for each in tensors(prediction).values())
    loss.backward()
    silent = {name for name, each in network.named_parameters() if each.grad is None or not each.grad.abs().sum() > 0}
    assert silent <= case.idle


@every_network
def test_saved_and_loaded_in_the_published_layout_nothing_changes(case: Case) -> None:
    network, layout = built(case)
    published = load(save(layout.to_published(network)))
    shapes = {key: tuple(each.shape) for key, each in published.items() if key not in layout.constants}
    assert layout.published_shapes(network) == shapes
    torch.manual_seed(1)
    other, other_layout = case.build()
    other.load_state_dict(other_layout.to_ours(published, other))
    pixel_values = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected = tensors(network(pixel_values))
        for name, each in tensors(other.eval()(pixel_values)).items():
            assert torch.equal(each, expected[name])


@every_network
@pytest.mark.parametrize(
    "wrong",
    [
        torch.zeros(3, 64, 64),
        torch.zeros(1, 4, 64, 64),
        torch.zeros(1, 64, 64, 3),
        torch.zeros(1, 3, 64, 64, dtype=torch.uint8),
    ],
    ids=["no batch", "four channels", "channels last", "integers"],
)
def test_wrong_input_is_refused_with_the_cure(case: Case, wrong: Tensor) -> None:
    network, _ = built(case)
    with pytest.raises(ValueError, match=r"give \(B, 3, H, W\) floating-point numbers"):
        network(wrong)
