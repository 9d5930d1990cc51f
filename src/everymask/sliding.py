"""Sliding windows where a caller asks for them: any network that gives classes, at the image's own resolution."""

from collections.abc import Sequence
from dataclasses import replace

from everymask.errors import OptionError
from everymask.geometry import Size
from everymask.preprocessing import Preprocessing
from everymask.segmentation import Task
from everymask.tiling import Tiling

SMALLEST_WINDOW = 32
DEFAULT_OVERLAP = 0.25
LARGEST_OVERLAP = 0.9

Window = int | Sequence[int]


def check_window(window: Window | None, overlap: float | None) -> Tiling | None:
    """The tiling that ``window`` (a side, or height and width, in pixels) and ``overlap`` (0..0.9 of it) stand for.

    None where no window is asked for. Windows are averaged smoothly. Raises OptionError for other values and for an
    overlap without a window.
    """
    if window is None:
        if overlap is not None:
            raise OptionError(
                f"overlap is {overlap!r} but there is no window: give window, too, for example window=640"
            )
        return None
    sides = tuple(window) if isinstance(window, Sequence) else (window, window)
    if len(sides) != 2 or not all(type(side) is int and side >= SMALLEST_WINDOW for side in sides):
        raise OptionError(
            f"window is {window!r}: give its side, or its height and width, in pixels, {SMALLEST_WINDOW} or more"
        )
    chosen = DEFAULT_OVERLAP if overlap is None else overlap
    if not isinstance(chosen, int | float) or isinstance(chosen, bool) or not 0 <= chosen <= LARGEST_OVERLAP:
        raise OptionError(f"overlap is {overlap!r}: give the part of a window from 0 to {LARGEST_OVERLAP}")
    height, width = sides
    return Tiling(Size(height, width), Size(*(max(1, round(side * (1 - chosen))) for side in sides)), smooth=True)


def with_tiling(
    preprocessing: Preprocessing, tiling: Tiling, tasks: tuple[Task, ...], name: str, *, resized: bool
) -> Preprocessing:
    """The same preprocessing with images cut into the windows of ``tiling``; ``name`` is the model's, for messages.

    Images keep their own size unless ``resized``, which says that the caller chose one.
    Raises OptionError where the model has no semantic task, and where its network takes images of one size only.
    """
    if "semantic" not in tasks:
        raise OptionError(
            f"{name} does {' and '.join(tasks)} only, which cannot be joined from windows: leave window out"
        )
    if preprocessing.pad_to is not None:
        height, width = preprocessing.pad_to
        raise OptionError(f"{name} takes images of {width} x {height} pixels only: leave window out")
    if resized:
        return replace(preprocessing, tiling=tiling)
    return replace(preprocessing, tiling=tiling, resize=None)
