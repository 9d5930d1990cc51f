"""Examining data sets that have a picture of class indices beside every image."""

from collections import Counter
from collections.abc import Sequence

from everymask.datasets.storage import Storage
from everymask.doctor.encoding import Looked, check_encoding
from everymask.doctor.examination import (
    Examined,
    Progress,
    facts_of,
    for_each,
    look_at_entry_image,
    problems_of,
    read_or_nothing,
)
from everymask.doctor.facts import ImageFacts, LabelFacts, look_at_labels
from everymask.doctor.files import Pair
from everymask.doctor.findings import Finding, finding
from everymask.doctor.instances import InstanceRule, check_instances
from everymask.doctor.listing import Entry, Listing
from everymask.doctor.values import check_values, total_pixels
from everymask.geometry import Size

# CamVid's maps, drawn by hand, have up to 0.006.
MANY_SPECKS = 0.02

Looks = tuple[ImageFacts | str | None, LabelFacts | str | None, LabelFacts | str | None]


def examine_index_maps(storage: Storage, listing: Listing, rule: InstanceRule | None, progress: Progress) -> Examined:
    """Looks at every image and label picture of a listing once. ``rule``: what pictures of instances hold, if any."""
    entries = listing.entries
    looks = list(for_each(entries, lambda entry: _look(storage, entry), progress))
    paired = list(zip(entries, looks, strict=True))
    images = [(entry, look[0]) for entry, look in paired if isinstance(look[0], ImageFacts)]
    labels = [(entry, look[1]) for entry, look in paired if isinstance(look[1], LabelFacts)]
    instances = [(entry, look[2]) for entry, look in paired if isinstance(look[2], LabelFacts)]

    findings, indexed = check_encoding(labels, listing.convention)
    findings += check_values(indexed, listing.convention)
    findings += _specks(indexed)
    if rule is not None:
        findings += check_instances(instances, rule)
    return Examined(
        {split: len(of_split) for split, of_split in listing.splits.items()},
        listing.convention.labels,
        listing.convention,
        entries,
        images,
        [Pair(entry, facts_of(look[0]), _size(facts_of(look[1]))) for entry, look in paired],
        [
            *problems_of((entry.image, look[0]) for entry, look in paired),
            *problems_of((entry.labels, look[1]) for entry, look in paired),
            *problems_of((entry.instances, look[2]) for entry, look in paired),
        ],
        _class_pixels(indexed, listing),
        findings,
    )


def _look(storage: Storage, entry: Entry) -> Looks:
    labels, instances = (
        None if member is None else look_at_labels(read_or_nothing(storage, member))
        for member in (entry.labels, entry.instances)
    )
    return look_at_entry_image(storage, entry), labels, instances


def _size(facts: LabelFacts | None) -> Size | None:
    return None if facts is None else facts.size


def _class_pixels(looked: Looked, listing: Listing) -> Counter[int]:
    pixels: Counter[int] = Counter()
    for value, count in total_pixels(looked).items():
        if value in listing.convention.indices:
            pixels[listing.convention.indices[value]] += count
    return pixels


def _specks(looked: Sequence[tuple[Entry, LabelFacts]]) -> list[Finding]:
    many = [f"{entry.labels}: {facts.specks:.1%}" for entry, facts in looked if facts.specks > MANY_SPECKS]
    if not many:
        return []
    return [
        finding(
            "specks",
            "note",
            f"more than {MANY_SPECKS:.0%} of the pixels of labels are single ones, unlike all their neighbours",
            many,
            "look at them: where they are noise, give each pixel the most frequent class of its 3 x 3 neighbours",
        )
    ]
