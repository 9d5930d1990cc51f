"""COCO's JSON against itself: images, categories and annotations that refer to each other."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from everymask.doctor.category_maps import ids_taken_for_indices, indices_taken_for_ids
from everymask.doctor.findings import Finding, finding
from everymask.doctor.fixes import edit_json

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON file of annotations: ``images``, ``categories``, and ``annotations``, of which a panoptic one holds the
    segments of an image in ``segments_info``. ``member``: its name in the storage.
    """

    member: str
    images: Sequence[Record]
    categories: Sequence[Record]
    annotations: Sequence[Record]

    @property
    def is_panoptic(self) -> bool:
        """Whether annotations hold the segments of an image, not one object each."""
        return any("segments_info" in each for each in self.annotations)

    def segments(self) -> Iterable[tuple[str, Record]]:
        """Every annotated segment, and how findings call it."""
        names = self.image_names()
        for annotation in self.annotations:
            inner = annotation.get("segments_info")
            image = names.get(annotation.get("image_id"), str(annotation.get("file_name", "")))
            if inner is None:
                yield f"annotation {annotation.get('id')}" + (f" of {image}" if image else ""), annotation
            else:
                for segment in inner:
                    yield f"segment {segment.get('id')} of {image}", segment

    def image_names(self) -> dict[Any, str]:
        """The file name of every image id."""
        return {image.get("id"): str(image.get("file_name")) for image in self.images}


def check_annotations(document: Document) -> list[Finding]:
    """Ids that occur twice, and annotations of images and categories that are not there."""
    findings = [
        *_repeated(document, "image", (image.get("id") for image in document.images)),
        *_repeated(document, "category", (category.get("id") for category in document.categories)),
        *_repeated_annotations(document),
    ]
    images = {image.get("id") for image in document.images}
    lost = [each for each in document.annotations if each.get("image_id") not in images]
    if document.images and lost:
        findings.append(
            finding(
                "unknown-image",
                "error",
                f"{document.member}: annotations belong to images that its 'images' do not list",
                (f"annotation {each.get('id', each.get('file_name'))}: image {each.get('image_id')}" for each in lost),
                "list these images, or remove the annotations: "
                + edit_json(
                    document.member,
                    "known = {i['id'] for i in d['images']}; "
                    "d.update(annotations=[a for a in d['annotations'] if a['image_id'] in known])",
                ),
            )
        )
    if document.categories:
        findings += _categories(document)
    return findings


def _repeated(document: Document, what: str, ids: Iterable[Any]) -> list[Finding]:
    twice = [number for number, count in Counter(ids).items() if count > 1]
    if not twice:
        return []
    return [
        finding(
            f"duplicate-{what}-id",
            "error",
            f"{document.member}: the same {what} id stands for several",
            (f"{what} {number}" for number in twice),
            f"{document.member}: give each {what} an id of its own, or remove the repeated ones",
        )
    ]


def _repeated_annotations(document: Document) -> list[Finding]:
    if document.is_panoptic:
        fix = f"{document.member}: give each segment of an image an id of its own, there and in its PNG"
        names = document.image_names()
        per_image = (
            (names.get(each.get("image_id"), str(each.get("file_name"))), Counter(s.get("id") for s in segments))
            for each in document.annotations
            if (segments := each.get("segments_info"))
        )
        twice = [f"segment {id_} of {name}" for name, ids in per_image for id_, count in ids.items() if count > 1]
    else:
        fix = edit_json(document.member, "[a.update(id=n) for n, a in enumerate(d['annotations'], 1)]")
        counts = Counter(each.get("id") for each in document.annotations)
        twice = [f"annotation {number}" for number, count in counts.items() if count > 1]
    if not twice:
        return []
    return [
        finding(
            "duplicate-annotation-id",
            "error",
            f"{document.member}: the same annotation id stands for several, which COCO's tools take for one",
            twice,
            fix,
        )
    ]


def _renumber(document: Document, expression: str) -> str:
    """The command that gives every segment ``s`` another category."""
    segments = "d['annotations']"
    if document.is_panoptic:
        segments = "[s for a in d['annotations'] for s in a['segments_info']]"
    return edit_json(document.member, f"[s.update(category_id={expression}) for s in {segments}]")


def _categories(document: Document) -> list[Finding]:
    known_ids = {category["id"] for category in document.categories if isinstance(category.get("id"), int)}
    ids = sorted(known_ids)
    strange = [
        (name, each.get("category_id"))
        for name, each in document.segments()
        if each.get("category_id") not in known_ids
    ]
    if not strange:
        return []
    used = {each.get("category_id") for _, each in document.segments()}
    where = (f"{name}: category {number}" for name, number in strange)
    numbers = {each for each in used if isinstance(each, int)}
    contiguous = bool(ids) and ids == list(range(ids[0], ids[0] + len(ids)))
    known = ids_taken_for_indices(numbers, len(ids)) if contiguous else None
    if known is not None:
        return [
            finding(
                "category-map",
                "error",
                f"{document.member}: annotations use {known.name}, but its 'categories' are numbered {ids[0]} to "
                f"{ids[-1]} without gaps",
                where,
                edit_json(document.member, f"[c.update(id=n) for c, n in zip(d['categories'], {list(known.ids)})]"),
            )
        ]
    first = indices_taken_for_ids(numbers, ids)
    if first is not None:
        return [
            finding(
                "category-map",
                "error",
                f"{document.member}: annotations use contiguous indices ({first} to {first + len(ids) - 1}), but its "
                f"'categories' have ids with gaps ({ids[0]} to {ids[-1]})",
                where,
                _renumber(document, f"sorted(c['id'] for c in d['categories'])[s['category_id'] - {first}]"),
            )
        ]
    if contiguous and ids[0] == 1 and 0 in numbers and numbers <= set(range(len(ids))):
        return [
            finding(
                "offset-by-one",
                "error",
                f"{document.member}: annotations count categories from 0, its 'categories' from 1",
                where,
                _renumber(document, "s['category_id'] + 1"),
            )
        ]
    return [
        finding(
            "unknown-category",
            "error",
            f"{document.member}: annotations have categories that its 'categories' do not list",
            where,
            f"{document.member}: add these categories, or remove the annotations",
        )
    ]
