"""Which engine a network runs on."""

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from everymask.engines.compiled import CompiledEngine
from everymask.engines.eager import EagerEngine
from everymask.engines.engine import ENGINES, Engine, EngineName
from everymask.engines.graphs import GraphsEngine
from everymask.engines.openvino import OpenVINOEngine, why_not
from everymask.engines.quantized import QuantizedEngine
from everymask.errors import OptionError
from everymask.networks.layers.deformable_attention import DeformableAttention


def check_engine(name: str, dtype: torch.dtype | None = None) -> None:
    """Raises OptionError for a name that is neither "auto" nor an engine's, or of one that never computes in dtype."""
    if name != "auto" and name not in ENGINES:
        raise OptionError(f"unknown engine {name!r}: choose auto, {', '.join(ENGINES)}")
    if dtype == torch.int8 and name not in ("auto", "openvino"):
        raise OptionError(f"engine {name!r} does not compute in int8: use engine 'openvino', or another dtype")


def available_engines(network: nn.Module, device: torch.device) -> tuple[EngineName, ...]:
    """The engines that are installed and can run the network on the device, without those that only come when asked
    for: "compile" needs minutes to start, and "graphs" has not proved itself on a GPU.
    """
    openvino = find_spec("openvino") is not None and device.type == "cpu" and why_not(network) is None
    return ("eager", "openvino") if openvino else ("eager",)


def fastest_engine(network: nn.Module, device: torch.device, dtype: torch.dtype) -> EngineName:
    """The fastest of them, as benchmarks/NOTES.md measured.

    In float32 OpenVINO is no faster than eager's packed weights; in bfloat16 it is, but for networks with deformable
    attention, for which eager has a kernel.
    """
    gathers = any(isinstance(module, DeformableAttention) for module in network.modules())
    openvino = dtype == torch.bfloat16 and not gathers and "openvino" in available_engines(network, device)
    return "openvino" if openvino else "eager"


def make_engine(
    name: str, network: nn.Module, device: torch.device, dtype: torch.dtype, folder: Path | None = None
) -> Engine:
    """The engine of a name; "auto" takes the fastest that is installed and can run the network on the device.

    ``folder``: of the checkpoint, where an int8 form of its network may lie.
    Raises OptionError where the engine is unknown or cannot run the network on the device or in ``dtype``,
    MissingExtraError where it is not installed, CheckpointError where the int8 form is damaged or another network's.
    """
    check_engine(name, dtype)
    if dtype == torch.int8:
        return QuantizedEngine(network, device, folder)
    chosen = fastest_engine(network, device, dtype) if name == "auto" else name
    if chosen == "openvino":
        return OpenVINOEngine(network, device, dtype)
    if chosen == "compile":
        return CompiledEngine(network, device, dtype)
    if chosen == "graphs":
        return GraphsEngine(network, device, dtype)
    return EagerEngine(network, device, dtype, for_good=True)
