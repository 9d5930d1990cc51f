"""Which device and number type a network computes on."""

import platform
import re

import torch

from everymask.errors import OptionError

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "int8": torch.int8}


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


def choose_dtype(dtype: str, device: torch.device, *, depth: bool = False) -> torch.dtype:
    """The torch dtype for "auto", "float32", "bfloat16", "float16" or "int8".

    "auto" is bfloat16 for classes and masks where ``device`` computes it natively (see ``computes_bfloat16``): against
    float32 few pixels change, those where two classes are all but equal. It is float32 elsewhere, and for networks
    that give ``depth``: the 8 significant bits of bfloat16 would show as steps in smooth depth.

    Raises OptionError for any other name, for float16 on the CPU and for int8 elsewhere.
    """
    if dtype == "auto":
        return torch.bfloat16 if not depth and computes_bfloat16(device) else torch.float32
    if dtype not in _DTYPES:
        raise OptionError(f"unknown dtype {dtype!r}: choose auto, {', '.join(_DTYPES)}")
    if dtype == "float16" and device.type == "cpu":
        raise OptionError(
            "dtype 'float16' is refused on the CPU, which computes it slowly and where it easily overflows: "
            "use 'bfloat16' or 'float32'"
        )
    if dtype == "int8" and device.type != "cpu":
        raise OptionError(f"dtype 'int8' is for device 'cpu' with engine 'openvino', not for {device}")
    return _DTYPES[dtype]


def dtype_name(dtype: torch.dtype) -> str:
    """As ``choose_dtype`` takes it: "float32", "bfloat16", "float16" or "int8"."""
    return str(dtype).removeprefix("torch.")


def computes_bfloat16(device: torch.device) -> bool:
    """Whether ``device`` multiplies matrices of bfloat16 in hardware: then it is about twice as fast as float32.

    True for CPUs with AVX512-BF16 or AMX, for ARM's with its bfloat16 extension, and for CUDA GPUs since Ampere and
    AMD's; False for everything else.
    """
    if device.type == "cuda":
        return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if platform.machine().lower() in ("x86_64", "amd64"):
        # oneDNN would say yes to any AVX-512 and emulate. Whatever has AMX has AVX512-BF16, too.
        return torch.cpu._is_avx512_bf16_supported()
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
