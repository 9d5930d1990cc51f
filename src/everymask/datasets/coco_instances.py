"""COCO instance annotations (https://cocodataset.org/#format-data, section 1): polygons and runs, which may overlap.

annotations/instances_val2017.json    images, categories, and an annotation for every object
val2017/                              the photographs

Also JSON of the same content under other names, wherever it lies. Masks are made when an image is read, as runs.
"""

import posixpath
import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
from faster_coco_eval import mask as coco_mask
from numpy.typing import NDArray

from everymask.datasets.coco_json import (
    choose_file,
    find_photographs,
    labels_of,
    no_photographs,
    read_json,
    unique_names,
    with_categories,
)
from everymask.datasets.dataset import Conventions, DataSet, Truth, TruthSegment
from everymask.datasets.listing import choose_task
from everymask.datasets.pictures import read_photograph
from everymask.datasets.storage import Storage
from everymask.errors import DataError
from everymask.geometry import Size
from everymask.labels import LabelSet
from everymask.runs import Runs
from everymask.segmentation import Task

TASKS: tuple[Task, ...] = ("instance",)
CONVENTIONS = Conventions(
    ignore=(), offset=0, things="every annotation is one thing; classes are the categories by rising id"
)
_LIKELY = re.compile(r"(?:.*/)?(?:instances?[^/]*|_annotations\.coco|annotations|annotations/[^/]+)\.json")
_OTHER_KINDS = ("caption", "keypoint", "panoptic", "stuff", "image_info", "unlabeled", "semantic")
_FARTHEST = 100_000
"""Pixels: a polygon that goes farther out is damaged, and drawing it would take memory for every pixel on the way."""


@dataclass(frozen=True, slots=True)
class _Masks:
    """The masks of all objects as the JSON has them, in few arrays: a list of lists of numbers would be ten times this.

    Object i has the polygons ``begins[i]`` to ``begins[i + 1]``; polygon j the numbers (x, y, x, y ...)
    ``bounds[j]`` to ``bounds[j + 1]`` of ``numbers``. Or it has ``runs[i]``: its compressed counts, and their size.
    """

    begins: NDArray[np.int64]
    bounds: NDArray[np.int64]
    numbers: NDArray[np.float64]
    runs: dict[int, Runs]


@dataclass(frozen=True)
class CocoInstances:
    """A ``DataSet`` of COCO instance annotations.

    The objects of all images lie one after the other in the arrays; those of image i begin at ``begins[i]``.
    """

    name: str
    labels: LabelSet = field(repr=False)
    names: Sequence[str] = field(repr=False)
    storage: Storage = field(repr=False)
    photographs: Sequence[str] = field(repr=False)
    sizes: Sequence[Size] = field(repr=False)
    begins: NDArray[np.int64] = field(repr=False)  # (N + 1,)
    ids: NDArray[np.int64] = field(repr=False)
    classes: NDArray[np.int32] = field(repr=False)
    crowds: NDArray[np.bool_] = field(repr=False)
    areas: NDArray[np.float64] = field(repr=False)  # as the JSON states them; NaN where it does not
    masks: _Masks = field(repr=False)
    tasks: tuple[Task, ...] = TASKS
    conventions: Conventions = field(default=CONVENTIONS, repr=False)

    def read_image(self, index: int) -> NDArray[np.uint8]:
        """The image, (H, W, 3) uint8 RGB, upright. Raises ImageError where it cannot be read."""
        return read_photograph(self.storage, self.photographs[index])

    def read_truth(self, index: int) -> Truth:
        """Its objects, in the order of the JSON; none is right for an image without annotations.

        Raises DataError where a polygon has no area to draw, or runs do not fit the image.
        """
        size = self.sizes[index]
        segments = []
        for place in range(self.begins[index], self.begins[index + 1]):
            runs = self._runs(place, size)
            stated = float(self.areas[place])
            segments.append(
                TruthSegment(
                    int(self.classes[place]),
                    runs,
                    runs.area,
                    bool(self.crowds[place]),
                    None if np.isnan(stated) else stated,
                )
            )
        return Truth(size, tuple(segments), None)

    def source(self, index: int) -> str:
        """Where the image lies, for messages."""
        return self.storage.where(self.photographs[index])

    def _runs(self, place: int, size: Size) -> Runs:
        """The mask of an object, drawn as COCO's tools draw it."""
        called = f"the annotation {self.ids[place]} of {self.name}"
        runs = self.masks.runs.get(place)
        if runs is not None:
            _check_runs(runs, size, called)
            return runs
        polygons = range(self.masks.begins[place], self.masks.begins[place + 1])
        if not polygons:
            raise DataError(f"{called} has no segmentation, perhaps only a box: outline the object, or remove it")
        parts = [self.masks.numbers[self.masks.bounds[each] : self.masks.bounds[each + 1]] for each in polygons]
        for part in parts:
            if len(part) < 6 or len(part) % 2:
                raise DataError(
                    f"{called} has a polygon of {len(part)} numbers: it takes x and y of at least three points"
                )
            if not (np.abs(part) <= _FARTHEST).all():  # NaN fails
                raise DataError(f"{called} has a polygon with points far outside the image: correct or remove it")
        drawn = coco_mask.merge(coco_mask.frPyObjects([part.tolist() for part in parts], size.height, size.width))
        return Runs(size, drawn["counts"])


def recognise(storage: Storage) -> bool:
    """Whether there is a JSON of a usual name: instances..., annotations, _annotations.coco, or any in annotations/."""
    return any(_LIKELY.fullmatch(name) for name in _files(storage).values())


def splits(storage: Storage) -> tuple[str, ...]:
    """The names of the files of annotations, without those of results."""
    return tuple(sorted(with_categories(_files(storage), storage)))


def read(storage: Storage, split: str | None = None, task: Task | None = None) -> DataSet:
    """The annotations of a split: the name of its JSON or the end of that name ("val2017", "val").

    Raises DataError where there are none, for an unknown split, and for a JSON that contradicts itself.
    """
    choose_task(task, TASKS, storage, "COCO panoptic annotations have stuff too")
    files = _files(storage)
    if not files:
        raise DataError(f"{storage.where()} has no JSON of objects, such as annotations/instances_val2017.json: add it")
    member = choose_file(files, split, storage)
    document = read_json(storage, member)
    try:
        return _data_set(storage, document, member)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{storage.where(member)} is no file of COCO instances ({error!r}): write it as pycocotools reads it"
        ) from error


def _files(storage: Storage) -> dict[str, str]:
    """The JSON files by their names without folder and suffix, or where all have one name by their folders."""
    files = {}
    for name in storage.names:
        base = posixpath.basename(name)
        if not base.endswith(".json") or any(kind in base.lower() for kind in _OTHER_KINDS):
            continue
        if not storage.below(name.removesuffix(".json")):  # else a panoptic one with its PNGs
            files[_split_of(name)] = name
    return files


def _split_of(member: str) -> str:
    folder, base = posixpath.split(member)
    return posixpath.basename(folder) if base == "_annotations.coco.json" else base.removesuffix(".json")


def _data_set(storage: Storage, document: dict[str, Any], member: str) -> CocoInstances:
    where = storage.where(member)
    split = _split_of(member)
    images = document["images"]
    files = [str(image["file_name"]) for image in images]
    sizes = [Size(int(image["height"]), int(image["width"])) for image in images]
    of_image: dict[Any, list[dict[str, Any]]] = {image["id"]: [] for image in images}
    if len(of_image) < len(images):
        raise DataError(f"{where} has two images of one id: give each its own")
    index_of, labels = labels_of(document["categories"], where)
    for each in document["annotations"]:
        if each["image_id"] not in of_image:
            raise DataError(f"{where} annotates the image {each['image_id']}, which is not listed: add or remove it")
        if each["category_id"] not in index_of:
            raise DataError(
                f"{where} uses the category id {each['category_id']}, which is not listed: add or correct it"
            )
        of_image[each["image_id"]].append(each)
    folder = find_photographs(storage, files, split)
    if folder is None:
        raise no_photographs(storage, member, files)
    ordered = [each for annotations in of_image.values() for each in annotations]
    counts = [len(annotations) for annotations in of_image.values()]
    return CocoInstances(
        name=split,
        labels=labels,
        names=unique_names(files, where),
        storage=storage,
        photographs=[folder + file for file in files],
        sizes=sizes,
        begins=np.array([0, *accumulate(counts)], np.int64),
        ids=np.array([each.get("id", -1) for each in ordered], np.int64),
        classes=np.array([index_of[each["category_id"]] for each in ordered], np.int32),
        crowds=np.array([bool(each.get("iscrowd", 0)) for each in ordered], np.bool_),
        areas=np.array([each.get("area", np.nan) for each in ordered], np.float64),
        masks=_masks_of(ordered),
    )


def _masks_of(annotations: Sequence[dict[str, Any]]) -> _Masks:
    begins, bounds = array("q", [0]), array("q", [0])
    numbers = array("d")
    runs: dict[int, Runs] = {}
    for place, each in enumerate(annotations):
        segmentation = each.get("segmentation") or []
        if isinstance(segmentation, dict):
            height, width = segmentation["size"]
            counts = segmentation["counts"]
            if isinstance(counts, list):
                counts = _compressed(counts, Size(height, width), each.get("id"))
            runs[place] = Runs(Size(height, width), counts.encode("ascii") if isinstance(counts, str) else counts)
        else:
            for polygon in segmentation:
                numbers.extend(polygon)
                bounds.append(len(numbers))
        begins.append(len(bounds) - 1)
    return _Masks(np.array(begins), np.array(bounds), np.array(numbers, np.float64), runs)


def _compressed(counts: list[int], size: Size, id: object) -> bytes:
    if min(counts, default=0) < 0 or sum(counts) != size.height * size.width:
        raise DataError(
            f"the runs of the annotation {id} make up {sum(counts)} pixels, those of an image of {size.width} x "
            f"{size.height} are {size.height * size.width}: write them again"
        )
    compressed: bytes = coco_mask.frPyObjects({"size": list(size), "counts": counts}, *size)["counts"]
    return compressed


def _check_runs(runs: Runs, size: Size, called: str) -> None:
    if runs.size != size:
        raise DataError(
            f"{called} has runs for {runs.size.width} x {runs.size.height} pixels and its image is "
            f"{size.width} x {size.height}: write them again in the size of the image"
        )
    if _total(runs.counts) != size.height * size.width:
        raise DataError(f"{called} has damaged runs, which do not fill the image: write them again")


def _total(counts: bytes) -> int:
    """The pixels that compressed counts make up; -1 for what are no counts. ``runs`` describes the compression."""
    characters = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    if not len(characters) or characters.min() < 0 or characters.max() > 63 or characters[-1] & 32:
        return -1
    last = np.flatnonzero((characters & 32) == 0)
    first = np.concatenate(([0], last[:-1] + 1))
    lengths = last - first + 1
    if lengths.max() > 7:  # 35 bits
        return -1
    place = np.arange(len(characters)) - np.repeat(first, lengths)
    numbers = np.add.reduceat((characters & 31) << (5 * place), first)
    numbers -= (characters[last] & 16 != 0) * (1 << (5 * lengths))
    for start in (1, 2):  # from the fourth on, differences from the count two before
        numbers[start::2] = np.cumsum(numbers[start::2])
    return int(numbers.sum()) if numbers.min() >= 0 else -1
