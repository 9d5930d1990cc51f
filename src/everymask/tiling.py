"""Images larger than a network: where the windows lie that cover one."""

from everymask.geometry import Size


def cover(size: Size, window: Size) -> tuple[tuple[int, int], ...]:
    """The (top, left) corners of the fewest windows that cover an image of ``size``, row by row.

    Along each axis they overlap evenly, and the last ends where the image ends; an axis no longer than the window has
    one. This is how EoMT is tested on ADE20K and Cityscapes, where only one axis is longer than the window.
    """
    tops, lefts = (_starts(length, step) for length, step in zip(size, window, strict=True))
    return tuple((top, left) for top in tops for left in lefts)


def _starts(length: int, window: int) -> list[int]:
    count = -(-length // window)
    return [0] if count <= 1 else [place * (length - window) // (count - 1) for place in range(count)]
