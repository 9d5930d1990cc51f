"""Examining data sets whose annotations are in COCO's JSON: panoptic ones with PNGs, and instances."""

import posixpath
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from everymask.datasets.coco_json import choose_file, find_photographs, labels_of, read_json
from everymask.datasets.storage import Storage
from everymask.doctor.annotations import Document, Record, check_annotations
from everymask.doctor.examination import (
    Examined,
    Progress,
    facts_of,
    for_each,
    look_at_entry_image,
    problems_of,
    read_or_nothing,
)
from everymask.doctor.facts import ImageFacts
from everymask.doctor.files import Pair
from everymask.doctor.findings import Finding, finding
from everymask.doctor.geometry import check_geometry
from everymask.doctor.instances import stuff_instances
from everymask.doctor.listing import Entry
from everymask.doctor.panoptic import PanopticFacts, check_panoptic, look_at_panoptic
from everymask.errors import DataError
from everymask.geometry import Size
from everymask.labels import LabelSet


@dataclass(frozen=True, slots=True)
class _Item:
    """An image of a document: its files, its size as the JSON states it, and its segments."""

    entry: Entry
    stated: Size | None
    segments: Sequence[Record]


Look = tuple[ImageFacts | str | None, PanopticFacts | str | None]

_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")
_OTHER_KINDS = ("caption", "keypoint", "panoptic", "stuff", "image_info", "unlabeled", "semantic")


def annotation_files(storage: Storage, split: str | None, *, panoptic: bool) -> dict[str, str]:
    """The JSON files of annotations by their splits; results, which list no categories, are none.

    Raises DataError where there are none, or no such split.
    """
    found: dict[str, str] = {}
    for name in storage.names:
        stem = name.removesuffix(".json")
        base = posixpath.basename(stem)
        if not name.endswith(".json") or bool(storage.below(stem)) != panoptic:
            continue
        if panoptic or not any(kind in base.lower() for kind in _OTHER_KINDS):
            found[posixpath.basename(posixpath.dirname(name)) if base == "_annotations.coco" else base] = name
    if split is not None:
        member = choose_file(found, split, storage)
        return {name: file for name, file in found.items() if file == member}
    full = {name: file for name, file in found.items() if b'"categories"' in storage.read(file)}
    if not full:
        raise DataError(
            f"{storage.where()} has no JSON file of annotations with categories: check the location and --format"
        )
    return full


def examine_coco(
    storage: Storage, files: dict[str, str], *, panoptic: bool, complete: bool, progress: Progress
) -> Examined:
    """Looks at every image and PNG of the annotation files of a data set, given by their splits.

    ``complete``: the files are all there are, so that an image they do not list is not annotated.

    Raises DataError where a file is no JSON of this format.
    """
    documents = {split: _document(storage, member) for split, member in files.items()}
    items = [item for split, document in documents.items() for item in _items(storage, split, document, panoptic)]
    looked = list(for_each(items, lambda item: _look(storage, item, panoptic), progress))
    paired = list(zip(items, looked, strict=True))
    images = [(item.entry, look[0]) for item, look in paired if isinstance(look[0], ImageFacts)]

    findings: list[Finding] = []
    pixels: Counter[int] = Counter()
    labels = LabelSet((), (), ())
    if not any(_repeated(document) for document in documents.values()):
        findings += _differing_categories(list(documents.values()))
    for split, document in documents.items():
        findings += check_annotations(document)
        if panoptic:
            of_split = [
                (str(item.entry.labels), look[1])
                for item, look in paired
                if item.entry.split == split and isinstance(look[1], PanopticFacts)
            ]
            findings += check_panoptic(of_split, document.member)
            findings += _extra_pngs(storage, document)
        else:
            findings += check_geometry(document)
        findings += _stuff(document, [item for item in items if item.entry.split == split])
        if document.categories and not _repeated(document):
            index_of, labels = labels_of(document.categories, storage.where(document.member))
            for _, segment in document.segments():
                if segment.get("category_id") in index_of:
                    pixels[index_of[segment["category_id"]]] += max(int(segment.get("area") or 1), 1)
    return Examined(
        {split: len(document.images) for split, document in documents.items()},
        labels,
        None,
        [item.entry for item in items] if panoptic else [],
        images,
        [Pair(item.entry, facts_of(look[0]), _labels_size(item, look[1])) for item, look in paired],
        [
            *problems_of((item.entry.image, look[0]) for item, look in paired),
            *problems_of((item.entry.labels, look[1]) for item, look in paired),
        ],
        pixels,
        [
            *findings,
            *(_stated_sizes(paired) if panoptic else _missing_images(items)),
            *(_unlisted_images(storage, items) if complete else []),
        ],
    )


def _document(storage: Storage, member: str) -> Document:
    content = read_json(storage, member)
    parts = [content.get(key, []) for key in ("images", "categories", "annotations")]
    if not all(isinstance(part, list) and all(isinstance(each, dict) for each in part) for part in parts):
        raise DataError(
            f"{storage.where(member)}: images, categories and annotations must be lists of objects: write it as COCO"
        )
    return Document(member, *parts)


def _items(storage: Storage, split: str, document: Document, panoptic: bool) -> list[_Item]:
    folder = find_photographs(storage, [str(image.get("file_name")) for image in document.images], split)
    stem = document.member.removesuffix(".json")
    annotations = {each.get("image_id"): each for each in document.annotations} if panoptic else {}
    items = []
    for image in document.images:
        file = str(image.get("file_name"))
        member = f"{folder or ''}{file}"
        annotation = annotations.get(image.get("id"))
        png = f"{stem}/{annotation.get('file_name')}" if annotation else ""
        height, width = image.get("height"), image.get("width")
        entry = Entry(
            posixpath.splitext(file)[0],
            split,
            member if folder is not None and member in storage else None,
            png if png in storage else None,
        )
        stated = Size(height, width) if isinstance(height, int) and isinstance(width, int) else None
        items.append(_Item(entry, stated, annotation.get("segments_info", []) if annotation else []))
    return items


def _look(storage: Storage, item: _Item, panoptic: bool) -> Look:
    png = None
    if panoptic and item.entry.labels is not None:
        png = look_at_panoptic(read_or_nothing(storage, item.entry.labels), item.segments)
    return look_at_entry_image(storage, item.entry), png


def _labels_size(item: _Item, png: PanopticFacts | str | None) -> Size | None:
    """The size of the PNG, or of what has none, that of the JSON."""
    if isinstance(png, str):
        return None
    return png.file.size if png is not None else item.stated


def _repeated(document: Document) -> bool:
    ids = [category.get("id") for category in document.categories]
    return len(set(ids)) < len(ids)


def _differing_categories(documents: Sequence[Document]) -> list[Finding]:
    """Splits whose ids stand for different classes."""
    first, *others = [{each.get("id"): str(each.get("name")) for each in document.categories} for document in documents]
    where = [
        f"{document.member}: {id_} is {categories.get(id_)!r}, in {documents[0].member} {first.get(id_)!r}"
        for document, categories in zip(documents[1:], others, strict=True)
        for id_ in sorted(first.keys() | categories.keys(), key=str)
        if first.get(id_) != categories.get(id_)
    ]
    if not where:
        return []
    return [
        finding(
            "splits-differ-in-classes",
            "error",
            "the 'categories' of splits differ: the same class index means different classes",
            where,
            f"write the 'categories' of {documents[0].member} into all files, and renumber 'category_id' to fit",
        )
    ]


def _unlisted_images(storage: Storage, items: Sequence[_Item]) -> list[Finding]:
    """Images beside those that the JSON lists."""
    listed = {item.entry.image for item in items}
    folders = {posixpath.dirname(member) for member in listed if member}
    extra = [
        name
        for name in storage.names
        if posixpath.dirname(name) in folders and name not in listed and name.lower().endswith(_IMAGE_SUFFIXES)
    ]
    if not extra:
        return []
    return [
        finding(
            "image-without-annotations",
            "note",
            "images lie beside those that the JSON lists, and nothing is said about them",
            extra,
            "annotate them, or leave them: they are not used",
        )
    ]


def _missing_images(items: Sequence[_Item]) -> list[Finding]:
    missing = [item.entry.name for item in items if item.entry.image is None]
    if not missing:
        return []
    return [
        finding(
            "labels-without-image",
            "error",
            "images that the JSON lists are not there",
            missing,
            "put their files beside the others, or take them out of 'images' together with their annotations",
        )
    ]


def _extra_pngs(storage: Storage, document: Document) -> list[Finding]:
    stem = document.member.removesuffix(".json")
    listed = {f"{stem}/{each.get('file_name')}" for each in document.annotations}
    extra = [name for name in storage.below(stem) if name not in listed]
    if not extra:
        return []
    return [
        finding(
            "png-not-in-json",
            "warning",
            f"{document.member} has no annotation for PNGs of its folder",
            extra,
            f"{document.member}: add their annotations, or remove the PNGs: rm " + " ".join(extra[:3]),
        )
    ]


def _stated_sizes(paired: Sequence[tuple[_Item, Look]]) -> list[Finding]:
    wrong = []
    for item, (image, _) in paired:
        stated = item.stated
        if stated is None or image is None or isinstance(image, str) or stated == image.size:
            continue
        # What EXIF turns is told where labels and images are compared.
        if image.orientation == 1 or stated != image.stored:
            sizes = f"JSON {stated.width} x {stated.height}, image {image.size.width} x {image.size.height}"
            wrong.append(f"{item.entry.name}: {sizes}")
    if not wrong:
        return []
    return [
        finding(
            "stated-size",
            "error",
            "the JSON states another size than the image has",
            wrong,
            "set 'height' and 'width' of the JSON's 'images' to those of the file",
        )
    ]


def _stuff(document: Document, items: Sequence[_Item]) -> list[Finding]:
    """Classes of stuff that have several segments in an image."""
    names = {
        category.get("id"): str(category.get("name"))
        for category in document.categories
        if category.get("isthing") == 0
    }
    if document.is_panoptic:
        counts = Counter((item.entry.name, segment.get("category_id")) for item in items for segment in item.segments)
    else:
        images = document.image_names()
        counts = Counter(
            (images.get(each.get("image_id"), ""), each.get("category_id")) for each in document.annotations
        )
    several = [
        f"{image}: {names[id]}, {count} segments" for (image, id), count in counts.items() if count > 1 and id in names
    ]
    if not several:
        return []
    return [
        stuff_instances(several, f"{document.member}: give them one id each image, or set 'isthing' of the class to 1")
    ]
