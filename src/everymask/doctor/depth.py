"""Examining data sets that say of images nothing but their depth."""

from collections import Counter
from collections.abc import Mapping

from everymask.datasets.storage import Storage
from everymask.doctor.examination import Examined, Progress, for_each, look_at_entry_image, problems_of
from everymask.doctor.facts import ImageFacts
from everymask.doctor.listing import Entry
from everymask.labels import LabelSet


def examine_images(storage: Storage, splits: Mapping[str, tuple[Entry, ...]], progress: Progress) -> Examined:
    """Looks at every image once. What is wrong with a depth file, its size included, the reader tells well enough."""
    entries = tuple(entry for of_split in splits.values() for entry in of_split)
    paired = list(
        zip(entries, for_each(entries, lambda each: look_at_entry_image(storage, each), progress), strict=True)
    )
    return Examined(
        splits={split: len(of_split) for split, of_split in splits.items()},
        labels=LabelSet((), (), ()),
        convention=None,
        entries=entries,
        images=[(entry, look) for entry, look in paired if isinstance(look, ImageFacts)],
        pairs=(),
        problems=problems_of((entry.image, look) for entry, look in paired),
        pixels=Counter(),
        findings=(),
    )
