"""Cityscapes, fine annotations.

leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png
gtFine/SPLIT/CITY/NAME_gtFine_labelIds.png         the id of the class, 0 to 33, 19 of which are evaluated
gtFine/SPLIT/CITY/NAME_gtFine_labelTrainIds.png    optional: the index of the class, 255 for the others
gtFine/SPLIT/CITY/NAME_gtFine_instanceIds.png      optional: id * 1000 + instance, or the id alone: of stuff, and of a
                                                   group of things that nobody told apart

What is evaluated and what is a group follows cityscapesScripts' createPanopticImgs.
"""

from functools import partial

from everymask.datasets.dataset import Conventions, Truth
from everymask.datasets.listing import (
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

IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""The id of every class, in the order of the 19 train ids (cityscapesScripts, helpers/labels.py)."""
_LAST_ID = 33
_INSTANCE = 1000

_IMAGES = r"leftImg8bit/(?P<split>[^/]+)/(?P<name>.+)_leftImg8bit\.[^./]+"


def _annotations(kind: str) -> str:
    return rf"gtFine/(?P<split>[^/]+)/(?P<name>.+)_gtFine_{kind}\.png"


CONVENTIONS = Conventions(
    ignore=tuple(sorted(set(range(_LAST_ID + 1)) - set(IDS))),
    offset=0,
    things="gtFine/SPLIT/CITY/NAME_gtFine_instanceIds.png: id * 1000 + instance; ids below 1000 of things are groups",
)
TRAIN_ID_CONVENTIONS = Conventions(ignore=(255,), offset=0, things="none: labelTrainIds.png tells no instances apart")


def recognise(storage: Storage) -> bool:
    """Whether there are the folders leftImg8bit and gtFine."""
    return {"leftImg8bit", "gtFine"} <= set(storage.folders())


def splits(storage: Storage) -> tuple[str, ...]:
    """The splits with images and annotations."""
    kinds = ("labelIds", "labelTrainIds", "instanceIds")
    return with_annotations(find_files(storage, _IMAGES), *(find_files(storage, _annotations(kind)) for kind in kinds))


def read(storage: Storage, split: str | None = None, task: Task | None = None) -> PixelMaps:
    """The images of a split.

    ``task``: what to read the annotations for; None is panoptic where there are instanceIds, semantic otherwise.
    Semantic truth comes from labelIds, or labelTrainIds, or instanceIds, the first there is. Instance truth has the
    8 things as its labels, as the published instance models do. Raises DataError where files or the split are missing.
    """
    images = find_files(storage, _IMAGES)
    ids, train_ids, instances = (
        find_files(storage, _annotations(kind)) for kind in ("labelIds", "labelTrainIds", "instanceIds")
    )
    available = with_annotations(images, ids, train_ids, instances)
    if not available:
        raise nothing_found(
            storage, "leftImg8bit/train/CITY/NAME_leftImg8bit.png with gtFine/train/CITY/NAME_gtFine_labelIds.png"
        )
    split = choose_split(available, split, storage)
    possible: tuple[Task, ...] = ("panoptic", "instance", "semantic") if split in instances else ("semantic",)
    task = choose_task(task, possible, storage, f"gtFine/{split} needs the files that end with _gtFine_instanceIds.png")
    annotations, with_train_ids = instances, False
    if task == "semantic" and split in ids:
        annotations = ids
    elif task == "semantic" and split in train_ids:
        annotations, with_train_ids = train_ids, True
    return PixelMaps(
        name=f"Cityscapes {split}",
        labels=label_set("cityscapes-instance" if task == "instance" else "cityscapes"),
        tasks=tasks_of(task),
        conventions=TRAIN_ID_CONVENTIONS if with_train_ids else CONVENTIONS,
        storage=storage,
        entries=pair(storage, images[split], annotations[split]),
        read_entry=_read_train_ids if with_train_ids else partial(_read_ids, task=task),
    )


def _read_train_ids(storage: Storage, entry: Entry) -> Truth:
    def meaning(number: int) -> Meaning | None:
        if number < len(IDS):
            return Meaning(number)
        if number == 255:
            return None
        raise DataError(
            f"{storage.where(entry.labels)} holds the value {number}; labelTrainIds are 0 to 18, and 255 for what is "
            "ignored: make them again with cityscapesScripts' csCreateTrainIdLabelImgs"
        )

    return truth_of(read_index_png(storage, entry.labels), meaning)


def _read_ids(storage: Storage, entry: Entry, task: Task) -> Truth:
    label_of = {id: index for index, id in enumerate(IDS)}
    things = label_set("cityscapes").things
    first_thing = things.index(True)  # the things come last, in the order of the instance labels

    def meaning(number: int) -> Meaning | None:
        id, instance = divmod(number, _INSTANCE) if number >= _INSTANCE else (number, None)
        if id > _LAST_ID:
            raise DataError(
                f"{storage.where(entry.labels)} holds the value {number}, which is no id of Cityscapes, "
                f"0 to {_LAST_ID}, alone or times 1000 plus an instance: get a fresh copy of gtFine"
            )
        label = label_of.get(id)
        if label is None:
            return None
        if task == "semantic":
            return Meaning(label)
        if not things[label]:
            return Meaning(label) if task == "panoptic" else None
        return Meaning(label - first_thing * (task == "instance"), instance, is_crowd=instance is None)

    return truth_of(read_index_png(storage, entry.labels), meaning)
