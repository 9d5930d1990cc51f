"""Queries read pixel by pixel on a CPU by compiled C: the source beside this file (see ``everymask.native``)."""

import ctypes
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from everymask.decoding.resizing import ROUNDING, Grid
from everymask.decoding.taps import Taps
from everymask.native import compiled, in_threads

SOURCE = Path(__file__).with_suffix(".c")
_VALUES_PER_THREAD = 500_000  # starting a thread takes as long as resizing some ten thousand


class _Problem(ctypes.Structure):
    """``Problem`` in the C source."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("logits", "weights", "row_low", "row_high", "row_weight")),
        *((name, ctypes.c_void_p) for name in ("column_low", "column_high", "column_weight", "out")),
        *((name, ctypes.c_int64) for name in ("plane", "line", "queries", "classes", "columns")),
        *((name, ctypes.c_float) for name in ("mask_logit", "rounding")),
    )


def compete_natively(
    logits: Tensor, scores: Tensor, grid: Grid, mask_logit: float
) -> tuple[NDArray[np.int32], list[int], list[int]] | None:
    """Gives every pixel to the query with the highest score times mask: logits (K, h, w), scores (K,), both float32.

    Of equal ones the first query wins. Returns the winners (H, W), query k as k + 1 where its own mask holds the pixel
    and 0 elsewhere; and for every query the pixels it wins, and those of its own mask. None where there is no compiler,
    and for other types.
    """
    library = _library(logits, scores)
    if library is None:
        return None
    tallies: list[Tensor] = []

    def run(*problem_and_rows: object) -> int:
        tally = torch.zeros(2, len(logits), dtype=torch.int64)
        tallies.append(tally)
        failed: int = library.compete(*problem_and_rows, ctypes.c_void_p(tally.data_ptr()))
        return failed

    out = _in_threads(run, logits, scores, grid, mask_logit)
    won, claimed = torch.stack(tallies).sum(0).tolist()
    return out, won, claimed


def classify_natively(logits: Tensor, weights: Tensor, grid: Grid) -> NDArray[np.int32] | None:
    """The class of every pixel (H, W): logits (Q, h, w) and class weights (classes, Q), both float32.

    It is the one with the largest sum, over the queries, of weight times mask probability; of equal ones the first.
    None where there is no compiler, and for other types.
    """
    library = _library(logits, weights)
    return None if library is None else _in_threads(library.classify, logits, weights, grid)


def _library(logits: Tensor, weights: Tensor) -> ctypes.CDLL | None:
    return compiled(SOURCE) if logits.dtype == weights.dtype == torch.float32 else None


def _in_threads(
    function: Callable[..., int], logits: Tensor, weights: Tensor, grid: Grid, mask_logit: float = 0.0
) -> NDArray[np.int32]:
    """What ``function(problem, first, last)`` writes into the rows first <= y < last of the image."""
    logits, weights = logits if logits.stride(2) == 1 else logits.contiguous(), weights.contiguous()
    rows, columns = Taps.of(grid.rows), Taps.of(grid.columns)
    taps = [each.contiguous() for axis in (rows, columns) for each in (axis.low, axis.high, axis.weight)]
    out = torch.empty(len(rows.low), len(columns.low), dtype=torch.int32)
    problem = _Problem(
        *(each.data_ptr() for each in (logits, weights, *taps, out)),
        *(*logits.stride()[:2], len(logits), len(weights), out.shape[1], mask_logit, ROUNDING),
    )
    memory = (logits, weights, *taps, out)  # stays as long as a thread runs, even if nobody waits for it any more

    def run(first: int, last: int) -> None:
        if memory and function(ctypes.byref(problem), ctypes.c_int64(first), ctypes.c_int64(last)):
            raise MemoryError("no memory for a row of tiles")

    in_threads(run, len(out), out.numel() * len(logits) // _VALUES_PER_THREAD)
    image: NDArray[np.int32] = out.numpy()
    return image
