"""ADE20K in the layout of the scene parsing challenge, 150 classes of which 100 are things.

images/{training,validation}/NAME.jpg
annotations/{training,validation}/NAME.png             the index of the class + 1; 0 is unlabelled
annotations_instance/{training,validation}/NAME.png    RGB: red is the place of the class among the things, from 1;
                                                       green is the instance, 0 where there is none

Panoptic truth is what Mask2Former's preparation makes of the two: the stuff of the class map with the instances on top;
things that no instance covers are ignored. Where annotations_instance/ is missing, what that preparation wrote is read:
ade20k_panoptic_{train,val}.json with PNGs in ade20k_panoptic_{train,val}/, in COCO's panoptic format.
"""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from everymask.datasets import coco_panoptic
from everymask.datasets.dataset import Conventions, DataSet, Truth
from everymask.datasets.listing import (
    choose_split,
    choose_task,
    find_files,
    nothing_found,
    pair,
    tasks_of,
    with_annotations,
)
from everymask.datasets.pictures import read_channels, read_index_png
from everymask.datasets.pixel_maps import Entry, Meaning, PixelMaps, differing_sizes, truth_of
from everymask.datasets.storage import Storage
from everymask.errors import DataError
from everymask.labels import label_set
from everymask.segmentation import Task

_SPLITS = ("training", "validation")
_SPLIT = f"(?P<split>{'|'.join(_SPLITS)})"
_IMAGES = rf"images/{_SPLIT}/(?P<name>.+)\.[^./]+"
_LABELS = rf"annotations/{_SPLIT}/(?P<name>.+)\.png"
_INSTANCES = rf"annotations_instance/{_SPLIT}/(?P<name>.+)\.png"
_PREPARED = {"training": "ade20k_panoptic_train", "validation": "ade20k_panoptic_val"}
_STUFF = 1 << 16  # where the numbers of stuff begin, above those of instances: red + 256 green

CONVENTIONS = Conventions(
    ignore=(0,),
    offset=1,
    things="annotations_instance/SPLIT/NAME.png: red is the class, counted among the 100 things, green the instance",
)


def recognise(storage: Storage) -> bool:
    """Whether the images and annotations are laid out and named as the challenge's."""
    splits = [f"{kind}/{split}/" for kind in ("annotations", "annotations_instance") for split in _SPLITS]
    return any(name.startswith(f"{folder}ADE_") for folder in splits for name in storage.below(folder)[:1])


def splits(storage: Storage) -> tuple[str, ...]:
    """The splits with images and annotations."""
    return with_annotations(find_files(storage, _IMAGES), find_files(storage, _LABELS), find_files(storage, _INSTANCES))


def read(storage: Storage, split: str | None = None, task: Task | None = None) -> DataSet:
    """The images of a split ("train" and "val" are understood too).

    ``task``: what to read the annotations for; None is the richest that they allow: panoptic, or else instance or
    semantic where one of the two folders is missing. Labels are the 150 classes for every task. Raises DataError where
    files or the split are missing.
    """
    images, labels, instances = (find_files(storage, each) for each in (_IMAGES, _LABELS, _INSTANCES))
    available = with_annotations(images, labels, instances)
    if not available:
        raise nothing_found(storage, "images/training/NAME.jpg with annotations/training/NAME.png")
    split = choose_split(available, split, storage)
    prepared = _PREPARED[split]
    if task != "semantic" and split not in instances and f"{prepared}.json" in storage:
        return coco_panoptic.read(storage, prepared, task)
    possible: tuple[Task, ...] = ("semantic",) if split in labels else ("instance",)
    if split in labels and split in instances:
        possible = ("panoptic", "instance", "semantic")
    missing = "annotations/ has the classes, annotations_instance/ the instances, and panoptic takes both"
    task = choose_task(task, possible, storage, missing)
    if task == "panoptic":
        entries = pair(storage, images[split], labels[split], instances[split])
    else:
        entries = pair(storage, images[split], (labels if task == "semantic" else instances)[split])
    return PixelMaps(
        name=f"ADE20K {split}",
        labels=label_set("ade20k"),
        tasks=tasks_of(task),
        conventions=CONVENTIONS,
        storage=storage,
        entries=entries,
        read_entry=partial(_read_truth, task=task),
    )


def _read_truth(storage: Storage, entry: Entry, task: Task) -> Truth:
    things = label_set("ade20k").things
    instance_classes = [index for index, is_thing in enumerate(things) if is_thing]
    instance_file = entry.labels if entry.instances is None else entry.instances
    class_of_instance: dict[int, int] = {}

    def meaning(number: int) -> Meaning | None:
        if number >= _STUFF:
            label = number - _STUFF - 1
            if label >= len(things):
                raise DataError(
                    f"{storage.where(entry.labels)} holds the value {label + 1}; ADE20K's annotations hold 0 for "
                    "unlabelled and 1 to 150 for the classes: is this the 150-class version?"
                )
            ignored = label < 0 or (task == "panoptic" and things[label])
            return None if ignored else Meaning(label)
        instance, red = divmod(number, 256)
        if instance == 0:
            return None
        if not 1 <= red <= len(instance_classes):
            raise DataError(
                f"{storage.where(instance_file)} gives instance {instance} the class {red} (red), which is none of the "
                f"things 1 to {len(instance_classes)}: get a fresh copy of annotations_instance"
            )
        if class_of_instance.setdefault(instance, red) != red:
            raise DataError(
                f"{storage.where(instance_file)} gives instance {instance} (green) the classes "
                f"{class_of_instance[instance]} and {red} (red): an instance has one class; get a fresh copy"
            )
        return Meaning(instance_classes[red - 1], instance)

    if task == "semantic":
        return truth_of(read_index_png(storage, entry.labels).astype(np.int32) + _STUFF, meaning)
    rgb = read_channels(storage, instance_file)  # (H, W, 3)
    numbers: NDArray[np.int32] = rgb[..., 0] + np.int32(256) * rgb[..., 1]  # (H, W)
    if task == "panoptic":
        classes = read_index_png(storage, entry.labels).astype(np.int32)  # (H, W)
        if classes.shape != numbers.shape:
            raise differing_sizes(storage, entry)
        numbers = np.where(numbers < 256, classes + _STUFF, numbers)
    return truth_of(numbers, meaning)
