"""The catalogue: the checkpoints everymask is made for, with what their publishers say about them."""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from everymask.segmentation import Task


@dataclass(frozen=True, slots=True)
class PublishedSize:
    """The size of images, in pixels, at which a published accuracy was measured.

    The shorter side became ``shortest``, or fewer where the longer one would have exceeded ``longest``, if any.
    ``divisor``: what the checkpoint's processor makes both sides a multiple of; 0: nothing. ``window`` and ``stride``:
    the side of the windows that slid over the image, and how far from one to the next; None: it went in whole.
    """

    shortest: int
    longest: int | None
    divisor: int
    window: int | None = None
    stride: int | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One checkpoint; None wherever no source states the value.

    ``name``: what ``load`` takes, a bundled name or the id of a repository. ``labels``: its label set in
    ``everymask.labels``; None where that is not known here, and for depth. ``weights_mb``: size of the weights in
    megabytes (10^6 bytes).
    ``metric`` and ``value``: the published accuracy, reached with images of ``published_size``: PQ, mask AP or mIoU in
    percent, on the validation images of the data set, for CamVid on the test images; for metric depth the root mean
    square error in metres, where less is better. Relative depth has no metric that is comparable. ``input_size``: what
    the checkpoint's own preprocessor config resizes to. ``license``: the licence of the weights.
    """

    name: str
    family: str
    tasks: tuple[Task, ...]
    dataset: str
    labels: str | None
    backbone: str | None
    weights_mb: float | None
    metric: str | None
    value: float | None
    published_size: PublishedSize | None
    input_size: str | None
    license: str | None


@cache
def catalogue() -> tuple[Entry, ...]:
    """Every entry, the bundled models first. Loads no torch."""
    text = (files("everymask") / "data" / "catalogue.json").read_text(encoding="utf-8")
    return tuple(_read(row) for row in json.loads(text))


def entry(name: str | None) -> Entry | None:
    """The entry of that name, or None."""
    return next((each for each in catalogue() if each.name == name), None)


def _read(row: dict[str, Any]) -> Entry:
    size = row["published_size"]
    read = {"tasks": tuple(row["tasks"]), "published_size": None if size is None else PublishedSize(**size)}
    return Entry(**{**row, **read})
