"""Masks as runs: COCO run-length encoding.

faster-coco-eval is imported where it is used: it brings OpenCV, and results with an id map need neither.
"""

from dataclasses import dataclass

import numpy as np
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
        from faster_coco_eval import mask as coco_mask

        encoded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
        return cls(Size(*mask.shape), encoded["counts"])

    @classmethod
    def from_spans(cls, start: NDArray[np.int64], end: NDArray[np.int64], size: Size) -> "Runs":
        """Encodes a mask given by the spans of its pixels, (N,) starts and exclusive ends.

        Pixels are counted column by column. The spans rise and do not overlap; they may touch.
        """
        apart = start[1:] != end[:-1]
        inner = np.stack((end[:-1][apart], start[1:][apart]), axis=1).ravel()
        bounds = np.concatenate(([0], start[:1], inner, end[-1:], [size.height * size.width]))
        counts = np.diff(bounds)
        return cls(size, _compress(counts[:-1] if counts[-1] == 0 else counts))

    def to_mask(self) -> NDArray[np.bool_]:
        """The mask, (H, W) bool."""
        from faster_coco_eval import mask as coco_mask

        decoded: NDArray[np.bool_] = coco_mask.decode(self.to_coco()).astype(bool)
        return decoded

    def to_coco(self) -> dict[str, object]:
        """The dictionary COCO tools take: {"size": [height, width], "counts": bytes}."""
        return {"size": [self.size.height, self.size.width], "counts": self.counts}

    @property
    def area(self) -> int:
        """Pixels in the mask."""
        from faster_coco_eval import mask as coco_mask

        return int(coco_mask.area(self.to_coco()))

    @property
    def box(self) -> tuple[int, int, int, int]:
        """The tight (x, y, width, height); (0, 0, 0, 0) for an empty mask."""
        from faster_coco_eval import mask as coco_mask

        x, y, width, height = (int(value) for value in coco_mask.toBbox(self.to_coco()))
        return x, y, width, height


def _compress(counts: NDArray[np.int64]) -> bytes:
    """COCO's compression of run lengths (background first).

    From the fourth on, a count is written as its difference from the count two before. A number is a series of
    characters from "0" on: five bits each, the lowest first, and a sixth that says whether more follow; the last
    one's fifth bit is the sign.
    """
    numbers = counts.copy()
    numbers[3:] -= counts[1:-2]
    written = np.zeros((len(numbers), 7), np.uint8)  # 7 characters hold 35 bits
    more = np.ones(len(numbers), np.bool_)
    for place in range(7):
        character = numbers & 31
        numbers >>= 5
        still_more = np.where(character & 16, numbers != -1, numbers != 0)
        written[:, place] = np.where(more, character + 32 * still_more + 48, 0)
        more &= still_more
        if not more.any():
            break
    characters: bytes = written[written != 0].tobytes()
    return characters
