"""Deformable attention with gradients on a CPU by compiled C, forward and backward (see ``everymask.native``)."""

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from everymask.native import compiled, in_threads
from everymask.networks.layers.deformable_native import read_pyramid_native, reads_natively

if TYPE_CHECKING:
    from everymask.networks.layers.deformable_attention import Pyramid

Kernel = Callable[["ctypes._CArgObject", int, int], None]

SOURCE = Path(__file__).with_suffix(".c")
LANES = 16  # numbers in a vector of the C source
ALIGNMENT = 64  # bytes, of a vector in memory: torch's own


class _Problem(ctypes.Structure):
    """``Problem`` in the C source."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("values", "slopes", "offsets", "weights")),
        *((name, ctypes.c_void_p) for name in ("value_slopes", "offset_slopes", "weight_slopes")),
        *((name, ctypes.c_void_p) for name in ("columns", "rows", "widths", "heights", "starts")),
        *((name, ctypes.c_int64) for name in ("tokens", "queries", "heads", "levels", "points", "vectors")),
    )
    memory: tuple[Tensor, ...]
    """What the pointers point to: it stays as long as a thread has the structure, even if nobody waits any more."""


def learns_natively(values: Tensor, offsets: Tensor, logits: Tensor, pyramid: "Pyramid") -> bool:
    """Whether ``read_pyramid_with_gradients`` can do it: there are kernels for both directions, as for reading."""
    return reads_natively(values, offsets, logits, pyramid) and kernel() is not None


def read_pyramid_with_gradients(values: Tensor, offsets: Tensor, logits: Tensor, pyramid: "Pyramid") -> Tensor:
    """``read_pyramid`` in its contract, with gradients, where ``learns_natively``.

    Gradients are computed in float32, on as many threads as torch has, and do not depend on their number.
    """
    read: Callable[..., Tensor] = _Reading.apply
    return read(values, offsets, logits, pyramid)


class _Reading(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, offsets: Tensor, logits: Tensor, pyramid: "Pyramid") -> Tensor:
        ctx.save_for_backward(values, offsets, logits)
        ctx.pyramid = pyramid
        return read_pyramid_native(values, offsets, logits, pyramid)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slopes: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        values, offsets, logits = ctx.saved_tensors
        gradients = pyramid_gradients(values, offsets, logits, slopes, ctx.pyramid)
        given = (values, offsets, logits)
        by_values, by_offsets, by_logits = (
            gradient.to(each.dtype) for gradient, each in zip(gradients, given, strict=True)
        )
        return by_values, by_offsets, by_logits, None


def pyramid_gradients(
    values: Tensor, offsets: Tensor, logits: Tensor, slopes: Tensor, pyramid: "Pyramid"
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients by the first three arguments, in their shapes and float32.

    ``slopes`` (B, Q, dim) are those of what was read; the others are ``read_pyramid``'s.
    """
    run = kernel()
    assert run is not None
    batch, queries, heads, levels, points = logits.shape
    channels = values.shape[-1] // heads
    weights = logits.float().flatten(-2).softmax(-1)  # (B, Q, heads, L * P)
    tables, slope_rows = _rows_of_heads(values, heads), _rows_of_heads(slopes, heads)
    inputs = tables, slope_rows, offsets.float().contiguous(), weights
    by_tables, by_offsets, by_weights = (
        torch.zeros_like(tables),
        torch.empty_like(inputs[2]),
        torch.empty_like(weights),
    )
    maps = [each.contiguous() for each in (pyramid.columns, pyramid.rows)]  # (Q, L) float32
    sizes = [each.contiguous() for each in (pyramid.widths, pyramid.heights, pyramid.starts)]  # (L,) int64
    memory = (*inputs, by_tables, by_offsets, by_weights, *maps, *sizes)
    problem = _Problem(
        *(each.data_ptr() for each in memory),
        *(values.shape[1], queries, heads, levels, points, tables.shape[-1] // LANES),
    )
    problem.memory = memory
    total = batch * heads
    in_threads(lambda first, last: run(ctypes.byref(problem), first, last), total, total)
    by_values = by_tables[..., :channels].transpose(1, 2).flatten(2)  # (B, S, dim)
    # Of the softmax.
    by_logits = weights * (by_weights - (weights * by_weights).sum(-1, keepdim=True))
    return by_values, by_offsets, by_logits.view(logits.shape)


def _rows_of_heads(rows: Tensor, heads: int) -> Tensor:
    """(B, N, dim) -> (B, heads, N, dim / heads and zeros up to a multiple of LANES), float32."""
    apart = rows.float().unflatten(-1, (heads, -1)).transpose(1, 2)
    padded = F.pad(apart, (0, -apart.shape[-1] % LANES)).contiguous()
    # What torch allocates is aligned; the first entry of what it was given as a view need not be.
    return padded if padded.data_ptr() % ALIGNMENT == 0 else padded.clone()


@cache
def kernel() -> Kernel | None:
    """The compiled function, or None where it is not to be had. Asked once a process."""
    library = compiled(SOURCE)
    if library is None:
        return None
    function = library.pyramid_gradients
    function.argtypes = (ctypes.POINTER(_Problem), ctypes.c_int64, ctypes.c_int64)
    function.restype = None
    run: Kernel = function
    return run
