"""Networks as OpenVINO's compiled models: made by tracing, kept on disk, found again at the next start."""

import hashlib
import os
import warnings
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import openvino as ov
import torch
from numpy.typing import NDArray
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from torch import Tensor, nn

from everymask.atomic import ready_folder, write
from everymask.cache import cache_folder, drop_oldest
from everymask.engines.flat import Flat
from everymask.errors import CheckpointError, OptionError

OUTPUT = "everymask."
"""What the names of a model's outputs begin with; the rest is the name that ``flatten`` gives."""

_WEIGHTS = ["everymask", "weights"]  # where a model's file says which weights it was made from
_PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16"}


class Compiled:
    """A network compiled for arguments of one shape each."""

    def __init__(self, model: ov.CompiledModel, content: NDArray[np.uint8] | None = None) -> None:
        """``content``: the file of the model, in which its weights lie, where it was read from one."""
        self._request = model.create_infer_request()
        self._content = content  # OpenVINO reads it and does not hold it: it goes after the request
        # Compiling gives outputs further names, of what it made them from.
        names = [name for port in model.outputs for name in port.names if name.startswith(OUTPUT)]
        self._shapes = {
            name.removeprefix(OUTPUT): tuple(port.shape) for name, port in zip(names, model.outputs, strict=True)
        }

    def run(self, arguments: Sequence[Tensor]) -> dict[str, Tensor]:
        """The outputs as ``flatten`` names them, float32, in tensors that nobody else has; one call at a time."""
        outputs = {name: torch.empty(shape) for name, shape in self._shapes.items()}
        for index, output in enumerate(outputs.values()):
            self._request.set_output_tensor(index, ov.Tensor(output.numpy(), shared_memory=True))
        for index, argument in enumerate(arguments):
            self._request.set_input_tensor(index, ov.Tensor(argument.numpy(), shared_memory=True))
        self._request.infer(share_outputs=True)
        return outputs


def compiled(network: nn.Module, arguments: Sequence[Tensor], dtype: torch.dtype, network_print: str) -> Compiled:
    """``network`` for arguments of these shapes, computing in ``dtype``.

    ``network`` is in eval mode, float32 and on the CPU; ``network_print`` is its fingerprint. What was compiled before
    is read from disk, in about a second. Otherwise the network runs once to be traced, and seconds to a minute go by.
    """
    config = _config(dtype)
    shapes = [tuple(each.shape) for each in arguments]
    about = (
        network_print,
        shapes,
        config,
        torch.__version__,
        ov.__version__,
        _core().get_property("CPU", "FULL_DEVICE_NAME"),
    )
    path = cache_folder("openvino") / f"{hashlib.sha256(repr(about).encode()).hexdigest()}.blob"
    stored = _read(path, config)
    if stored is not None:
        return stored
    model = _core().compile_model(convert(network, arguments), "CPU", config)
    with suppress(OptionError):  # a disk that is full or read-only costs the next start its time, nothing else
        write(ready_folder(path.parent) / path.name, model.export_model().getvalue())
        drop_oldest(path.parent)
    return Compiled(model)


def convert(network: nn.Module, arguments: Sequence[Tensor]) -> ov.Model:
    """``network`` as OpenVINO's model, for arguments of exactly these shapes."""
    flat = Flat(network)
    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        # It warns of every size that becomes a constant: that is what is wanted, a model is for one shape.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        traced = torch.jit.trace(flat, tuple(arguments), check_trace=False)
    decoder = TorchScriptPythonDecoder(traced, example_input=tuple(arguments))  # has to live as long as ``loaded``
    frontend = FrontEndManager().load_by_framework("pytorch")
    loaded = frontend.load(decoder)
    for place, argument in zip(loaded.get_inputs(), arguments, strict=True):
        loaded.set_partial_shape(place, ov.PartialShape(list(argument.shape)))
        loaded.set_element_type(place, ov.Type(argument.numpy().dtype))
    model = frontend.convert(loaded)
    for port, name in zip(model.outputs, flat.names, strict=True):
        port.get_tensor().set_names({OUTPUT + name})
    return model


def without_pixels(model: ov.Model) -> list[str]:
    """The names of the operations on inputs that are not the pixels, the first one, alone: a task's tokens.

    Tokens are numbers of words, of which 8 bits cannot tell many apart.
    """
    reached: list[set[str]] = []  # from the pixels, and from the other inputs
    for ports in (model.inputs[:1], model.inputs[1:]):
        names: set[str] = set()
        ahead = [port.get_node() for port in ports]
        while ahead:
            node = ahead.pop()
            if node.get_friendly_name() not in names:
                names.add(node.get_friendly_name())
                ahead += [target.get_node() for output in node.outputs() for target in output.get_target_inputs()]
        reached.append(names)
    pixels, others = reached
    return sorted(others - pixels - {port.get_node().get_friendly_name() for port in model.inputs})


def compile_model(model: ov.Model, dtype: torch.dtype) -> Compiled:
    """A model compiled as it is; ``dtype`` is what those of its operations compute in that are not quantised."""
    return Compiled(_core().compile_model(model, "CPU", _config(dtype)))


def save_model(model: ov.Model, path: Path, weights: str) -> None:
    """Writes a model to ``path``, an .xml, and its numbers to the .bin beside it.

    ``weights``: the fingerprint of those it was made from. Raises OptionError where the folder cannot be written.
    """
    model.set_rt_info(weights, _WEIGHTS)
    with TemporaryDirectory() as folder:
        aside = Path(folder) / path.name
        ov.save_model(model, aside, compress_to_fp16=False)
        ready_folder(path.parent)
        for suffix in (".bin", ".xml"):
            write(path.with_suffix(suffix), aside.with_suffix(suffix).read_bytes())


def read_model(path: Path, weights: str) -> ov.Model:
    """The model in a file of ``save_model``; its numbers are read when they are needed.

    Raises CheckpointError where it cannot be read, and where it was made from other weights than ``weights``.
    """
    try:
        model = _core().read_model(path)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path} cannot be read as a network of OpenVINO's: make it again with `everymask quantize`"
        ) from error
    if not model.has_rt_info(_WEIGHTS) or model.get_rt_info(_WEIGHTS).value != weights:
        raise CheckpointError(
            f"{path} was made from other weights than those beside it: make it again with `everymask quantize`"
        )
    return model


def _config(dtype: torch.dtype) -> dict[str, str | int]:
    return {
        "INFERENCE_PRECISION_HINT": _PRECISIONS[dtype],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }


def _read(path: Path, config: dict[str, str | int]) -> Compiled | None:
    """The network of a file, whose weights are read when they are needed; None where there is none."""
    try:
        os.utime(path)  # says when it was used last
        content = np.memmap(path, np.uint8, "c")
        return Compiled(_core().import_model(ov.Tensor(content, shared_memory=True), "CPU", config), content)
    except (OSError, ValueError, RuntimeError):  # not there, or of another build of OpenVINO than it says
        return None


@cache
def _core() -> ov.Core:
    return ov.Core()
