"""Annotated data of any format and from any place, as a data set."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from everymask.errors import DataError, OptionError

if TYPE_CHECKING:
    from everymask.datasets.dataset import DataSet
    from everymask.datasets.storage import Storage
    from everymask.segmentation import Task


class _Reader(Protocol):
    """What the module of a format has."""

    def recognise(self, storage: "Storage") -> bool: ...
    def splits(self, storage: "Storage") -> tuple[str, ...]: ...
    def read(self, storage: "Storage", split: str | None = None, task: "Task | None" = None) -> "DataSet": ...


@dataclass(frozen=True, slots=True)
class _Format:
    """A format that can be read. ``layout``: what is looked for, for people. ``generality``: the data of less general
    formats may look like this one too, so it counts only where it is not theirs."""

    name: str
    reader: _Reader
    tasks: "tuple[Task, ...]"
    layout: str
    generality: int = 0


def open_dataset(
    location: str | Path, *, format: str | None = None, split: str | None = None, task: "Task | None" = None
) -> "DataSet":
    """Opens annotated data to be read one image at a time.

    ``location``: a folder, a zip or tar file, which is read without unpacking, or an fsspec URL such as
    ``s3://bucket/folder``, ``hf://datasets/owner/name`` or ``zip://::https://host/data.zip``.
    ``format``: one of "coco-panoptic", "coco-instances", "coco-stuff", "ade20k", "cityscapes", "mapillary-vistas",
    "pascal-voc", "camvid" and "folder"; None recognises it from the names of the files.
    ``split``: the part of the data, as the data calls it ("val", "val2017"); None is the only one there is.
    ``task``: what the annotations are wanted for, where there are several kinds; None is the richest.

    Raises DataError where nothing is there, the format is not recognised or several are, there is no such split, or
    annotations contradict themselves; MissingExtraError where a kind of URL needs another package; OptionError for an
    unknown format.
    """
    storage, chosen = _open(location, format, task)
    return chosen.reader.read(storage, split, task)


def list_splits(location: str | Path, *, format: str | None = None, task: "Task | None" = None) -> tuple[str, ...]:
    """The names of the splits that ``open_dataset`` can open there; "" alone for data without splits.

    The arguments are those of ``open_dataset``, and so are the errors.
    """
    storage, chosen = _open(location, format, task)
    return chosen.reader.splits(storage)


def recognise_formats(storage: "Storage") -> tuple[str, ...]:
    """The names of the formats whose files are there: none, one, or several that names of files do not tell apart."""
    return tuple(each.name for each in _recognised(storage, _formats()))


def _open(location: str | Path, name: str | None, task: "Task | None") -> "tuple[Storage, _Format]":
    from everymask.datasets.storage import Storage

    formats = {each.name: each for each in _formats()}
    if name is not None and name not in formats:
        raise OptionError(f'there is no format "{name}" of data sets; known are {", ".join(formats)}')
    storage = Storage.open(location)
    return storage, formats[name] if name is not None else _choose(storage, task)


def _choose(storage: "Storage", task: "Task | None") -> _Format:
    formats = _formats()
    found = _recognised(storage, formats)
    if not found:
        top = sorted({each.split("/", 1)[0] for each in storage.names})
        layouts = "".join(f"\n  {each.name}: {each.layout}" for each in formats)
        raise DataError(
            f"{storage.where()} is in no known format. It holds {', '.join(top[:8])}{' ...' if len(top) > 8 else ''}; "
            f"looked for were{layouts}\nPass the folder that holds these, or say which it is with format="
        )
    # Data annotated for the task that is wanted, before data that can also be read for it.
    for fits in ([each for each in found if each.tasks[0] == task], [each for each in found if task in each.tasks]):
        if len(fits) == 1:
            return fits[0]
    if len(found) > 1:
        raise DataError(
            f"{storage.where()} can be read in several formats: {', '.join(each.name for each in found)}; "
            f'say which, as in format="{found[0].name}"'
        )
    return found[0]


def _recognised(storage: "Storage", formats: tuple[_Format, ...]) -> list[_Format]:
    found = [each for each in formats if each.reader.recognise(storage)]
    least = min((each.generality for each in found), default=0)
    return [each for each in found if each.generality == least]


def _formats() -> tuple[_Format, ...]:
    from everymask.datasets import (
        ade20k,
        camvid,
        cityscapes,
        coco_instances,
        coco_panoptic,
        coco_stuff,
        folder,
        mapillary_vistas,
        pascal_voc,
    )

    everything: tuple[Task, ...] = ("panoptic", "instance", "semantic")
    return (
        _Format("coco-panoptic", coco_panoptic, coco_panoptic.TASKS, "NAME.json beside a folder NAME of PNGs", 1),
        _Format("coco-instances", coco_instances, coco_instances.TASKS, "annotations/instances_SPLIT.json", 1),
        _Format("coco-stuff", coco_stuff, coco_stuff.TASKS, "stuffthingmaps/SPLIT/NAME.png with SPLIT/NAME.jpg", 1),
        _Format("ade20k", ade20k, everything, "images/training/ADE_NAME.jpg with annotations/training/ADE_NAME.png"),
        _Format("cityscapes", cityscapes, everything, "the folders leftImg8bit and gtFine"),
        _Format("mapillary-vistas", mapillary_vistas, everything, "training/images with training/labels or instances"),
        _Format("pascal-voc", pascal_voc, everything, "the folders JPEGImages and SegmentationClass"),
        _Format("camvid", camvid, ("semantic",), "images/SPLIT and labels/SPLIT with the names of CamVid's recordings"),
        _Format(
            "folder",
            folder,
            (*everything, "depth"),
            "the folders images and labels, and classes.txt or classes.yaml; or images and depth",
            2,
        ),
    )
