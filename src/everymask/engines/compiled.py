"""torch.compile: kernels made for one network and one size of input."""

import os
import shutil
import sys
from pathlib import Path
from typing import cast

import torch
from torch import nn

from everymask.cache import private_folder
from everymask.engines.engine import EngineName, Inputs, run_network
from everymask.errors import OptionError
from everymask.networks.outputs import Output
from everymask.networks.selective import SelectiveNetwork


class CompiledEngine:
    """Moves ``network`` to ``device`` and ``dtype``, in eval mode, and compiles it for every shape of input it meets.

    Compiling takes minutes at the first image of each shape; the kernels are kept on disk, in
    ``private_folder("inductor")`` or where $TORCHINDUCTOR_CACHE_DIR says, so that later processes only trace the
    network again. Of more than torch's limit of shapes (8) the further ones run as the eager engine would. On a CPU
    weights are rearranged for the kernels, which holds them twice.

    Raises OptionError for networks that cannot be compiled whole, and where there is no C++ compiler or no folder for
    the kernels.
    """

    name: EngineName = "compile"

    def __init__(self, network: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        if isinstance(network, SelectiveNetwork):
            raise OptionError(
                f"engine 'compile' cannot run {type(network).__name__}, which decides from an image's classes how many "
                "masks it makes: use engine 'eager' or 'auto'"
            )
        _check_compiler()
        if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(_folder_of_kernels())  # torch has no other way
        self.network = network.to(device, dtype).eval()
        self.device = device
        self.dtype = dtype
        compiled = torch.compile(
            self.network, dynamic=False, options={"freezing": True} if device.type == "cpu" else None
        )
        self._compiled = cast(nn.Module, compiled)

    def __call__(self, inputs: Inputs) -> Output:
        with torch.inference_mode():
            return run_network(self._compiled, inputs, self.device, self.dtype)


def _check_compiler() -> None:
    """Raises OptionError where torch will find no C++ compiler."""
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    compiler = os.environ.get("CXX") or usual
    if shutil.which(compiler) is None:
        raise OptionError(
            f"engine 'compile' needs a C++ compiler and finds no {compiler}: install one (on Debian and Ubuntu: apt "
            "install g++), say with the variable CXX where it is, or use engine 'eager' or 'auto'"
        )


def _folder_of_kernels() -> Path:
    """Where everymask keeps them. Raises OptionError where that cannot be."""
    try:
        return private_folder("inductor")
    except OSError as error:
        raise OptionError(
            f"engine 'compile' has no folder for its kernels ({error}): say with the variable EVERYMASK_CACHE where "
            "one can be, or use engine 'eager' or 'auto'"
        ) from error
