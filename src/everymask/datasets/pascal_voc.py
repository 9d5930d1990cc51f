"""Pascal VOC, segmentation: 20 things and the background.

JPEGImages/NAME.jpg
SegmentationClass/NAME.png              the index of the class, 0 for background; 255, the white borders, is ignored
SegmentationObject/NAME.png             optional: the instance, from 1; 0 and 255 as above
ImageSets/Segmentation/{SPLIT}.txt      the names of a split's images, one a line

Things that no instance covers are ignored where instances are read.
"""

from functools import partial

import numpy as np

from everymask.datasets.dataset import Conventions, Truth
from everymask.datasets.listing import choose_split, choose_task, find_files, nothing_found, pair, tasks_of
from everymask.datasets.pictures import read_index_png
from everymask.datasets.pixel_maps import Entry, Meaning, PixelMaps, differing_sizes, truth_of
from everymask.datasets.storage import Storage
from everymask.errors import DataError
from everymask.labels import label_set
from everymask.segmentation import Task

BORDER = 255
_NO_INSTANCE = (0, BORDER)
_IMAGES = r"JPEGImages/(?P<name>.+)\.[^./]+"
_CLASSES = r"SegmentationClass/(?P<name>.+)\.png"
_OBJECTS = r"SegmentationObject/(?P<name>.+)\.png"
_SPLITS = r"ImageSets/Segmentation/(?P<name>.+)\.txt"

CONVENTIONS = Conventions(
    ignore=(BORDER,), offset=0, things="SegmentationObject/NAME.png: the instance, from 1; 255 is ignored"
)


def recognise(storage: Storage) -> bool:
    """Whether there are the folders JPEGImages and SegmentationClass."""
    return {"JPEGImages", "SegmentationClass"} <= set(storage.folders())


def splits(storage: Storage) -> tuple[str, ...]:
    """The splits that have a list."""
    return tuple(sorted(find_files(storage, _SPLITS).get("", {})))


def read(storage: Storage, split: str | None = None, task: Task | None = None) -> PixelMaps:
    """The images that the list of a split names, sorted.

    ``task``: what to read the annotations for; None is panoptic where there is SegmentationObject, semantic otherwise;
    background is stuff. Raises DataError where files or the split are missing.
    """
    images, classes, objects, lists = (
        find_files(storage, each).get("", {}) for each in (_IMAGES, _CLASSES, _OBJECTS, _SPLITS)
    )
    if not (images and classes and lists):
        raise nothing_found(
            storage, "JPEGImages/NAME.jpg with SegmentationClass/NAME.png and ImageSets/Segmentation/train.txt"
        )
    split = choose_split(lists, split, storage)
    names = set(storage.read(lists[split]).decode("utf-8", "replace").split())
    if not names:
        raise DataError(f"{storage.where(lists[split])} names no images: write one name a line, without the suffix")
    possible: tuple[Task, ...] = ("panoptic", "instance", "semantic") if objects else ("semantic",)
    task = choose_task(task, possible, storage, "that needs the folder SegmentationObject")
    chosen = [{name: files[name] for name in names & files.keys()} for files in (images, classes, objects)]
    for folder, files in zip(("JPEGImages", "SegmentationClass", "SegmentationObject"), chosen, strict=True):
        missing = names - files.keys()
        if missing and (files is not chosen[2] or task != "semantic"):
            raise DataError(
                f"{len(missing)} of the {len(names)} names in {storage.where(lists[split])} have no file in "
                f"{storage.where(folder)}, the first is {min(missing)}: add what is missing, or take it off the list"
            )
    return PixelMaps(
        name=f"Pascal VOC {split}",
        labels=label_set("pascal-voc"),
        tasks=tasks_of(task),
        conventions=CONVENTIONS,
        storage=storage,
        entries=pair(storage, chosen[0], chosen[1], None if task == "semantic" else chosen[2]),
        read_entry=partial(_read_truth, task=task),
    )


def _read_truth(storage: Storage, entry: Entry, task: Task) -> Truth:
    labels = label_set("pascal-voc")
    numbers = read_index_png(storage, entry.labels)  # (H, W)
    if entry.instances is not None:
        instances = read_index_png(storage, entry.instances)  # (H, W)
        if instances.shape != numbers.shape:
            raise differing_sizes(storage, entry)
        if instances.max() > BORDER:
            raise DataError(
                f"{storage.where(entry.instances)} holds the value {instances.max()}: instances are 1 to 254"
            )
        numbers = numbers * np.int32(256) + instances

    def meaning(number: int) -> Meaning | None:
        label, instance = (number, None) if entry.instances is None else divmod(number, 256)
        if label == BORDER:
            return None
        if label >= len(labels):
            raise DataError(
                f"{storage.where(entry.labels)} holds the value {label}, which is neither one of the {len(labels)} "
                f"classes nor the ignored {BORDER}: is this Pascal VOC's SegmentationClass?"
            )
        if not labels.things[label]:
            return None if task == "instance" else Meaning(label)
        if task == "semantic":
            return Meaning(label)
        return None if instance in _NO_INSTANCE else Meaning(label, instance)

    return truth_of(numbers, meaning)
