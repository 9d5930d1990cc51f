"""The size at which images go into a network, where it is not to be the one in the checkpoint's own file."""

from dataclasses import replace

from everymask.checkpoints.catalogue import PublishedSize
from everymask.errors import OptionError
from everymask.geometry import Size
from everymask.preprocessing import FitOneSide, Preprocessing, ResizeRule, ShortestEdge, WithinEdges
from everymask.tiling import Tiling

SMALLEST = 32
"""Pixels; every network takes images of at least this size."""

# Where a file has no limit of its own to be scaled: the 800 / 1333 that detectors are tested at.
_LONGEST_BY_SHORTEST = 1333 / 800


def check_size(size: str | int) -> None:
    """Raises OptionError unless ``size`` is "checkpoint", "published" or a number of pixels, 32 or more."""
    if size in ("checkpoint", "published") or (type(size) is int and size >= SMALLEST):
        return
    raise OptionError(
        f"size is {size!r}: choose 'checkpoint' (as the checkpoint's file says), 'published' (as its accuracy was "
        f"measured) or the shortest edge in pixels, {SMALLEST} or more"
    )


def with_size(
    preprocessing: Preprocessing, size: str | int, published: PublishedSize | None, name: str
) -> Preprocessing:
    """The same preprocessing with images resized as ``size`` says; ``name`` is the model's, for messages.

    "checkpoint" leaves it as it is. "published" resizes, and slides windows, as ``published`` says. A number is the
    shortest edge; the limit of the longest edge, if any, is scaled with it, and where the file stretches every image to
    one size, or resizes none, the limit is 1333 / 800 of the shortest edge. Sides that the file wants to be multiples
    remain so, rounded up.

    Raises OptionError for "published" where that is None, and where the checkpoint fills images up to one size, which
    is the only one its network takes.
    """
    check_size(size)
    if size == "checkpoint":
        return preprocessing
    now, divisor, tiling = preprocessing.resize, preprocessing.size_divisor, preprocessing.tiling
    if isinstance(size, int):
        wanted = _edges(size, _scaled_limit(now, size), now)
    elif published is not None:
        wanted, divisor = _edges(published.shortest, published.longest, now), published.divisor
        tiling = _published_tiling(published) or tiling
    else:
        raise OptionError(
            f"at which size {name} was measured is not known here; use size='checkpoint' or the shortest edge in pixels"
        )
    if (wanted, divisor, tiling) == (now, preprocessing.size_divisor, preprocessing.tiling):
        return preprocessing
    if preprocessing.pad_to is not None:
        height, width = preprocessing.pad_to
        raise OptionError(
            f"size is {size!r}, but {name} takes images of {width} x {height} pixels only; use size='checkpoint'"
        )
    return replace(preprocessing, resize=wanted, size_divisor=divisor, tiling=tiling)


def _published_tiling(published: PublishedSize) -> Tiling | None:
    if published.window is None or published.stride is None:
        return None
    return Tiling(Size(published.window, published.window), Size(published.stride, published.stride))


def _edges(shortest: int, longest: int | None, rule: ResizeRule | None) -> ShortestEdge | WithinEdges:
    """The rule with these edges that rounds as ``rule`` does."""
    if isinstance(rule, WithinEdges):
        return WithinEdges(shortest, longest)
    return ShortestEdge(shortest, longest, round_longer=isinstance(rule, ShortestEdge) and rule.round_longer)


def _scaled_limit(rule: ResizeRule | None, shortest: int) -> int | None:
    if isinstance(rule, FitOneSide):
        return None
    if not isinstance(rule, ShortestEdge | WithinEdges):
        return round(_LONGEST_BY_SHORTEST * shortest)
    return None if rule.longest is None else round(rule.longest / rule.shortest * shortest)
