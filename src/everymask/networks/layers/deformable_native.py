"""Deformable attention on a CPU by compiled C: the source beside this file (see ``everymask.native``)."""

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from everymask.native import compiled, in_threads

if TYPE_CHECKING:
    from everymask.networks.layers.deformable_attention import Pyramid

Kernel = Callable[["ctypes._CArgObject", int, int, int], None]

SOURCE = Path(__file__).with_suffix(".c")
MOST_POINTS = 4096  # heads x levels x points: their places lie on a thread's stack
READS_PER_THREAD = 100_000  # corners of points; starting a thread takes as long as reading some thousands


class _Problem(ctypes.Structure):
    """``Problem`` in the C source."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("values", "offsets", "logits", "out")),
        *((name, ctypes.c_void_p) for name in ("columns", "rows", "widths", "heights", "starts")),
        *((name, ctypes.c_int64) for name in ("value_image", "value_token", "offset_image", "offset_query")),
        *((name, ctypes.c_int64) for name in ("logit_image", "logit_query")),
        *((name, ctypes.c_int64) for name in ("queries", "heads", "levels", "points", "channels")),
    )
    memory: tuple[Tensor, ...]
    """What the pointers point to: it stays as long as a thread has the structure, even if nobody waits any more."""


def reads_natively(values: Tensor, offsets: Tensor, logits: Tensor, pyramid: "Pyramid") -> bool:
    """Whether ``read_pyramid_native`` can do it: there is a kernel, and it knows the type and trusts the shapes.

    The first call that gets that far compiles the kernel, or finds it in the cache.
    """
    _, queries, heads, levels, points = logits.shape
    return (
        type(values) is Tensor  # not a stand-in without memory, as torch.export uses
        and values.device.type == "cpu"
        and values.dtype in (torch.float32, torch.bfloat16)
        and offsets.shape == (*logits.shape, 2)
        and pyramid.columns.shape == pyramid.rows.shape == (queries, levels)
        and len(values) == len(logits)
        and values.shape[1] == sum(height * width for height, width in pyramid.sizes) < 2**31
        and min(min(size) for size in pyramid.sizes) > 0
        and values.shape[2] % heads == 0
        and heads * levels * points <= MOST_POINTS
        and kernel() is not None
    )


def read_pyramid_native(values: Tensor, offsets: Tensor, logits: Tensor, pyramid: "Pyramid") -> Tensor:
    """``read_pyramid`` in its contract, without gradients, where ``reads_natively``; on as many threads as torch has.

    The last dimensions of the tensors may be part of wider rows, such as those of a product of several projections.
    """
    run = kernel()
    assert run is not None
    batch, queries, heads, levels, points = logits.shape
    dim, dtype = values.shape[-1], values.dtype
    values = _dense_rows(values)  # (B, S, dim)
    offsets, logits = _dense_rows(offsets.to(dtype).flatten(2)), _dense_rows(logits.to(dtype).flatten(2))
    out = values.new_empty(batch, queries, dim)
    maps = [each.contiguous() for each in (pyramid.columns, pyramid.rows)]  # (Q, L) float32
    sizes = [each.contiguous() for each in (pyramid.widths, pyramid.heights, pyramid.starts)]  # (L,) int64
    problem = _Problem(
        *(each.data_ptr() for each in (values, offsets, logits, out, *maps, *sizes)),
        *(stride for each in (values, offsets, logits) for stride in each.stride()[:2]),
        *(queries, heads, levels, points, dim // heads),
    )
    problem.memory = (values, offsets, logits, out, *maps, *sizes)
    total = batch * queries
    half = int(dtype == torch.bfloat16)
    most = total * heads * levels * points * 4 // READS_PER_THREAD
    in_threads(lambda first, last: run(ctypes.byref(problem), first, last, half), total, most)
    return out


def _dense_rows(tensor: Tensor) -> Tensor:
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


@cache
def kernel() -> Kernel | None:
    """The compiled function, or None where it is not to be had. Asked once a process."""
    library = compiled(SOURCE)
    if library is None:
        return None
    function = library.read_pyramid
    function.argtypes = (ctypes.POINTER(_Problem), ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
    function.restype = None
    run: Kernel = function
    return run
