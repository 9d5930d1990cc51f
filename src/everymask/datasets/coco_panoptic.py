"""COCO panoptic annotations, in folders as panopticapi takes them (https://cocodataset.org/#format-data, section 4).

annotations/panoptic_val2017.json    the segments of every image, and the categories
annotations/panoptic_val2017/        a PNG for every image, of ids: red + 256 green + 65536 blue
val2017/                             the photographs

Any JSON beside a folder of its name is such a set, wherever it lies. Results in the same format, whose JSON lists
neither images nor categories, are read with the categories of the annotations beside them.
"""

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everymask.datasets.coco_json import (
    choose_file,
    coco_labels,
    find_photographs,
    labels_of,
    no_photographs,
    read_json,
    unique_names,
    with_categories,
)
from everymask.datasets.dataset import Conventions, DataSet, Truth, TruthSegment
from everymask.datasets.listing import choose_task
from everymask.datasets.pictures import read_id_png, read_photograph
from everymask.datasets.storage import Storage
from everymask.errors import DataError, ImageError
from everymask.geometry import Size
from everymask.labels import LabelSet
from everymask.segmentation import Region, Task

TASKS: tuple[Task, ...] = ("panoptic", "instance", "semantic")
CONVENTIONS = Conventions(
    ignore=(0,),
    offset=0,
    things='a PNG holds ids of segments; the JSON gives each its category and "iscrowd", the categories "isthing"; '
    "classes are the categories by rising id",
)


@dataclass(frozen=True)
class CocoPanoptic:
    """A ``DataSet`` of COCO panoptic annotations.

    The segments of all images lie one after the other in three arrays; those of image i begin at ``begins[i]``.
    """

    name: str
    labels: LabelSet = field(repr=False)
    names: Sequence[str] = field(repr=False)
    storage: Storage = field(repr=False)
    photographs: Sequence[str] | None = field(repr=False)  # None for results without photographs
    pngs: Sequence[str | None] = field(repr=False)  # None for an image without annotation
    sizes: Sequence[Size | None] = field(repr=False)  # as the JSON states them
    begins: NDArray[np.int64] = field(repr=False)  # (N + 1,)
    ids: NDArray[np.int64] = field(repr=False)
    classes: NDArray[np.int32] = field(repr=False)
    crowds: NDArray[np.bool_] = field(repr=False)
    tasks: tuple[Task, ...] = TASKS
    conventions: Conventions = field(default=CONVENTIONS, repr=False)

    def read_image(self, index: int) -> NDArray[np.uint8]:
        """The image, (H, W, 3) uint8 RGB, upright. Raises ImageError where it cannot be read."""
        if self.photographs is None:
            raise ImageError(f"{self.name} is without photographs: read those of the annotations it belongs to")
        return read_photograph(self.storage, self.photographs[index])

    def read_truth(self, index: int) -> Truth:
        """Its annotation; ids of 0 are ignored. Raises DataError where the PNG is missing or damaged, has another size
        than the JSON states, an id the JSON lacks, or none of the pixels of a segment that the JSON lists."""
        png = self.pngs[index]
        if png is None:
            raise DataError(
                f"{self.name} has no annotation of the image {self.names[index]}: add one, or take it out of the images"
            )
        where = self.storage.where(png)
        ids = read_id_png(self.storage, png)
        size, stated = Size(*ids.shape), self.sizes[index]
        if stated is not None and size != stated:
            raise DataError(
                f"{where} is {size.width} x {size.height} pixels and its image {stated.width} x {stated.height}: "
                "make the PNG in the size of the image"
            )
        of_image = slice(self.begins[index], self.begins[index + 1])
        id_map, areas = number_segments(ids, self.ids[of_image], where)
        segments = tuple(
            TruthSegment(int(label), Region(id_map, place), int(areas[place]), bool(crowd))
            for place, (label, crowd) in enumerate(zip(self.classes[of_image], self.crowds[of_image], strict=True), 1)
        )
        return Truth(size, segments, id_map)

    def source(self, index: int) -> str:
        """Where the image lies, or its PNG where there is no photograph; for messages."""
        member = self.photographs[index] if self.photographs is not None else self.pngs[index]
        return self.storage.where(member or "")


def recognise(storage: Storage) -> bool:
    """Whether there is a JSON with a folder of PNGs of its name."""
    return bool(_files(storage))


def splits(storage: Storage) -> tuple[str, ...]:
    """The names of the files of annotations, without those of results."""
    return tuple(sorted(with_categories(_files(storage), storage)))


def read(storage: Storage, split: str | None = None, task: Task | None = None) -> DataSet:
    """The annotations, or results, of a split: the name of its JSON or the end of that name ("val2017", "val").

    Raises DataError where there are none, for an unknown split, and for a JSON that contradicts itself.
    """
    choose_task(task, TASKS, storage, "use a model of panoptic, instance or semantic segmentation")
    files = _files(storage)
    if not files:
        raise DataError(
            f"{storage.where()} has no JSON beside a folder of its name with PNGs, such as "
            "annotations/panoptic_val2017.json and annotations/panoptic_val2017/: unpack panoptic_val2017.zip there"
        )
    member = choose_file(files, split, storage)
    document = read_json(storage, member)
    where = storage.where(member)
    try:
        index_of, labels = _labels(storage, document, member, files)
        return _data_set(storage, document, member, index_of, labels)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{where} is no COCO panoptic file ({error!r}): write it as panopticapi reads it") from error


def number_segments(
    ids: NDArray[np.int32], segments: NDArray[np.int64], where: str
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Replaces ids by the places of their segments.

    ``ids`` (H, W), 0 for no segment; ``segments`` (N,) positive and distinct. Returns the map of places + 1, (H, W)
    int32, and the area of every place + 1, (N + 1,) int64. Raises DataError for other ids, and segments without pixels.
    """
    flat = ids.ravel()
    # Neighbours mostly belong together: one search for each run of equal ids is many times faster than one a pixel.
    starts = np.flatnonzero(np.concatenate(([True], flat[1:] != flat[:-1])))
    lengths = np.diff(starts, append=flat.size)
    known = np.concatenate(([0], segments))
    order = np.argsort(known)
    rising = known[order]
    places = order[np.searchsorted(rising, flat[starts]).clip(max=len(rising) - 1)]
    unknown = known[places] != flat[starts]
    if unknown.any():
        strange = np.unique(flat[starts][unknown])
        raise DataError(
            f"{where} holds {_some(strange, 'id')} that the JSON does not list: they belong to other versions"
        )
    areas = np.bincount(places, lengths, len(known)).astype(np.int64)
    if not areas[1:].all():
        raise DataError(
            f"{where} has no pixel of {_some(segments[areas[1:] == 0], 'id')} that the JSON lists: "
            "use PNG and JSON of one version, and PNGs that were never resized"
        )
    return np.repeat(places.astype(np.int32), lengths).reshape(ids.shape), areas


def _files(storage: Storage) -> dict[str, str]:
    """The JSON files by their names without folder and suffix."""
    jsons = [name for name in storage.names if name.endswith(".json")]
    stems = [name.removesuffix(".json") for name in jsons]
    return {
        posixpath.basename(stem): name
        for stem, name in zip(stems, jsons, strict=True)
        if storage.below(stem) and storage.below(stem)[0].endswith(".png")
    }


def _labels(
    storage: Storage, document: dict[str, Any], member: str, files: dict[str, str]
) -> tuple[dict[int, int], LabelSet]:
    """The categories of the file, or of the annotations it belongs to, or COCO's."""
    if "categories" in document:
        return labels_of(document["categories"], storage.where(member))
    for other in with_categories(files, storage).values():
        return labels_of(read_json(storage, other)["categories"], storage.where(other))
    return coco_labels()


def _data_set(
    storage: Storage, document: dict[str, Any], member: str, index_of: dict[int, int], labels: LabelSet
) -> CocoPanoptic:
    where, stem = storage.where(member), member.removesuffix(".json")
    split = posixpath.basename(stem)
    annotations = {each["image_id"]: each for each in document["annotations"]}
    if len(annotations) < len(document["annotations"]):
        raise DataError(f"{where} annotates an image twice: keep one entry of each")
    if "images" in document:
        image_ids = [image["id"] for image in document["images"]]
        files = [str(image["file_name"]) for image in document["images"]]
        sizes: list[Size | None] = [Size(int(each["height"]), int(each["width"])) for each in document["images"]]
        if strangers := annotations.keys() - set(image_ids):
            raise DataError(f'{where} annotates the image {min(strangers)}, which is not in "images": add or remove it')
        folder = find_photographs(storage, files, split)
        if folder is None:
            raise no_photographs(storage, member, files)
        photographs = [folder + file for file in files]
    else:
        image_ids = list(annotations)
        files = [str(annotations[id]["file_name"]) for id in image_ids]
        sizes = [None] * len(files)
        photographs = None
    ordered = [annotations.get(id) for id in image_ids]
    infos = [each["segments_info"] if each else [] for each in ordered]
    flat = [info for of_image in infos for info in of_image]
    for of_image, name in zip(infos, files, strict=True):
        ids = {info["id"] for info in of_image}
        if len(ids) < len(of_image) or 0 in ids:
            raise DataError(f"{where} has a segment of the id 0, or two of one id, in {name}: give each its own")
    unknown = {info["category_id"] for info in flat} - index_of.keys()
    if unknown:
        raise DataError(f"{where} uses {_some(np.array(sorted(unknown)), 'category id')} that it does not list")
    return CocoPanoptic(
        name=split,
        labels=labels,
        names=unique_names(files, where),
        storage=storage,
        photographs=photographs,
        pngs=[f"{stem}/{each['file_name']}" if each else None for each in ordered],
        sizes=sizes,
        begins=np.array([0, *accumulate(len(of_image) for of_image in infos)], np.int64),
        ids=np.array([info["id"] for info in flat], np.int64),
        classes=np.array([index_of[info["category_id"]] for info in flat], np.int32),
        crowds=np.array([bool(info.get("iscrowd", 0)) for info in flat], np.bool_),
    )


def _some(values: NDArray[Any], what: str) -> str:
    """At most five of the values, for a message."""
    shown = ", ".join(str(value) for value in values[:5])
    return f"the {what}{'s' if len(values) > 1 else ''} {shown}{' ...' if len(values) > 5 else ''}"
