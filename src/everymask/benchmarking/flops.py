"""How much arithmetic a network does."""

from copy import deepcopy
from dataclasses import replace

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from everymask.engines.engine import Inputs, run_network
from everymask.networks.selective import SelectiveNetwork


def count_gflop(network: nn.Module, inputs: Inputs) -> float:
    """The matrix products, convolutions and attention of one forward pass, in units of 1e9 operations.

    A multiplication and an addition are two operations; what is done element by element is not counted, nor is the
    gathering of deformable attention. ``network`` is as a checkpoint gives it, on the CPU, and stays as it is: the
    counting is done on a copy without values, which takes no time. Only a network that makes the masks that are asked
    for really runs, since which those are follows from the values.
    """
    if isinstance(network, SelectiveNetwork):
        network = deepcopy(network).requires_grad_(False)  # the counter cannot do with gradients
    else:
        network = _without_values(network)
        tokens = inputs.task_tokens
        inputs = replace(
            inputs,
            pixel_values=inputs.pixel_values.to("meta"),
            task_tokens=None if tokens is None else tokens.to("meta"),
        )
    device = inputs.pixel_values.device
    # The counter does not know the CPU's fused attention, and inference mode hides operations from it.
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(False), torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        run_network(network, inputs, device, torch.float32)
    return counter.get_total_flops() / 1e9


def _without_values(network: nn.Module) -> nn.Module:
    """A copy on the meta device; what has values is not copied on the way."""
    empty: dict[int, object] = {id(each): nn.Parameter(each.to("meta"), False) for each in network.parameters()}
    empty |= {id(each): each.to("meta") for each in network.buffers()}
    return deepcopy(network, empty)
