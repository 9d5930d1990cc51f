"""The best class of every pixel on a CPU by compiled C: the source beside this file (see ``everymask.native``).

For maps of scores nearly as fine as the image, and for those in which no class leads: there looking into every pixel is
cheaper than asking which cells need it.
"""

import ctypes
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from everymask.decoding.resizing import Grid
from everymask.decoding.taps import Taps
from everymask.native import compiled, in_threads

SOURCE = Path(__file__).with_suffix(".c")
_VALUES_PER_THREAD = 500_000  # starting a thread takes as long as resizing some ten thousand


class _Problem(ctypes.Structure):
    """``Problem`` in the C source."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("scores", "row_low", "row_high", "row_weight")),
        *((name, ctypes.c_void_p) for name in ("column_low", "column_high", "column_weight", "out")),
        *((name, ctypes.c_int64) for name in ("plane", "line", "place", "classes", "columns")),
    )


def best_classes_natively(scores: Tensor, grid: Grid) -> NDArray[np.int32] | None:
    """The class with the largest score at every pixel of a grid: (classes, h, w) float32 -> (H, W).

    Of equal scores the first class wins. None where there is no compiler, and for scores that are not float32.
    """
    library = compiled(SOURCE) if scores.dtype == torch.float32 else None
    if library is None:
        return None
    channels_last = scores.stride(0) == 1 and scores.stride(2) != 1
    if scores.stride(2) != 1 and not channels_last:
        scores = scores.contiguous()
    search = library.best_of_channels if channels_last else library.best_of_planes
    rows, columns = Taps.of(grid.rows), Taps.of(grid.columns)
    taps = [each.contiguous() for axis in (rows, columns) for each in (axis.low, axis.high, axis.weight)]
    out = torch.empty(len(rows.low), len(columns.low), dtype=torch.int32)
    problem = _Problem(*(each.data_ptr() for each in (scores, *taps, out)), *scores.stride(), len(scores), out.shape[1])
    memory = (scores, *taps, out)  # stays as long as a thread runs, even if nobody waits for it any more

    def run(first: int, last: int) -> None:
        if memory and search(ctypes.byref(problem), ctypes.c_int64(first), ctypes.c_int64(last)):
            raise MemoryError("no memory for a band of rows")

    in_threads(run, len(out), out.numel() * len(scores) // _VALUES_PER_THREAD)
    classes: NDArray[np.int32] = out.numpy()
    return classes
