"""Masks as runs: COCO run-length encoding."""

from dataclasses import dataclass

import numpy as np
from faster_coco_eval import mask as coco_mask
from numpy.typing import NDArray

from everymask.geometry import Size


@dataclass(frozen=True, slots=True)
class Runs:
    """A binary mask as COCO's compressed run-length encoding, column by column.

    ``size`` is the mask's (height, width); ``counts`` the compressed counts that pycocotools reads and writes.
    """

    size: Size
    counts: bytes

    @classmethod
    def from_mask(cls, mask: NDArray[np.bool_]) -> "Runs":
        """Encodes a (H, W) bool mask."""
        encoded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
        return cls(Size(*mask.shape), encoded["counts"])

    def to_mask(self) -> NDArray[np.bool_]:
        """The mask, (H, W) bool."""
        decoded: NDArray[np.bool_] = coco_mask.decode(self.to_coco()).astype(bool)
        return decoded

    def to_coco(self) -> dict[str, object]:
        """The dictionary COCO tools take: {"size": [height, width], "counts": bytes}."""
        return {"size": [self.size.height, self.size.width], "counts": self.counts}

    @property
    def area(self) -> int:
        """Pixels in the mask."""
        return int(coco_mask.area(self.to_coco()))

    @property
    def box(self) -> tuple[int, int, int, int]:
        """The tight (x, y, width, height); (0, 0, 0, 0) for an empty mask."""
        x, y, width, height = (int(value) for value in coco_mask.toBbox(self.to_coco()))
        return x, y, width, height
