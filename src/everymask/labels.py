"""Label sets: the names of a model's classes, which of them are things, and their palette."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

from everymask.errors import OptionError

Color = tuple[int, int, int]

LABEL_SETS = (
    "coco-panoptic",
    "coco-detr",
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
    The three tuples have the same length. ``holes``: the indices that are no class, because a numbering has gaps; they
    are neither thing nor stuff, and no result has them.
    """

    names: tuple[str, ...]
    things: tuple[bool, ...]
    colors: tuple[Color | None, ...]
    holes: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def classes(self) -> list[int]:
        """The indices that are classes, rising: all but the holes."""
        return [index for index in range(len(self)) if index not in self.holes]

    def named(self, names: Sequence[str]) -> "LabelSet":
        """The same classes under other names, without the blanks around them; the holes keep theirs."""
        stripped = (name.strip() for name in names)
        pairs = zip(self.names, stripped, strict=True)
        chosen = tuple(old if index in self.holes else new for index, (old, new) in enumerate(pairs))
        return replace(self, names=chosen)


def label_set(name: str) -> LabelSet:
    """The label set of a data set in ``LABEL_SETS``. Raises OptionError for any other name."""
    classes = _classes(name)
    return LabelSet(
        tuple(each["name"] for each in classes),
        tuple(each["thing"] for each in classes),
        tuple(None if each["color"] is None else tuple(each["color"]) for each in classes),
        frozenset(index for index, each in enumerate(classes) if each.get("hole", False)),
    )


def match_labels(names: Sequence[str]) -> LabelSet | None:
    """The label set with exactly these names in this order, apart from blanks around them; None if there is none.

    ADE20K is known by both of its sets of names, the Hub's ("windowpane") and detectron2's ("window "). The result
    carries the names that were given, without the blanks. What a numbering with gaps (DETR's) calls the indices that
    are no class does not matter: publications differ in it.
    """
    found = _find(names)
    return None if found is None else found.named(names)


def canonical_names(names: Sequence[str]) -> tuple[str, ...]:
    """The same classes as ``label_set`` names them if these are a known label set's, else ``names`` without blanks.

    With them ADE20K's two sets of names are one.
    """
    found = _find(names)
    return tuple(name.strip() for name in names) if found is None else found.names


def _find(names: Sequence[str]) -> LabelSet | None:
    """The label set with these names, under its own names."""
    for known in LABEL_SETS:
        classes = _classes(known)
        if len(classes) != len(names):
            continue
        found = label_set(known)
        if found.named(names) in (found, found.named([each.get("other_name", each["name"]) for each in classes])):
            return found
    return None


@cache
def _classes(name: str) -> list[dict[str, Any]]:
    if name not in LABEL_SETS:
        raise OptionError(f'there is no label set "{name}"; known are {", ".join(LABEL_SETS)}')
    text = (files("everymask") / "data" / "labels" / f"{name}.json").read_text(encoding="utf-8")
    classes: list[dict[str, Any]] = json.loads(text)["classes"]
    return classes
