"""Where each format keeps its images and label pictures, and what their values mean.

The same places as the readers of ``everymask.datasets`` look at, but anything that lies there counts: labels of any
file format, images without labels and the reverse.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from everymask.datasets import ade20k, camvid, cityscapes, coco_stuff, folder, mapillary_vistas, pascal_voc
from everymask.datasets.class_file import CLASS_FILES, read_class_list
from everymask.datasets.storage import Storage
from everymask.doctor.category_maps import STUFF_VALUES
from everymask.doctor.listing import Convention, Entry
from everymask.errors import DataError
from everymask.labels import label_set

_FILE = r"(?P<name>.+)\.[^./]+"

Files = dict[str, dict[str, str]]
"""The member of every name of every split."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Regular expressions for whole paths, with the groups ``name`` and, where there are splits, ``split``.

    ``labels``: of several kinds the first that is there counts. ``pattern``: each kind's files, for Python's glob.
    ``lists``: of files that name the images of a split, where a split is no folder.
    """

    images: str
    labels: tuple[str, ...]
    pattern: tuple[str, ...]
    instances: str | None = None
    lists: str | None = None


LAYOUTS: Mapping[str, Layout] = {
    "ade20k": Layout(
        rf"images/(?P<split>training|validation)/{_FILE}",
        (rf"annotations/(?P<split>training|validation)/{_FILE}",),
        ("annotations/**/*.png",),
        rf"annotations_instance/(?P<split>training|validation)/{_FILE}",
    ),
    "cityscapes": Layout(
        r"leftImg8bit/(?P<split>[^/]+)/(?P<name>.+)_leftImg8bit\.[^./]+",
        tuple(rf"gtFine/(?P<split>[^/]+)/(?P<name>.+)_gtFine_{kind}\.[^./]+" for kind in ("labelIds", "labelTrainIds")),
        ("gtFine/**/*_labelIds.png", "gtFine/**/*_labelTrainIds.png"),
        r"gtFine/(?P<split>[^/]+)/(?P<name>.+)_gtFine_instanceIds\.[^./]+",
    ),
    "mapillary-vistas": Layout(
        rf"(?P<split>training|validation)/images/{_FILE}",
        (rf"(?P<split>training|validation)/(?:v1\.2/)?labels/{_FILE}",),
        ("*/v1.2/labels/*.png",),
        rf"(?P<split>training|validation)/(?:v1\.2/)?instances/{_FILE}",
    ),
    "pascal-voc": Layout(
        rf"JPEGImages/{_FILE}",
        (rf"SegmentationClass/{_FILE}",),
        ("SegmentationClass/*.png",),
        rf"SegmentationObject/{_FILE}",
        r"ImageSets/Segmentation/(?P<split>[^/]+)\.txt",
    ),
    "camvid": Layout(
        rf"(?:images/)?(?P<split>train|val|test)/{_FILE}",
        (rf"labels/(?P<split>train|val|test)/{_FILE}", rf"(?P<split>train|val|test)annot/{_FILE}"),
        ("labels/*/*.png", "*annot/*.png"),
    ),
    "coco-stuff": Layout(
        rf"(?:images/)?(?P<split>(?:train|val)\d*)/{_FILE}",
        (
            rf"stuffthingmaps_detectron2/(?P<split>[^/]+)/{_FILE}",
            r"annotations/(?P<split>[^/]+)/(?P<name>.+)_labelTrainIds\.[^./]+",
            rf"(?:stuffthingmaps/|annotations/)(?P<split>[^/]+)/{_FILE}",
        ),
        ("stuffthingmaps_detectron2/*/*.png", "annotations/*/*_labelTrainIds.png", "stuffthingmaps/*/*.png"),
    ),
    "folder": Layout(
        rf"images/(?:(?P<split>[^/]+)/)?{_FILE}",
        (rf"labels/(?:(?P<split>[^/]+)/)?{_FILE}",),
        ("labels/**/*.png",),
        rf"instances/(?:(?P<split>[^/]+)/)?{_FILE}",
    ),
}


DEPTH_ALONE = Layout(LAYOUTS["folder"].images, (folder.DEPTHS,), ("depth/**/*.png",))
"""A plain folder without labels."""


def has_depth_alone(storage: Storage, format: str) -> bool:
    """Whether depth is all that a plain folder says of its images."""
    return format == "folder" and bool(storage.below("depth")) and not storage.below("labels")


def list_entries(storage: Storage, layout: Layout, split: str | None) -> dict[str, tuple[Entry, ...]]:
    """The images of each split, or of ``split`` alone, with their label pictures, or what the layout has for these.

    Raises DataError where there are no images or no such split.
    """
    labels, _ = _labels(storage, layout)
    images, masks = _files(storage, layout.images), _files(storage, labels)
    instances = _files(storage, layout.instances) if layout.instances is not None else {}
    if not images:
        raise DataError(
            f"{storage.where()} has no images where this format keeps them: check the location and --format"
        )
    if layout.lists is not None:
        # What a list names is in its split, there or not; what no list names, in none.
        entries = {
            name: _pair(name, names, images.get("", {}), masks.get("", {}), instances.get("", {}))
            for name, names in _lists(storage, layout.lists).items()
        }
    else:
        entries = {
            name: _pair(
                name,
                images.get(name, {}).keys() | masks.get(name, {}).keys(),
                images.get(name, {}),
                masks.get(name, {}),
                instances.get(name, {}),
            )
            for name in sorted(images.keys() | masks.keys())
        }
    chosen = entries if split is None else {name: entries[name] for name in entries if name in _synonyms(split)}
    if not chosen:
        there = ", ".join(name for name in entries if name) or "none"
        raise DataError(f"{storage.where()} has no split {split!r}; it has {there}: choose one, or leave --split out")
    return chosen


def read_convention(storage: Storage, format: str) -> Convention:
    """What the values of the label pictures mean. Raises DataError for a list of classes that cannot be read."""
    labels, pattern = _labels(storage, LAYOUTS[format])
    if format == "folder":
        classes = read_class_list(storage)
        stored = range(classes.offset, classes.offset + len(classes.labels))
        file = next(name for name in CLASS_FILES if name in storage)
        return Convention(classes.labels, _by_value(stored), frozenset(classes.ignore), file, pattern)
    if format == "cityscapes" and "labelTrainIds" in labels:
        return _published("cityscapes", range(19), cityscapes.TRAIN_ID_CONVENTIONS.ignore, pattern)
    if format == "coco-stuff" and not labels.startswith("(?:stuffthingmaps/"):
        return _published("coco-stuff", range(171), (coco_stuff.IGNORED,), pattern)
    published: dict[str, tuple[Sequence[int], Sequence[int]]] = {
        "ade20k": (range(1, 151), ade20k.CONVENTIONS.ignore),
        "cityscapes": (cityscapes.IDS, cityscapes.CONVENTIONS.ignore),
        "mapillary-vistas": (range(65), mapillary_vistas.CONVENTIONS.ignore),
        "pascal-voc": (range(21), pascal_voc.CONVENTIONS.ignore),
        "camvid": (range(11), (camvid.VOID, 255)),
        "coco-stuff": (STUFF_VALUES, (coco_stuff.IGNORED,)),
    }
    values, ignore = published[format]
    return _published(format, values, ignore, pattern)


def _labels(storage: Storage, layout: Layout) -> tuple[str, str]:
    """The expression and the glob pattern of the first kind of label pictures that is there."""
    for labels, pattern in zip(layout.labels, layout.pattern, strict=True):
        if _files(storage, labels):
            return labels, pattern
    return layout.labels[0], layout.pattern[0]


def _files(storage: Storage, expression: str) -> Files:
    files: Files = {}
    fits = re.compile(expression).fullmatch
    for member in storage.names:
        if found := fits(member):
            files.setdefault(found.groupdict().get("split") or "", {}).setdefault(found["name"], member)
    return files


def _lists(storage: Storage, expression: str) -> dict[str, list[str]]:
    """The names that the list of every split holds."""
    fits = re.compile(expression).fullmatch
    lists = {found["split"]: storage.read(member) for member in storage.names if (found := fits(member))}
    return {split: content.decode("utf-8", "replace").split() for split, content in lists.items()}


def _synonyms(split: str) -> tuple[str, ...]:
    """A split and what other formats call it."""
    return next((pair for pair in (("train", "training"), ("val", "validation")) if split in pair), (split,))


def _pair(
    split: str,
    names: Iterable[str],
    images: Mapping[str, str],
    labels: Mapping[str, str],
    instances: Mapping[str, str],
) -> tuple[Entry, ...]:
    return tuple(Entry(name, split, images.get(name), labels.get(name), instances.get(name)) for name in sorted(names))


def _published(labels: str, values: Sequence[int], ignore: Sequence[int], pattern: str) -> Convention:
    return Convention(label_set(labels), _by_value(values), frozenset(ignore), None, pattern)


def _by_value(values: Sequence[int]) -> dict[int, int]:
    return {value: index for index, value in enumerate(values)}
