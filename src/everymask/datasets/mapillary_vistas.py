"""Mapillary Vistas, version 1.2: 66 classes, the last of which means unlabelled.

{training,validation}/images/NAME.jpg
{training,validation}/v1.2/labels/NAME.png       the index of the class; 65 is unlabelled
{training,validation}/v1.2/instances/NAME.png    16 bits: the index of the class * 256 + the instance, from 0

Before version 2.0 labels/ and instances/ stood beside images/. One split alone is read too. Panoptic truth is made
of the instances: those of stuff are one segment.
"""

from functools import partial

from everymask.datasets.dataset import Conventions, Truth
from everymask.datasets.listing import (
    Files,
    choose_split,
    choose_task,
    find_files,
    nothing_found,
    pair,
    tasks_of,
    with_annotations,
)
from everymask.datasets.pictures import read_index_png
from everymask.datasets.pixel_maps import Entry, Meaning, PixelMaps, truth_of
from everymask.datasets.storage import Storage
from everymask.errors import DataError
from everymask.labels import label_set
from everymask.segmentation import Task

UNLABELLED = 65
_INSTANCE = 256
_SPLITS = ("training", "validation")
_ANNOTATIONS = frozenset({"v1.2", "v2.0", "labels", "instances"})

CONVENTIONS = Conventions(
    ignore=(UNLABELLED,),
    offset=0,
    things="SPLIT/v1.2/instances/NAME.png: the index of the class * 256 + the instance",
)


def recognise(storage: Storage) -> bool:
    """Whether a split has images, and labels or instances beside them."""
    folders = [storage.folders(split) for split in _SPLITS]
    if _alone(storage):
        folders.append(storage.folders())
    return any("images" in each and not _ANNOTATIONS.isdisjoint(each) for each in folders)


def splits(storage: Storage) -> tuple[str, ...]:
    """The splits with images and annotations."""
    images, labels, instances = _find(storage)
    return with_annotations(images, labels, instances)


def read(storage: Storage, split: str | None = None, task: Task | None = None) -> PixelMaps:
    """The images of a split ("train" and "val" are understood too).

    ``task``: what to read the annotations for; None is panoptic where there are instances, semantic otherwise. Raises
    DataError where files or the split are missing, and where there is version 2.0 alone, which has other classes.
    """
    images, labels, instances = _find(storage)
    available = with_annotations(images, labels, instances)
    if not available and any("/v2.0/" in f"/{name}" for name in storage.names):
        raise DataError(
            f"{storage.where()} holds version 2.0 of Mapillary Vistas, whose 124 classes everymask does not read: "
            "unpack the folders v1.2 beside the folders v2.0"
        )
    if not available:
        raise nothing_found(storage, "training/images/NAME.jpg with training/v1.2/labels/NAME.png")
    split = choose_split(available, split, storage)
    possible: tuple[Task, ...] = ("panoptic", "instance", "semantic") if split in instances else ("semantic",)
    task = choose_task(task, possible, storage, "that needs the folder instances beside labels")
    annotations = labels if task == "semantic" and split in labels else instances
    return PixelMaps(
        name=f"Mapillary Vistas {split}",
        labels=label_set("mapillary-vistas"),
        tasks=tasks_of(task),
        conventions=CONVENTIONS,
        storage=storage,
        entries=pair(storage, images[split], annotations[split]),
        read_entry=partial(_read_truth, task=task, with_instances=annotations is instances),
    )


def _alone(storage: Storage) -> str:
    """The split that the storage is, having one only; "" where it is the whole data set."""
    name = storage.where().rstrip("/").rpartition("/")[2]
    return name if name in _SPLITS and "images" in storage.folders() else ""


def _find(storage: Storage) -> tuple[Files, Files, Files]:
    """Images, labels and instances by split."""
    alone = _alone(storage)
    split = "" if alone else f"(?P<split>{'|'.join(_SPLITS)})/"
    images = find_files(storage, rf"{split}images/(?P<name>.+)\.[^./]+")
    labels = find_files(storage, rf"{split}(?:v1\.2/)?labels/(?P<name>.+)\.png")
    instances = find_files(storage, rf"{split}(?:v1\.2/)?instances/(?P<name>.+)\.png")
    if alone:
        images, labels, instances = ({alone: files[""]} if files else {} for files in (images, labels, instances))
    return images, labels, instances


def _read_truth(storage: Storage, entry: Entry, task: Task, with_instances: bool) -> Truth:
    things = label_set("mapillary-vistas").things

    def meaning(number: int) -> Meaning | None:
        label, instance = divmod(number, _INSTANCE) if with_instances else (number, None)
        if label == UNLABELLED:
            return None
        if label > UNLABELLED:
            raise DataError(
                f"{storage.where(entry.labels)} holds the value {number}, which is none of the classes 0 to 65"
                f"{' times 256 plus an instance' * with_instances}: is it of version 2.0? Use the annotations of v1.2"
            )
        if task == "semantic" or not things[label]:
            return None if task == "instance" else Meaning(label)
        return Meaning(label, instance)

    return truth_of(read_index_png(storage, entry.labels), meaning)
