"""Label sets: the names of a model's classes, which of them are things, and their palette."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from everymask.errors import OptionError

Color = tuple[int, int, int]

LABEL_SETS = (
    "coco-panoptic",
    "coco-instance",
    "coco-stuff",
    "ade20k",
    "cityscapes",
    "cityscapes-instance",
    "mapillary-vistas",
    "pascal-voc",
    "camvid",
)
"""The data sets whose labels everymask knows: one file each in ``data/labels``."""


@dataclass(frozen=True, slots=True)
class LabelSet:
    """The classes of a model or a data set, by index.

    ``things[i]`` says whether class i is countable (a thing: instances are told apart) or stuff.
    ``colors[i]`` is the (red, green, blue) that the data set publishes for class i, 0 to 255; None where it has none.
    The three tuples have the same length.
    """

    names: tuple[str, ...]
    things: tuple[bool, ...]
    colors: tuple[Color | None, ...]

    def __len__(self) -> int:
        return len(self.names)


def label_set(name: str) -> LabelSet:
    """The label set of a data set in ``LABEL_SETS``. Raises OptionError for any other name."""
    classes = _classes(name)
    return LabelSet(
        tuple(each["name"] for each in classes),
        tuple(each["thing"] for each in classes),
        tuple((each["color"][0], each["color"][1], each["color"][2]) for each in classes),
    )


def match_labels(names: Sequence[str]) -> LabelSet | None:
    """The label set with exactly these names in this order, apart from blanks around them; None if there is none.

    ADE20K is known by both of its sets of names, the Hub's ("windowpane") and detectron2's ("window "). The result
    always carries the names that were given, without the blanks.
    """
    stripped = tuple(name.strip() for name in names)
    for known in LABEL_SETS:
        classes = _classes(known)
        if stripped in (
            tuple(each["name"] for each in classes),
            tuple(each.get("other_name", each["name"]) for each in classes),
        ):
            found = label_set(known)
            return LabelSet(stripped, found.things, found.colors)
    return None


@cache
def _classes(name: str) -> list[dict[str, Any]]:
    if name not in LABEL_SETS:
        raise OptionError(f'there is no label set "{name}"; known are {", ".join(LABEL_SETS)}')
    text = (files("everymask") / "data" / "labels" / f"{name}.json").read_text(encoding="utf-8")
    classes: list[dict[str, Any]] = json.loads(text)["classes"]
    return classes
