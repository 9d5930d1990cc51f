"""Attention inside windows on a CPU by compiled C: the source beside this file (see ``everymask.native``)."""

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from everymask.native import compiled, in_threads

Kernel = Callable[["ctypes._CArgObject", int, int, int], int]

SOURCE = Path(__file__).with_suffix(".c")
LANES = 16  # as in the source
SCORES_PER_THREAD = 200_000  # starting a thread takes as long as some thousands of them


class _Problem(ctypes.Structure):
    """``Problem`` in the C source."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("query", "key", "value", "out", "bias", "regions")),
        *(
            (f"{name}_{step}", ctypes.c_int64)
            for name in ("query", "key", "value")
            for step in ("window", "head", "token")
        ),
        *((name, ctypes.c_int64) for name in ("windows_of_image", "heads", "tokens", "channels", "columns")),
        *((name, ctypes.c_float) for name in ("scale", "apart")),
    )
    memory: tuple[Tensor | None, ...]
    """What the pointers point to: it stays as long as a thread has the structure, even if nobody waits any more."""


def attends_natively(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> bool:
    """Whether ``attention_of_windows_native`` can do it: there is a kernel, and it knows the type and the shapes.

    The first call that gets that far compiles the kernel, or finds it in the cache.
    """
    _, _, heads, tokens, _ = query.shape
    return (
        type(query) is Tensor
        and query.device.type == "cpu"
        and query.dtype in (torch.float32, torch.bfloat16)
        and query.dtype == key.dtype == value.dtype
        and query.shape == key.shape == value.shape
        and bias.shape == (heads, tokens, tokens)
        and query.numel() > 0
        and kernel() is not None
    )


def attention_of_windows_native(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor, regions: Tensor | None, *, scale: float, apart: float
) -> Tensor:
    """``attention_of_windows`` in its contract, without gradients, where ``attends_natively``.

    It runs on as many threads as torch has. Scores are float32 whatever the inputs are.
    """
    run = kernel()
    assert run is not None
    batch, count, heads, tokens, channels = query.shape
    query, key, value = (_windows_of_rows(each) for each in (query, key, value))
    columns = -(-tokens // LANES) * LANES
    padded = F.pad(bias.float(), (0, columns - tokens), value=-torch.inf).contiguous()
    numbers = None if regions is None else F.pad(regions.float(), (0, columns - tokens)).contiguous()  # (N, columns)
    out = query.new_empty(batch, count, tokens, heads * channels)
    problem = _Problem(
        *(each.data_ptr() for each in (query, key, value, out, padded)),
        None if numbers is None else numbers.data_ptr(),
        *(stride for each in (query, key, value) for stride in each.stride()[:3]),
        *(count, heads, tokens, channels, columns),
        *(scale, apart),
    )
    problem.memory = (query, key, value, out, padded, numbers)
    half = int(query.dtype == torch.bfloat16)
    most = batch * count * heads * tokens * columns // SCORES_PER_THREAD

    def part(first: int, last: int) -> None:
        if run(ctypes.byref(problem), first, last, half):
            raise MemoryError("no memory for the scores of a window")

    in_threads(part, batch * count, most)
    return out


def _windows_of_rows(tensor: Tensor) -> Tensor:
    """(B, N, heads, n, channels) -> (B N, heads, n, channels), rows dense; a view wherever that can be."""
    windows = tensor.flatten(0, 1)
    return windows if windows.stride(-1) == 1 else windows.contiguous()


@cache
def kernel() -> Kernel | None:
    """The compiled function, or None where it is not to be had. Asked once a process."""
    library = compiled(SOURCE)
    if library is None:
        return None
    function = library.attend
    function.argtypes = (ctypes.POINTER(_Problem), ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
    function.restype = ctypes.c_int
    run: Kernel = function
    return run
