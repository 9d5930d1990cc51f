"""Areas and boxes of all the ids of an id map in one pass."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_PIXELS_AT_ONCE = 2**20


@dataclass(frozen=True, slots=True)
class Regions:
    """By id, each (N,): the area in pixels, and the box from (left, top) up to (right, bottom), exclusive."""

    area: NDArray[np.int64]
    left: NDArray[np.int64]
    top: NDArray[np.int64]
    right: NDArray[np.int64]
    bottom: NDArray[np.int64]

    def box(self, ids: list[int]) -> tuple[int, int, int, int]:
        """The tight (x, y, width, height) of the union of ids that have pixels."""
        left, top = int(self.left[ids].min()), int(self.top[ids].min())
        return left, top, int(self.right[ids].max()) - left, int(self.bottom[ids].max()) - top


def find_regions(id_map: NDArray[np.int32], ids: int) -> Regions:
    """The regions of the ids 0 .. ids - 1 in an id map (H, W)."""
    height, width = id_map.shape
    regions = Regions(
        area=np.zeros(ids, np.int64),
        left=np.full(ids, width),
        top=np.full(ids, height),
        right=np.zeros(ids, np.int64),
        bottom=np.zeros(ids, np.int64),
    )
    y = 0
    for band in _bands(id_map):
        starts_run = np.ones(band.shape, bool)  # a run is a stretch of one id within a row
        np.not_equal(band[:, 1:], band[:, :-1], out=starts_run[:, 1:])
        start = np.flatnonzero(starts_run)
        length = np.diff(start, append=band.size)
        row, column = np.divmod(start, width)
        id = band.ravel()[start]
        np.add.at(regions.area, id, length)
        np.minimum.at(regions.left, id, column)
        np.minimum.at(regions.top, id, row + y)
        np.maximum.at(regions.right, id, column + length)
        np.maximum.at(regions.bottom, id, row + y + 1)
        y += len(band)
    return regions


def relabel(id_map: NDArray[np.int32], new_ids: NDArray[np.int32]) -> None:
    """Replaces every id of an id map (H, W) by ``new_ids[id]``, in place."""
    for band in _bands(id_map):
        band[:] = new_ids[band]


def _bands(id_map: NDArray[np.int32]) -> Iterator[NDArray[np.int32]]:
    """Views of some rows each: numpy's indices take twice the room of the ids."""
    step = max(1, _PIXELS_AT_ONCE // id_map.shape[1])
    for y in range(0, id_map.shape[0], step):
        yield id_map[y : y + step]
