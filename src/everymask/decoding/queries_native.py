"""Which query gets which pixel, on a CPU by compiled C: the source beside this file (see ``everymask.native``)."""

import ctypes
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
        *((name, ctypes.c_void_p) for name in ("logits", "scores", "row_low", "row_high", "row_weight")),
        *((name, ctypes.c_void_p) for name in ("column_low", "column_high", "column_weight", "out")),
        *((name, ctypes.c_int64) for name in ("plane", "line", "queries", "columns")),
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
    right_types = logits.dtype == scores.dtype == torch.float32
    library = compiled(SOURCE) if right_types else None
    if library is None:
        return None
    logits, scores = logits if logits.stride(2) == 1 else logits.contiguous(), scores.contiguous()
    rows, columns = Taps.of(grid.rows), Taps.of(grid.columns)
    taps = [each.contiguous() for axis in (rows, columns) for each in (axis.low, axis.high, axis.weight)]
    out = torch.empty(len(rows.low), len(columns.low), dtype=torch.int32)
    problem = _Problem(
        *(each.data_ptr() for each in (logits, scores, *taps, out)),
        *(*logits.stride()[:2], len(logits), out.shape[1], mask_logit, ROUNDING),
    )
    memory = (logits, scores, *taps, out)  # stays as long as a thread runs, even if nobody waits for it any more
    tallies: list[Tensor] = []

    def run(first: int, last: int) -> None:
        tally = torch.zeros(2, len(logits), dtype=torch.int64)
        tallies.append(tally)
        where = ctypes.c_void_p(tally.data_ptr())
        if memory and library.compete(ctypes.byref(problem), ctypes.c_int64(first), ctypes.c_int64(last), where):
            raise MemoryError("no memory for the bounds of queries")

    in_threads(run, len(out), out.numel() * len(logits) // _VALUES_PER_THREAD)
    won, claimed = torch.stack(tallies).sum(0).tolist()
    return out.numpy(), won, claimed
