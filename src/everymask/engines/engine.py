"""What runs a network: the seam between a segmenter, which knows images, and a runtime, which knows devices."""

from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor, nn

from everymask.networks.outputs import Output
from everymask.networks.selective import Keep, SelectiveNetwork

EngineName = Literal["eager", "compile", "openvino", "graphs"]
"""torch as it is, torch.compile, OpenVINO, or torch recorded as CUDA graphs."""

ENGINES: tuple[EngineName, ...] = get_args(EngineName)


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a network is given for a batch of B images.

    ``pixel_values`` (B, 3, h, w) float32, anywhere; an engine brings them to where and in what it computes.
    ``task_tokens`` (B, length) int64 for a network that is told its task (OneFormer), None for all others. ``keep``:
    the queries whose masks will be read; a network that makes every mask by itself may leave the others out.
    """

    pixel_values: Tensor
    task_tokens: Tensor | None = None
    keep: Keep | None = None


class Engine(Protocol):
    """Runs one network in inference mode; the results of any two engines are the same but for rounding.

    ``name``: which one. ``device``: where outputs are. ``dtype``: what the network computes in.
    """

    @property
    def name(self) -> EngineName: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def __call__(self, inputs: Inputs) -> Output:
        """What the network says; its tensors are on ``device``, in a floating-point type."""
        ...


def run_network(network: nn.Module, inputs: Inputs, device: torch.device, dtype: torch.dtype) -> Output:
    """Calls a network of any kind on inputs that are brought to ``device`` and ``dtype`` first."""
    pixel_values = inputs.pixel_values.to(device, dtype)
    output: Output
    if isinstance(network, SelectiveNetwork):
        output = network(pixel_values, inputs.keep)
    elif inputs.task_tokens is not None:
        output = network(pixel_values, task_tokens=inputs.task_tokens.to(device))
    else:
        output = network(pixel_values)
    return output
