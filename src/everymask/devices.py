"""Which device and number type a network computes on."""

import re

import torch

from everymask.errors import OptionError

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(device: str) -> torch.device:
    """The torch device for "auto" (cuda, then mps, then cpu), "cpu", "cuda", "cuda:N" or "mps".

    Raises OptionError for any other name and for a device that this machine or this build of torch does not have.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if not isinstance(device, str) or not re.fullmatch(r"cpu|mps|cuda(:\d+)?", device):
        raise OptionError(f"unknown device {device!r}: choose auto, cpu, cuda, cuda:N or mps")
    chosen = torch.device(device)
    if chosen.type == "cuda":
        count = torch.cuda.device_count()
        if count == 0:
            raise OptionError(
                f"device {device!r} is not available: torch {torch.__version__} finds no CUDA GPU; use device 'cpu' or "
                "'auto', or install a driver and a CUDA build of torch"
            )
        if chosen.index is not None and chosen.index >= count:
            raise OptionError(f"device {device!r} is not available: the last one here is 'cuda:{count - 1}'")
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise OptionError(f"device {device!r} is not available: it needs an Apple GPU; use device 'cpu' or 'auto'")
    return chosen


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The torch dtype for "auto" (float32), "float32", "bfloat16" or "float16".

    Raises OptionError for any other name and for float16 on the CPU.
    """
    if dtype == "auto":
        return torch.float32
    if dtype not in _DTYPES:
        raise OptionError(f"unknown dtype {dtype!r}: choose auto, {', '.join(_DTYPES)}")
    if dtype == "float16" and device.type == "cpu":
        raise OptionError(
            "dtype 'float16' is refused on the CPU, which computes it slowly and where it easily overflows: "
            "use 'bfloat16' or 'float32'"
        )
    return _DTYPES[dtype]
