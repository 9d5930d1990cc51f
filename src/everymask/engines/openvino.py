"""OpenVINO: networks compiled for the CPU, as fast as they get there."""

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from everymask.devices import dtype_name
from everymask.engines.engine import EngineName, Inputs
from everymask.engines.fingerprint import fingerprint
from everymask.engines.flat import unflatten
from everymask.engines.unreported import unreported
from everymask.errors import MissingExtraError, OptionError
from everymask.networks.backbones.beit import BeitAttention
from everymask.networks.backbones.bit import BiT
from everymask.networks.outputs import Output
from everymask.networks.selective import SelectiveNetwork

if TYPE_CHECKING:
    from everymask.engines.openvino_models import Compiled

_MOST_SHAPES = 6
_DTYPES = (torch.float32, torch.bfloat16)


class OpenVINOEngine:
    """Runs a network through OpenVINO on the CPU, compiled for every shape of its inputs.

    The first input of a new shape waits for that: for about a second where the cache folder has what an earlier process
    compiled (see ``cache.cache_folder``), else for as long as torch takes for one image and 5 to 20 seconds more. The
    models of the last 6 shapes are kept, each with weights of its own; the network's stay in memory for other shapes.
    Outputs are float32. Calls from several threads take turns.
    """

    name: EngineName = "openvino"

    def __init__(self, network: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        """Raises OptionError for a device, dtype or network it cannot serve, MissingExtraError without OpenVINO."""
        check_openvino(network, device)
        if dtype not in _DTYPES:
            raise OptionError(
                f"engine 'openvino' does not compute in {dtype_name(dtype)}: choose dtype 'bfloat16' or 'float32'"
            )
        self.network = network.to(device, torch.float32).eval()
        self.device = device
        self.dtype = dtype
        self._fingerprint: str | None = None
        self._compiled: OrderedDict[tuple[torch.Size, ...], Compiled] = OrderedDict()
        self._lock = Lock()

    def __call__(self, inputs: Inputs) -> Output:
        arguments = [inputs.pixel_values.float().cpu().contiguous()]
        if inputs.task_tokens is not None:
            arguments.append(inputs.task_tokens.cpu().contiguous())
        with self._lock:
            return unflatten(self._for_shapes_of(arguments).run(arguments))

    def _for_shapes_of(self, arguments: list[Tensor]) -> "Compiled":
        from everymask.engines.openvino_models import compiled

        key = tuple(each.shape for each in arguments)
        found = self._compiled.pop(key, None)
        if found is None:
            self._fingerprint = self._fingerprint or fingerprint(self.network)
            found = compiled(self.network, arguments, self.dtype, self._fingerprint)
        self._compiled[key] = found
        if len(self._compiled) > _MOST_SHAPES:
            self._compiled.popitem(last=False)
        return found


def check_openvino(network: nn.Module, device: torch.device) -> None:
    """Raises OptionError for a device or network that OpenVINO cannot serve, MissingExtraError without OpenVINO."""
    if device.type != "cpu":
        raise OptionError(f"engine 'openvino' runs on the CPU: with device '{device}' use engine 'eager' or 'auto'")
    reason = why_not(network)
    if reason is not None:
        raise OptionError(f"engine 'openvino' cannot run this {type(network).__name__}: {reason}; use engine 'eager'")
    try:
        with unreported():
            import openvino  # noqa: F401 - an absent one is told now, not at the first image
    except ImportError as error:
        raise MissingExtraError(
            "engine 'openvino' needs an extra: install it with pip install 'everymask[openvino]'"
        ) from error


def why_not(network: nn.Module) -> str | None:
    """What keeps OpenVINO from running a network, or from doing it well; None where nothing does."""
    for module in network.modules():
        if isinstance(module, SelectiveNetwork):
            return "it makes masks for the queries that decoding chooses"
        if isinstance(module, BeitAttention):
            return "its relative positions, gigabytes for a large image, would become constants"
        if isinstance(module, BiT):
            return "OpenVINO crashes on some of its convolutions"
    return None
