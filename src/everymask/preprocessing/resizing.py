"""The rules by which checkpoints choose the size an image is resized to."""

from dataclasses import dataclass

from everymask.geometry import Size


@dataclass(frozen=True, slots=True)
class FixedSize:
    """Every image is stretched to one size."""

    size: Size

    def target(self, original: Size) -> Size:
        """The size an image of size ``original`` is resized to, before the size divisor."""
        return self.size


@dataclass(frozen=True, slots=True)
class ShortestEdge:
    """The shorter side becomes ``shortest`` pixels, or fewer where the longer one would exceed ``longest``, if any.

    ``round_longer``: the longer side is rounded to the next whole number, otherwise downwards.
    """

    shortest: int
    longest: int | None
    round_longer: bool = False

    def target(self, original: Size) -> Size:
        """The size an image of size ``original`` is resized to, before the size divisor. Each side is at least 1."""
        short, long = sorted(original)
        scaled: float = self.shortest  # the shorter side, before it is rounded
        if self.longest is not None and long / short * self.shortest > self.longest:
            scaled = self.longest * short / long
        new_short = round(scaled)
        # transformers scales the longer side by the unrounded shorter one, but leaves an image alone whose shorter side
        # is right already.
        whole = round if self.round_longer else int
        new_long = long if new_short == short else whole(scaled * long / short)
        new_short = max(new_short, 1)  # a panorama of 1 : 3000 would vanish
        return Size(new_short, new_long) if original.height <= original.width else Size(new_long, new_short)


@dataclass(frozen=True, slots=True)
class WithinEdges:
    """mmcv's way to ``ShortestEdge``: the largest scale that keeps the sides within both edges; both sides rounded."""

    shortest: int
    longest: int | None

    def target(self, original: Size) -> Size:
        """The size an image of size ``original`` is resized to, before the size divisor. Each side is at least 1."""
        scale = self.shortest / min(original)
        if self.longest is not None:
            scale = min(self.longest / max(original), scale)
        return Size(*(max(int(side * scale + 0.5), 1) for side in original))


@dataclass(frozen=True, slots=True)
class FitOneSide:
    """The side that has to be scaled the least becomes that of ``size``, and the other one keeps the ratio (DPT).

    Both are rounded to the nearest multiple of ``multiple``, to the even one of two. So an image that is larger than
    ``size`` both ways comes to cover it, and one that is smaller both ways to fit inside.
    """

    size: Size
    multiple: int

    def target(self, original: Size) -> Size:
        """The size an image of size ``original`` is resized to. Each side is at least ``multiple``."""
        down, across = (new / old for new, old in zip(self.size, original, strict=True))
        scale = across if abs(1 - across) < abs(1 - down) else down
        return Size(*(nearest_multiple(scale * side, self.multiple) for side in original))


def nearest_multiple(side: float, multiple: int) -> int:
    """The multiple of ``multiple`` nearest to ``side``, the even one of two, and at least ``multiple`` itself."""
    return max(round(side / multiple), 1) * multiple


def next_multiple(size: Size, divisor: int) -> Size:
    """``size`` with both sides brought up to multiples of ``divisor``; 0 leaves them as they are."""
    return Size(*(-(-side // divisor) * divisor for side in size)) if divisor else size


ResizeRule = FixedSize | ShortestEdge | WithinEdges | FitOneSide
"""``target`` of each gives the size that an image of a size is resized to."""
