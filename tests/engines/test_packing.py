"""Packed networks give what networks give, and hold nothing twice."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dpt_models import HYBRID
from everymask.checkpoints.families import FAMILIES
from everymask.engines.choice import make_engine
from everymask.engines.eager import EagerEngine
from everymask.engines.engine import Inputs
from everymask.engines.packing import (
    FoldedNorm,
    FusedConvolution,
    PackedEnlargement,
    PackedLinear,
    can_pack,
    fold_norms,
    pack,
)
from everymask.networks.layers.conv_norm import ConvNorm
from everymask.networks.layers.feed_forward import MLP, FeedForward, GatedFeedForward
from everymask.networks.layers.masked_decoder import MaskedDecoder
from everymask.networks.oneformer import OneFormer
from parity import randomise, relative_error
from small_models import DEPTH_ANYTHING, DPT_BOTH
from trainable import CONFIGS

CPU = torch.device("cpu")
MODELS = {
    **CONFIGS,
    "depth_anything": DEPTH_ANYTHING,
    "dpt-both": DPT_BOTH,
    "dpt-hybrid": {**HYBRID, "model_type": "dpt"},
}
TASK = torch.tensor([49406, 518, 10549, 533, 1072, 24755, 49407] + [0] * 70)

needs_packing = pytest.mark.skipif(not can_pack(CPU, torch.float32), reason="no packed products on this processor")


def small(config: dict[str, Any]) -> nn.Module:
    """The same network at every call."""
    torch.manual_seed(0)
    family = FAMILIES[config["model_type"]]
    network, _ = family.build(config, 0 if family.tasks(config) == ("depth",) else 4)
    randomise(network)
    return network.eval()


def inputs(network: nn.Module) -> Inputs:
    pixel_values = torch.randn(2, 3, 64, 75, generator=torch.Generator().manual_seed(0))
    return Inputs(pixel_values, TASK.expand(2, -1) if isinstance(network, OneFormer) else None)


def tensors(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    parts = output if isinstance(output, tuple) else [getattr(output, f.name) for f in dataclasses.fields(output)]
    return [tensor for part in parts for tensor in tensors(part)]


def parameters(network: nn.Module) -> int:
    return sum(each.numel() for each in network.parameters())


@needs_packing
@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_packed_network_gives_what_the_network_gives(name: str) -> None:
    network, packed = small(MODELS[name]), small(MODELS[name])
    before = parameters(packed)
    expected = tensors(EagerEngine(network, CPU, torch.float32)(inputs(network)))
    engine = EagerEngine(packed, CPU, torch.float32, for_good=True)
    assert any(isinstance(each, FusedConvolution | PackedLinear) for each in packed.modules())
    for ours, plain in zip(tensors(engine(inputs(packed))), expected, strict=True):
        assert relative_error(ours, plain) < 1e-4
    assert parameters(packed) == before
    assert not any(type(each) in (nn.Linear, nn.Conv2d) for each in packed.modules())  # no second copy of a weight


@needs_packing
@pytest.mark.parametrize("name", sorted(MODELS))
def test_in_bfloat16_a_packed_network_is_as_near_to_float32(name: str) -> None:
    if not can_pack(CPU, torch.bfloat16):
        pytest.skip("no packed products in bfloat16 on this processor")
    exact = tensors(EagerEngine(small(MODELS[name]), CPU, torch.float32)(inputs(small(MODELS[name]))))

    def errors(for_good: bool) -> list[float]:
        network = small(MODELS[name])
        output = EagerEngine(network, CPU, torch.bfloat16, for_good=for_good)(inputs(network))
        return [
            ((ours.float() - right).norm() / right.norm()).item()
            for ours, right in zip(tensors(output), exact, strict=True)
        ]

    # Rounded otherwise, masked attention may read one pixel more or less, of the few that such a small network has.
    masked = any(isinstance(each, MaskedDecoder) for each in small(MODELS[name]).modules())
    room = 0.05 if masked else 0.01
    for packed, plain in zip(errors(True), errors(False), strict=True):
        assert packed <= 1.5 * plain + room


@needs_packing
def test_load_packs_and_a_network_that_goes_on_learning_stays_as_it_is() -> None:
    network = small(MODELS["segformer"])
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    EagerEngine(network, CPU, torch.float32)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    make_engine("eager", network, CPU, torch.float32)
    assert any(isinstance(each, PackedLinear) for each in network.modules())


@needs_packing
def test_what_follows_a_layer_is_fused_with_it() -> None:
    torch.manual_seed(0)
    tokens = torch.randn(2, 5, 8)
    for kind in (
        FeedForward(8, 12, nn.GELU),
        FeedForward(8, 12),
        GatedFeedForward(8, 12),
        MLP(8, 12, 3),
        FeedForward(8, 12, nn.Tanh),
    ):
        with torch.inference_mode():
            expected = kind(tokens)
            pack(kind)
            assert relative_error(kind(tokens), expected) < 1e-5
        plain = [each for each in kind.modules() if isinstance(each, nn.ReLU | nn.GELU | nn.SiLU | nn.Linear)]
        assert not plain


@needs_packing
@pytest.mark.parametrize("frozen", [False, True])
def test_batch_norms_become_part_of_convolutions(frozen: bool) -> None:
    torch.manual_seed(0)
    features = torch.randn(2, 3, 9, 7)
    layers = nn.Sequential(ConvNorm(3, 8, 3, 2, frozen=frozen), nn.ConvTranspose2d(8, 4, 2, stride=2), nn.GELU()).eval()
    randomise(layers)
    before = parameters(layers)
    with torch.inference_mode():
        expected = layers(features)
        fold_norms(layers)
        assert relative_error(layers(features), expected) < 1e-5
        pack(layers)
        assert relative_error(layers(features), expected) < 1e-5
    assert isinstance(layers[0][1], FoldedNorm)
    assert isinstance(layers[1], PackedEnlargement)
    assert parameters(layers) == before


@needs_packing
def test_packed_weights_can_be_read() -> None:
    for layer, kind in ((nn.Linear(5, 7), PackedLinear), (nn.Conv2d(3, 8, 3), FusedConvolution)):
        holder = nn.Sequential(layer)
        pack(holder)
        assert isinstance(holder[0], kind)
        assert torch.equal(holder[0].weight, layer.weight)


def test_only_what_onednn_computes_is_packed() -> None:
    assert not can_pack(torch.device("meta"), torch.float32)
    assert not can_pack(CPU, torch.float64)
