"""Images larger than a network: where the windows lie that cover one."""

from dataclasses import dataclass

from everymask.geometry import Size


@dataclass(frozen=True, slots=True)
class Tiling:
    """How windows of size ``window`` slide over an image.

    ``stride``: how far from one window to the next, down and across; None: as far as the fewest windows that cover the
    image allow, overlapping evenly (EoMT). ``smooth``: where windows overlap, a pixel counts the more the farther it is
    from its window's edge; otherwise all count the same, as published test recipes have it.
    """

    window: Size
    stride: Size | None = None
    smooth: bool = False

    def corners(self, size: Size) -> tuple[tuple[int, int], ...]:
        """The (top, left) corners of the windows that cover an image of ``size``.

        An axis no longer than the window has one. Windows that would stick out are moved back inside. They come line by
        line, lines across the longer way (the axis with more windows): then few windows are open at any time.
        """
        strides = (None, None) if self.stride is None else self.stride
        tops, lefts = (
            _even_starts(length, window) if stride is None else _starts(length, window, stride)
            for length, window, stride in zip(size, self.window, strides, strict=True)
        )
        if len(lefts) > len(tops):
            return tuple((top, left) for left in lefts for top in tops)
        return tuple((top, left) for top in tops for left in lefts)


def _even_starts(length: int, window: int) -> list[int]:
    count = -(-length // window)
    return [0] if count <= 1 else [place * (length - window) // (count - 1) for place in range(count)]


def _starts(length: int, window: int, stride: int) -> list[int]:
    last = max(length - window, 0)
    return [*range(0, last, stride), last]
