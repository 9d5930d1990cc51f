"""A plain folder of images with class maps, depths or both, for data of one's own.

images/[SPLIT/]NAME.jpg       of any readable format
labels/[SPLIT/]NAME.png       a single channel: the number that stands for the class at every pixel
instances/[SPLIT/]NAME.png    optional, 16 bits: that number * 256 + the instance, from 1, of a thing; 0 elsewhere.
                              Things without instance are groups that nobody told apart
depth/[SPLIT/]NAME.png        optional, or all there is: .tiff and .npz as everymask saves them (NAME.depth.png and so
                              on will do), or grey PNGs of 16 bits, whose scale depth.yaml says; 0 where nobody knows
classes.txt                   the classes; classes.yaml, .yml and .json can also say which are things, their palette,
                              and what numbers stand for them (``class_file.read_class_list``)
depth.yaml                    what the numbers of depth PNGs mean, such as "scale: 1/256" (metres; .yml and .json will
                              do), or the same as "depth:" in classes.yaml (``depth_maps.depth_encoding``)
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from everymask.datasets.class_file import CLASS_FILES, ClassList, read_class_list
from everymask.datasets.dataset import Conventions, Truth
from everymask.datasets.depth_maps import (
    DepthMaps,
    describe_depth,
    kind_of_depths,
    nothing_annotated,
    read_depth_encoding,
)
from everymask.datasets.listing import (
    Files,
    check_partners,
    choose_split,
    choose_task,
    find_files,
    nothing_found,
    pair,
    tasks_of,
    with_annotations,
)
from everymask.datasets.pictures import read_index_png
from everymask.datasets.pixel_maps import Entry, Meaning, PixelMaps, differing_sizes, truth_of
from everymask.datasets.storage import Storage
from everymask.errors import DataError
from everymask.labels import LabelSet
from everymask.segmentation import Task

DEPTHS = r"depth/(?:(?P<split>[^/]+)/)?(?P<name>.+?)(?:\.depth)?\.(?i:png|tiff?|npz)"
"""The whole paths of depth files."""

_INSTANCE = 256


def recognise(storage: Storage) -> bool:
    """Whether there are the folders images and labels or depth, or a list of classes with images or labels."""
    folders = set(storage.folders())
    if "images" in folders and {"labels", "depth"} & folders:
        return True
    return bool({"images", "labels"} & folders) and any(name in storage for name in CLASS_FILES)


def splits(storage: Storage) -> tuple[str, ...]:
    """The splits with images and labels or depth; "" alone for a data set without splits."""
    return with_annotations(_find(storage, "images"), _find(storage, "labels"), _find_depths(storage))


def read(storage: Storage, split: str | None = None, task: Task | None = None) -> PixelMaps:
    """The images of a split, or of a folder without splits.

    ``task``: what to read the annotations for; None is panoptic where there are instances, semantic where there are
    labels, and else depth. Where there is depth beside labels, it is read, too. Raises DataError where files, the split
    or the list of classes are missing or contradict themselves.
    """
    images, labels, instances = (_find(storage, kind) for kind in ("images", "labels", "instances"))
    depths = _find_depths(storage)
    available = with_annotations(images, labels, depths)
    if not available:
        raise nothing_found(
            storage, "images/train/NAME.jpg with labels/train/NAME.png or depth/train/NAME.png, or without train/"
        )
    split = choose_split(available, split, storage)
    if split in depths:
        check_partners(storage, images[split], depths[split], "depth file")
    if split not in labels:
        task = choose_task(task, ("depth",), storage, "that needs the folder labels beside images")
    if task == "depth" and split in depths:
        return _with_depth(_unlabelled(storage, images[split], split), depths[split])
    maps = class_maps(storage, images, labels, instances, read_class_list(storage), split, task)
    return _with_depth(maps, depths[split]) if split in depths else maps


def class_maps(
    storage: Storage,
    images: Files,
    labels: Files,
    instances: Files,
    classes: ClassList,
    split: str | None,
    task: Task | None,
    name: str | None = None,
) -> PixelMaps:
    """The data set of images and class maps that were found and fit the layout of a plain folder, under its own name or
    ``name``. Raises DataError for an unknown split, a task that needs instances, and images without partner."""
    split = choose_split(with_annotations(images, labels), split, storage)
    possible: tuple[Task, ...] = ("panoptic", "instance", "semantic") if split in instances else ("semantic",)
    missing = "depth beside images" if task == "depth" else "instances beside labels"
    task = choose_task(task, possible, storage, f"that needs the folder {missing}")
    return PixelMaps(
        name=_title(storage, split, name),
        labels=classes.labels,
        tasks=tasks_of(task),
        conventions=Conventions(
            classes.ignore,
            classes.offset,
            things="instances/: what labels/ stores * 256 + the instance" if split in instances else "none",
        ),
        storage=storage,
        entries=pair(storage, images[split], labels[split], instances[split] if task != "semantic" else None),
        read_entry=partial(_read_truth, classes=classes, task=task),
    )


def _unlabelled(storage: Storage, images: Mapping[str, str], split: str) -> PixelMaps:
    return PixelMaps(
        name=_title(storage, split),
        labels=LabelSet((), (), ()),
        tasks=(),
        conventions=Conventions((), 0, things="none"),
        storage=storage,
        entries=tuple(Entry(name, images[name], labels="") for name in sorted(images)),
        read_entry=nothing_annotated,
    )


def _with_depth(maps: PixelMaps, depths: Mapping[str, str]) -> DepthMaps:
    encoding = read_depth_encoding(maps.storage)
    kind = kind_of_depths(maps.storage, depths[maps.entries[0].name], encoding)
    return DepthMaps(
        name=maps.name,
        labels=maps.labels,
        tasks=(*maps.tasks, "depth"),
        conventions=replace(maps.conventions, depth=describe_depth(kind, encoding)),
        storage=maps.storage,
        entries=tuple(replace(entry, depth=depths[entry.name]) for entry in maps.entries),
        read_entry=maps.read_entry,
        depth_kind=kind,
        encoding=encoding,
    )


def _title(storage: Storage, split: str, name: str | None = None) -> str:
    title = name or storage.where().rstrip("/").rpartition("/")[2]
    return f"{title} {split}".rstrip()


def _find_depths(storage: Storage) -> Files:
    return find_files(storage, DEPTHS)


def _find(storage: Storage, kind: str) -> Files:
    return find_files(storage, rf"{kind}/(?:(?P<split>[^/]+)/)?(?P<name>.+)\.[^./]+")


def _read_truth(storage: Storage, entry: Entry, classes: ClassList, task: Task) -> Truth:
    things = classes.labels.things
    numbers = read_index_png(storage, entry.labels)  # (H, W): as stored; with instances, * 256 + the instance
    if entry.instances is not None:
        numbers = _with_instances(storage, entry, entry.instances, numbers.astype(np.int32))

    def meaning(number: int) -> Meaning | None:
        stored, instance = (number, 0) if entry.instances is None else divmod(number, _INSTANCE)
        if stored in classes.ignore:
            return None
        label = stored - classes.offset
        if not 0 <= label < len(things):
            first, last = classes.offset, classes.offset + len(things) - 1
            raise DataError(
                f"{storage.where(entry.labels)} holds the value {stored}, which is neither one of the {len(things)} "
                f"classes, stored as {first} to {last}, nor the ignored {' or '.join(map(str, classes.ignore))}: "
                "correct the file, or say in the list of classes what is missing"
            )
        if task == "semantic":
            return Meaning(label)
        if not things[label]:
            return Meaning(label) if task == "panoptic" else None
        return Meaning(label, instance or None, is_crowd=instance == 0)

    return truth_of(numbers, meaning)


def _with_instances(storage: Storage, entry: Entry, member: str, stored: NDArray[np.int32]) -> NDArray[np.int32]:
    """What labels/ stores (H, W) * 256 + the instance."""
    numbers = read_index_png(storage, member).astype(np.int32)  # (H, W)
    if numbers.shape != stored.shape:
        raise differing_sizes(storage, entry)
    if stored.max() > 255:
        raise DataError(
            f"{storage.where(entry.labels)} holds the value {stored.max()}: beside instances, labels hold 0 to 255, "
            "for 16 bits hold no more; store fewer classes, or ignored pixels as 255, or leave the instances out"
        )
    wrong = (numbers > 0) & (numbers // _INSTANCE != stored)
    if wrong.any():
        y, x = np.argwhere(wrong)[0]
        label, instance = divmod(int(numbers[y, x]), _INSTANCE)
        raise DataError(
            f"{storage.where(member)} holds {label} * 256 + {instance} at x {x}, y {y}, so class {label}, where "
            f"{storage.where(entry.labels)} holds {stored[y, x]}: correct one of them"
        )
    return stored * _INSTANCE + numbers % _INSTANCE
