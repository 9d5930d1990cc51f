"""A convolution over patches is the convolution it says it is, in every number type."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from everymask.engines.packing import PackedPatches, can_pack, pack
from everymask.networks.layers.patches import PatchConvolution

# Channels and patch sides of the published networks, and those that oneDNN gets wrong in bfloat16 with AMX.
CASES = [(3, 16), (3, 4), (96, 2), (32, 8), (64, 4), (160, 2), (8, 8), (16, 4), (16, 16), (64, 16)]


@pytest.mark.parametrize(("channels", "patch"), CASES)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@torch.inference_mode()
def test_it_equals_a_convolution(channels: int, patch: int, packed: bool, dtype: torch.dtype) -> None:
    if packed and not can_pack(torch.device("cpu"), dtype):
        pytest.skip("no packed products in this type on this processor")
    torch.manual_seed(0)
    network = nn.Sequential(PatchConvolution(channels, 24, patch)).to(dtype)
    features = torch.randn(2, channels, 2 * patch + 1, 3 * patch + 1, dtype=dtype)  # with a rest that is cut off
    weight, bias = network[0].weight, network[0].bias
    expected = F.conv2d(features.float(), weight.float(), bias.float(), stride=patch)
    if packed:
        pack(network)
        assert isinstance(network[0], PackedPatches)
        assert torch.equal(network[0].weight, weight)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    assert (network(features).float() - expected).abs().max() <= tolerance * expected.abs().max()


def test_its_parameters_are_those_of_the_convolution() -> None:
    shapes = {name: tuple(each.shape) for name, each in PatchConvolution(3, 8, 4).named_parameters()}
    assert shapes == {"weight": (8, 3, 4, 4), "bias": (8,)}
