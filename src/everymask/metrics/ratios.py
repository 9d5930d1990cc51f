"""Figures by class, where a class may have none."""

import numpy as np
from numpy.typing import NDArray


def ratios(part: NDArray[np.int64], whole: NDArray[np.int64]) -> tuple[float | None, ...]:
    """``part`` / ``whole`` of each class, both (C,); None where the whole is 0."""
    return tuple(p / w if w else None for p, w in zip(part.tolist(), whole.tolist(), strict=True))


def mean(values: tuple[float | None, ...]) -> float:
    """The plain mean of the values that are there; at least one must be."""
    present = [value for value in values if value is not None]
    return sum(present) / len(present)
