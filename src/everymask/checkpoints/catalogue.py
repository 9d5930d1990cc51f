"""The catalogue: the checkpoints everymask is made for, with what their publishers say about them."""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from everymask.segmentation import Task


@dataclass(frozen=True, slots=True)
class Entry:
    """One checkpoint; None wherever no source states the value.

    ``name``: what ``load`` takes, a bundled name or a Hub id. ``labels``: its label set in ``everymask.labels``.
    ``weights_mb``: size of the weights in megabytes (10^6 bytes).
    ``metric`` and ``value``: the published accuracy in percent (PQ, mask AP or mIoU; on the validation images of the
    data set, for CamVid on the test images), reached with images resized as ``measured_at`` says. ``input_size``: what
    the checkpoint's own preprocessor config resizes to. ``license``: the licence of the weights.
    """

    name: str
    family: str
    tasks: tuple[Task, ...]
    dataset: str
    labels: str
    backbone: str | None
    weights_mb: float | None
    metric: str
    value: float | None
    measured_at: str | None
    input_size: str | None
    license: str | None


@cache
def catalogue() -> tuple[Entry, ...]:
    """Every entry, the bundled models first. Loads no torch."""
    text = (files("everymask") / "data" / "catalogue.json").read_text(encoding="utf-8")
    return tuple(Entry(**{**row, "tasks": tuple(row["tasks"])}) for row in json.loads(text))


def entry(name: str | None) -> Entry | None:
    """The entry of that name, or None."""
    return next((each for each in catalogue() if each.name == name), None)
