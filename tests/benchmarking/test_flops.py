"""The arithmetic of a network: right, and the same with and without values."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from everymask.benchmarking.flops import count_gflop
from everymask.checkpoints import load_checkpoint
from everymask.engines.engine import Inputs
from everymask.networks.outputs import MaskQueries, PixelLogits
from everymask.networks.selective import Keep, SelectiveNetwork
from small_models import DEPTH_ANYTHING, DEPTH_PROCESSOR, DPT_BOTH, DPT_PROCESSOR, save_small


class Convolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 5, 3, padding=1)

    def forward(self, pixel_values: Tensor) -> PixelLogits:
        return PixelLogits(self.layer(pixel_values))


class Asked(SelectiveNetwork):
    """A product with a 10 x 10 matrix for every mask that is wanted."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(10, 10, bias=False)

    def forward(self, pixel_values: Tensor, keep: Keep | None = None) -> MaskQueries:
        assert keep is not None
        class_logits = torch.arange(12.0).view(1, 4, 3)
        wanted = keep(class_logits).nonzero()
        for _ in wanted:
            pixel_values = self.layer(pixel_values)
        return MaskQueries(class_logits, pixel_values)


def test_a_multiplication_and_an_addition_are_two_operations() -> None:
    network = Convolution()
    gflop = count_gflop(network, Inputs(torch.zeros(2, 3, 8, 10)))
    assert gflop == pytest.approx(2 * (2 * 8 * 10 * 5) * (3 * 9) / 1e9)
    assert network.layer.weight.device.type == "cpu"
    assert network.layer.weight.requires_grad


def test_only_the_masks_that_are_kept_count() -> None:
    inputs = Inputs(torch.zeros(1, 3, 10, 10), keep=lambda class_logits: class_logits[..., 0] > 3)
    assert count_gflop(Asked(), inputs) == pytest.approx(2 * (2 * 3 * 10 * 10 * 10) / 1e9)


@pytest.mark.parametrize(
    ("config", "processor"), [(DEPTH_ANYTHING, DEPTH_PROCESSOR), (DPT_BOTH, DPT_PROCESSOR)], ids=["depth", "dpt"]
)
def test_the_copy_without_values_does_the_same_arithmetic(
    tmp_path: Path, config: dict[str, Any], processor: dict[str, Any]
) -> None:
    network = load_checkpoint(save_small(tmp_path, config, processor)).network
    pixel_values = torch.zeros(1, 3, 64, 96) if config is DPT_BOTH else torch.zeros(1, 3, 98, 70)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as real:
        network(pixel_values)
    assert count_gflop(network, Inputs(pixel_values)) == real.get_total_flops() / 1e9 > 0
