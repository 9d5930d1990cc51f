"""COCO-Stuff 164k (https://github.com/nightrome/cocostuff): 171 classes of things and stuff at every pixel.

The photographs are COCO's, SPLIT/NAME.jpg or images/SPLIT/NAME.jpg, SPLIT being train2017 or val2017. The PNGs are

stuffthingmaps/SPLIT/NAME.png                   as published: COCO's category id less one, 0 to 181 with gaps
stuffthingmaps_detectron2/SPLIT/NAME.png        as Mask2Former prepares them: the index of the class, 0 to 170
annotations/SPLIT/NAME_labelTrainIds.png        as mmsegmentation prepares them: the index of the class, 0 to 170
annotations/SPLIT/NAME.png                      as mmsegmentation downloads them: as published

255 is ignored in all of them. Of several kinds, indices of classes are taken first.
"""

import re
from functools import partial
from typing import NamedTuple

from everymask.datasets.coco_json import choose_named
from everymask.datasets.dataset import Conventions, DataSet, Truth
from everymask.datasets.listing import choose_task, find_files, nothing_found, pair, with_annotations
from everymask.datasets.pictures import read_index_png
from everymask.datasets.pixel_maps import Entry, Meaning, PixelMaps, truth_of
from everymask.datasets.storage import Storage
from everymask.errors import DataError
from everymask.labels import label_set
from everymask.segmentation import Task

TASKS: tuple[Task, ...] = ("semantic",)
IGNORED = 255
UNUSED_IDS = frozenset((12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91))
"""The ids of 1 to 182 that no pixel has: COCO planned these categories and never annotated them."""
_CLASS_OF = {stored: index for index, stored in enumerate(id - 1 for id in range(1, 183) if id not in UNUSED_IDS)}


class _Kind(NamedTuple):
    """Where PNGs of one kind lie, and whether they hold COCO's ids or the indices of classes."""

    pattern: str
    ids: bool


_FOLDER = r"(?:.*/)?"
_KINDS = (
    _Kind(_FOLDER + r"stuffthingmaps_detectron2/(?P<split>[^/]+)/(?P<name>[^/]+)\.png", ids=False),
    _Kind(_FOLDER + r"annotations/(?P<split>(?:train|val)2017)/(?P<name>[^/]+)_labelTrainIds\.png", ids=False),
    _Kind(_FOLDER + r"stuffthingmaps/(?P<split>[^/]+)/(?P<name>[^/_]+)\.png", ids=True),
    _Kind(_FOLDER + r"annotations/(?P<split>(?:train|val)2017)/(?P<name>[^/_]+)\.png", ids=True),
)
_IMAGES = _FOLDER + r"(?P<split>[^/]+)/(?P<name>[^/]+)\.jpe?g"
_IDS = Conventions(
    ignore=(IGNORED,),
    offset=0,
    things="none are told apart; a stored value is COCO's category id less one, classes are the 171 used ids, rising",
)
_INDICES = Conventions(ignore=(IGNORED,), offset=0, things="none are told apart; a stored value is the class's index")


def recognise(storage: Storage) -> bool:
    """Whether there are PNGs where COCO-Stuff has them."""
    return any(name.endswith(".png") and re.fullmatch(kind.pattern, name) for name in storage.names for kind in _KINDS)


def splits(storage: Storage) -> tuple[str, ...]:
    """The splits with photographs and PNGs."""
    return with_annotations(find_files(storage, _IMAGES), *(find_files(storage, kind.pattern) for kind in _KINDS))


def read(storage: Storage, split: str | None = None, task: Task | None = None) -> DataSet:
    """The images of a split: "train2017" or "train", "val2017" or "val". COCO-Stuff is for semantic segmentation only.

    Raises DataError where files or the split are missing.
    """
    choose_task(task, TASKS, storage, "COCO panoptic annotations tell things apart")
    images = find_files(storage, _IMAGES)
    labels = [find_files(storage, kind.pattern) for kind in _KINDS]
    available = with_annotations(images, *labels)
    if not available:
        raise nothing_found(storage, "val2017/NAME.jpg with stuffthingmaps/val2017/NAME.png")
    split = choose_named(available, split, storage)
    kind, of_kind = next((kind, files) for kind, files in zip(_KINDS, labels, strict=True) if split in files)
    return PixelMaps(
        name=f"COCO-Stuff {split}",
        labels=label_set("coco-stuff"),
        tasks=TASKS,
        conventions=_IDS if kind.ids else _INDICES,
        storage=storage,
        entries=pair(storage, images[split], of_kind[split]),
        read_entry=partial(_read_truth, ids=kind.ids),
    )


def _read_truth(storage: Storage, entry: Entry, ids: bool) -> Truth:
    num_classes = len(_CLASS_OF)

    def meaning(number: int) -> Meaning | None:
        if number == IGNORED:
            return None
        label = _CLASS_OF.get(number, -1) if ids else number
        if not 0 <= label < num_classes:
            expected = "a category id of COCO less one" if ids else f"the index of one of the {num_classes} classes"
            raise DataError(
                f"{storage.where(entry.labels)} holds the value {number}, which is neither {expected} nor the ignored "
                f"{IGNORED}: are its values {'indices of classes or ids' if ids else 'ids'} of another numbering?"
            )
        return Meaning(label)

    return truth_of(read_index_png(storage, entry.labels), meaning)
