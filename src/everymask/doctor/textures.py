"""What the neighbours of a pixel tell about how a label map was made."""

import numpy as np
from numpy.typing import NDArray

# Fewer steps than these say nothing about a picture.
FEWEST_STEPS = 20


def border_steps(labels: NDArray[np.integer]) -> float:
    """Of the steps between two flat areas, the share that passes over one or two values in between, 0 to 1.

    A step is a place, along a row or a column, where two pixels of one value are followed by two of another, either at
    once or over one or two pixels whose values lie between. Drawn labels step at once; interpolated ones rarely do.
    Values that are next to each other have none between and are not counted. ``labels``: (H, W).
    """
    at_once = over_others = 0
    for lines in (labels, labels.T):
        if lines.shape[1] < 6:
            continue
        a, b, c, d, e, f = (lines[:, start : lines.shape[1] - 5 + start] for start in range(6))
        flat = a == b
        at_once += int(np.count_nonzero(flat & (c == d) & (abs(b - c) >= 2)))
        over_others += int(np.count_nonzero(flat & (d == e) & ((b < c) & (c < d) | (b > c) & (c > d))))
        over_two = (b < c) & (c <= d) & (d < e) | (b > c) & (c >= d) & (d > e)
        over_others += int(np.count_nonzero(flat & (e == f) & over_two))
    steps = at_once + over_others
    return over_others / steps if steps >= FEWEST_STEPS else 0.0


def speck_share(labels: NDArray[np.integer]) -> float:
    """The share of pixels that differ from all of their up to four neighbours, 0 to 1. ``labels``: (H, W)."""
    alone = np.ones(labels.shape, np.bool_)
    down, right = labels[1:] == labels[:-1], labels[:, 1:] == labels[:, :-1]
    alone[1:][down] = False
    alone[:-1][down] = False
    alone[:, 1:][right] = False
    alone[:, :-1][right] = False
    return float(alone.mean()) if alone.size > 1 else 0.0
