"""The numberings of classes that are mixed up most: with gaps, and without."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache

from everymask.datasets import cityscapes
from everymask.datasets.coco_stuff import UNUSED_IDS
from everymask.labels import label_set

STUFF_VALUES = tuple(id - 1 for id in range(1, 183) if id not in UNUSED_IDS)
"""COCO-Stuff's pixel values: the category ids less one."""


@dataclass(frozen=True, slots=True)
class Numbering:
    """``ids[i]`` is the number that a publication gives to class i."""

    name: str
    ids: tuple[int, ...]


@cache
def numberings() -> tuple[Numbering, ...]:
    """Those with gaps that are known to be taken for contiguous ones."""
    detr = label_set("coco-detr")
    return (
        Numbering("COCO's instance ids (80 of 1 to 90)", tuple(each for each in detr.classes if detr.things[each])),
        Numbering("COCO's panoptic ids (133 of 1 to 200)", tuple(detr.classes)),
        Numbering("COCO-Stuff's ids (171 of 1 to 182)", tuple(each + 1 for each in STUFF_VALUES)),
        Numbering("COCO-Stuff's pixel values (171 of 0 to 181)", STUFF_VALUES),
        Numbering("Cityscapes' label ids (19 of 0 to 33)", cityscapes.IDS),
    )


def ids_taken_for_indices(values: Collection[int], classes: int) -> Numbering | None:
    """The numbering with gaps that ``values`` are in, where ``classes`` contiguous indices were expected."""
    return next((each for each in numberings() if len(each.ids) == classes and set(values) <= set(each.ids)), None)


def indices_taken_for_ids(values: Collection[int], ids: Sequence[int]) -> int | None:
    """The first of the contiguous numbers, 0 or 1, that ``values`` are in where ``ids`` with gaps were expected.

    None where they are not: some value is in a gap of the ids, and all lie within as many numbers as there are ids.
    """
    used = set(values)
    gaps = set(range(max(ids, default=0) + 1)) - set(ids)
    if not used & gaps or len(gaps) <= min(ids, default=0):
        return None
    fits = [first for first in (0, 1) if used <= set(range(first, first + len(ids)))]
    # Where neither 0 nor the last number of 1 to N tells, contiguous numbers begin where the ids do.
    return min(ids) if len(fits) == 2 and min(ids) in fits else next(iter(fits), None)
