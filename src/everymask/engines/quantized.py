"""Networks in int8 through OpenVINO, as ``everymask.quantization`` makes them beside a checkpoint."""

from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import torch
from torch import nn

from everymask.engines.engine import EngineName, Inputs
from everymask.engines.fingerprint import weights_fingerprint
from everymask.engines.flat import unflatten
from everymask.engines.openvino import check_openvino
from everymask.errors import CheckpointError, OptionError
from everymask.geometry import Size
from everymask.networks.outputs import Output

if TYPE_CHECKING:
    from everymask.engines.openvino_models import Compiled

FOLDER = "openvino-int8"
"""Where in a checkpoint's folder its int8 networks lie: HEIGHTxWIDTH.xml and .bin for each size of the input."""


class QuantizedEngine:
    """Runs the int8 networks in a checkpoint's folder, each made for one size of the input, on the CPU.

    What int8 does not fit is computed in float32: in bfloat16 OpenVINO 2026.4 gives wrong numbers for such mixed
    networks on processors with AMX. A size is compiled when it is first seen, in about a second. The images of a batch
    go through the network one by one. Outputs are float32. Calls from several threads take turns.
    """

    name: EngineName = "openvino"
    dtype = torch.int8

    def __init__(self, network: nn.Module, device: torch.device, folder: Path | None) -> None:
        """``network``: the checkpoint's, float32, whose weights the int8 networks must come from; ``folder``: its own.

        Raises OptionError for a device or network that OpenVINO does not serve and where the folder holds no int8
        network, MissingExtraError without OpenVINO, CheckpointError where one cannot be read or comes from other
        weights.
        """
        check_openvino(network, device)
        from everymask.engines.openvino_models import read_model

        files = sorted((folder / FOLDER).glob("*.xml")) if folder is not None else []
        if not files:
            raise OptionError(
                "dtype 'int8' needs a network that was quantized, and there is none in the model's folder: make one "
                "with `everymask quantize MODEL IMAGES --output FOLDER` and load that folder"
            )
        self.device = device
        weights = weights_fingerprint(network)
        self._models = {_size_of(path): read_model(path, weights) for path in files}
        self._compiled: dict[Size, Compiled] = {}
        self._lock = Lock()

    def __call__(self, inputs: Inputs) -> Output:
        arguments = [inputs.pixel_values.float().cpu().contiguous()]
        if inputs.task_tokens is not None:
            arguments.append(inputs.task_tokens.cpu().contiguous())
        size = Size(*inputs.pixel_values.shape[2:])
        with self._lock:
            network = self._of_size(size)
            outputs = [network.run(image) for image in zip(*(each.split(1) for each in arguments), strict=True)]
        return unflatten({name: torch.cat([each[name] for each in outputs]) for name in outputs[0]})

    def _of_size(self, size: Size) -> "Compiled":
        from everymask.engines.openvino_models import compile_model

        if size not in self._models:
            made_for = " and ".join(f"{height} x {width}" for height, width in self._models)
            raise OptionError(
                f"the network's input is {size.height} x {size.width} pixels, and its int8 form was made for "
                f"{made_for}: give images, size and window as in `everymask quantize`, quantize for this size, too, or "
                "use dtype 'bfloat16' or 'float32'"
            )
        if size not in self._compiled:
            self._compiled[size] = compile_model(self._models[size], torch.float32)
        return self._compiled[size]


def quantized_file(folder: Path, size: Size) -> Path:
    """The int8 network for inputs of a size, in a checkpoint's folder: an .xml, with the numbers in .bin beside it."""
    return folder / FOLDER / f"{size.height}x{size.width}.xml"


def _size_of(path: Path) -> Size:
    height, _, width = path.stem.partition("x")
    if not (height.isascii() and height.isdigit() and width.isascii() and width.isdigit()):
        raise CheckpointError(
            f"{path} is no int8 network that everymask made: their names are as 384x480.xml; take it out of the folder"
        )
    return Size(int(height), int(width))
