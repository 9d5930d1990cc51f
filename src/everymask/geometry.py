"""Where an image sits inside the pixels a network sees."""

from dataclasses import dataclass
from typing import NamedTuple


class Size(NamedTuple):
    """Height and width in pixels, in the order of array shapes."""

    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Geometry:
    """The three sizes of an image on its way into a network.

    The image of size ``original`` was resized to ``resized`` and padded at the bottom and right to ``padded``, the size
    of the network's input. Decoding needs nothing else to map logits back: the padding is cropped away and what is left
    is resized to ``original`` once. ``offset`` is the (top, left) corner of the resized image in the padded one, other
    than (0, 0) where a checkpoint pads on all sides.

    An image that is larger than the network's input goes through it in several ``windows`` of size ``padded``. They are
    given by their (top, left) corners in the resized image, cover it, and may overlap; ``smooth`` says how they are
    averaged there (``tiling.Tiling``).
    """

    original: Size
    resized: Size
    padded: Size
    windows: tuple[tuple[int, int], ...] = ((0, 0),)
    offset: tuple[int, int] = (0, 0)
    smooth: bool = False

    @property
    def canvas(self) -> Size:
        """What the windows are cut from: the padded image, or the resized one where that is larger."""
        return Size(max(self.padded.height, self.resized.height), max(self.padded.width, self.resized.width))
