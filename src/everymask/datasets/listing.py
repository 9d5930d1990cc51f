"""Which files belong together: splits, and images with their annotations."""

import posixpath
import re
from collections.abc import Collection, Mapping, Sequence

from everymask.datasets.pixel_maps import Entry
from everymask.datasets.storage import Storage
from everymask.errors import DataError
from everymask.segmentation import Task

Files = dict[str, dict[str, str]]
"""The files of every split: {split: {name of the image: member of the storage}}. A data set without splits has ""."""

_SAME_SPLIT = {"train": "training", "training": "train", "val": "validation", "validation": "val"}


def find_files(storage: Storage, *patterns: str) -> Files:
    """The files whose whole path fits one of the regular expressions, by their groups ``split`` and ``name``.

    Raises DataError where two files have one name.
    """
    files: Files = {}
    for pattern in patterns:
        fits = re.compile(pattern).fullmatch
        for member in storage.names:
            if not (found := fits(member)):
                continue
            same_split = files.setdefault(found.groupdict().get("split") or "", {})
            other = same_split.setdefault(found["name"], member)
            if other != member:
                raise DataError(
                    f"{storage.where()} holds both {other} and {member}, and one of them is too many: keep one"
                )
    return files


def with_annotations(images: Files, *annotations: Files) -> tuple[str, ...]:
    """The splits that have images, and annotations of at least one kind."""
    return tuple(sorted(images.keys() & {split for files in annotations for split in files}))


def nothing_found(storage: Storage, expected: str) -> DataError:
    """The error where a data set has no images with annotations."""
    return DataError(
        f"{storage.where()} holds no images with annotations where they are expected, {expected}: "
        "check the location and the names of the folders"
    )


def choose_split(available: Collection[str], split: str | None, storage: Storage) -> str:
    """The split that is meant; "" for a data set without splits.

    None is the only split there is. "train" also finds "training", and "val" "validation", and the reverse. Raises
    DataError, with what there is, for any other split, and where None would have to choose.
    """
    if "" in available and len(available) > 1:
        raise DataError(
            f"{storage.where()} has images outside the folders of its splits, {', '.join(sorted(available)[1:])}: "
            "move each into one of them"
        )
    there = ", ".join(sorted(available))
    if split is None:
        if len(available) == 1:
            return next(iter(available))
        raise DataError(f"{storage.where()} has the splits {there}: say which, as in split={min(available)!r}")
    for name in (split, _SAME_SPLIT.get(split, split)):
        if name in available:
            return name
    if set(available) == {""}:
        raise DataError(f"{storage.where()} has no splits, so there is no split {split!r}: leave split out")
    raise DataError(f"{storage.where()} has no split {split!r} with images and annotations; it has {there}")


def choose_task(task: Task | None, tasks: Sequence[Task], storage: Storage, missing: str) -> Task:
    """The task to read annotations for; None is the first of ``tasks``, which the annotations can be read as.

    Raises DataError for any other; ``missing`` says what it would take.
    """
    if task is None:
        return tasks[0]
    if task not in tasks:
        raise DataError(
            f"{storage.where()} cannot be read for the task {task!r}, only for {' and '.join(tasks)}: {missing}"
        )
    return task


def tasks_of(task: Task) -> tuple[Task, ...]:
    """What annotations read for a task can be used for: panoptic ones for everything, the richest first."""
    return ("panoptic", "instance", "semantic") if task == "panoptic" else (task,)


def pair(
    storage: Storage,
    images: Mapping[str, str],
    labels: Mapping[str, str],
    instances: Mapping[str, str] | None = None,
) -> tuple[Entry, ...]:
    """The images with their annotations, sorted by name. Raises DataError where one has no partner, and for none."""
    check_partners(storage, images, labels, "label file")
    if instances is not None:
        check_partners(storage, images, instances, "instance file")
    return tuple(
        Entry(name, images[name], labels[name], None if instances is None else instances[name])
        for name in sorted(images)
    )


def check_partners(storage: Storage, images: Mapping[str, str], partners: Mapping[str, str], kind: str) -> None:
    """Raises DataError where an image has no file of that kind, or such a file no image."""
    for what, lonely, others in (
        ("image", images.keys() - partners.keys(), partners),
        (kind, partners.keys() - images.keys(), images),
    ):
        if lonely:
            raise DataError(
                f"{len(lonely)} {what}(s) have no partner in {_folder(storage, others)}, the first is "
                f"{min(lonely)}: add what is missing, with the same name up to the suffix, or remove them"
            )


def _folder(storage: Storage, files: Mapping[str, str]) -> str:
    folders = {member.rpartition("/")[0] for member in files.values()}
    return storage.where(posixpath.commonpath(folders) if folders else "")
