"""What COCO's annotation files share (https://cocodataset.org/#format-data): splits, categories, photographs."""

import json
import posixpath
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from everymask.datasets.listing import choose_split
from everymask.datasets.storage import Storage
from everymask.errors import DataError
from everymask.labels import Color, LabelSet, label_set, match_labels

_LOOKED_AT = 20
"""How many photographs are looked for to find their folder: a few may be missing."""


def read_json(storage: Storage, member: str) -> dict[str, Any]:
    """A file of annotations. Raises DataError where it is missing or no JSON object."""
    try:
        document = json.loads(storage.read(member))
    except ValueError as error:
        raise DataError(f"{storage.where(member)} is no complete JSON ({error}): fetch or write it again") from error
    if not isinstance(document, dict):
        raise DataError(
            f"{storage.where(member)} holds a JSON {type(document).__name__}, not COCO's object: use another"
        )
    return document


def choose_file(files: Mapping[str, str], split: str | None, storage: Storage) -> str:
    """The file of annotations that is meant, of ``files`` by the names of their splits.

    Without a name, files that do not list their categories do not count: they hold predictions. Raises DataError as
    ``choose_named``.
    """
    if split is None and len(files) > 1:
        files = with_categories(files, storage) or files
    return files[choose_named(files, split, storage)]


def with_categories(files: Mapping[str, str], storage: Storage) -> dict[str, str]:
    """Those of the files that list their categories, as annotations do and results do not."""
    return {name: member for name, member in files.items() if b'"categories"' in storage.read(member)}


def choose_named(available: Collection[str], split: str | None, storage: Storage) -> str:
    """The split that is meant, by its name ("panoptic_val2017") or its end, with or without the year ("val2017",
    "val"). None is the only one there is. Raises DataError, with what there is, for others and where several are left.
    """
    if split is not None and split not in available:
        ends = [name for name in available if split in (_end(name), _end(name).rstrip("0123456789"))]
        if len(ends) == 1:
            return ends[0]
    return choose_split(available, split, storage)


def labels_of(categories: Sequence[Mapping[str, Any]], where: str) -> tuple[dict[int, int], LabelSet]:
    """The indices of categories, by rising id, and what the categories are called.

    Colours and things are the file's; what it does not say comes from the known label set with the same names, and
    else classes are things. Raises DataError for categories without id or name, and for ids that occur twice.
    """
    try:
        rising = sorted(categories, key=lambda category: int(category["id"]))
        ids = [int(category["id"]) for category in rising]
        names = [str(category["name"]) for category in rising]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f'{where}: "categories" need a number as "id" and a "name" each ({error!r})') from error
    if not ids or len(set(ids)) < len(ids):
        raise DataError(f'{where}: "categories" is empty or has an id twice: give every class its own id')
    known = match_labels(names)
    things: list[bool] = []
    colors: list[Color | None] = []
    for index, category in enumerate(rising):
        thing, color = category.get("isthing"), category.get("color")
        things.append(bool(thing) if thing is not None else known is None or known.things[index])
        if color is not None:
            red, green, blue = color
            colors.append((red, green, blue))
        else:
            colors.append(known.colors[index] if known is not None else None)
    labels = LabelSet(tuple(names), tuple(things), tuple(colors))
    return {id: index for index, id in enumerate(ids)}, labels


def coco_labels() -> tuple[dict[int, int], LabelSet]:
    """As ``labels_of`` for COCO's own 133 categories: DETR's classes are numbered by their ids."""
    return {id: index for index, id in enumerate(label_set("coco-detr").classes)}, label_set("coco-panoptic")


def find_photographs(storage: Storage, file_names: Sequence[str], split: str) -> str | None:
    """The folder that the photographs' ``file_names`` are relative to, with its "/" or ""; None where there is none.

    Of several that hold a file of such a name, it is the one that holds most; of equals (a label picture may have its
    photograph's name) the one whose path speaks of images or of the split.
    """
    some = file_names[:_LOOKED_AT]
    folders = {name.removesuffix(some[0]) for name in storage.names if some and name.endswith(some[0])}
    if not folders:
        folders = {name.removesuffix(file) for name in storage.names for file in some if name.endswith(file)}
    folders = {folder for folder in folders if folder == "" or folder.endswith("/")}

    def rank(folder: str) -> tuple[int, bool, str]:
        parts = folder.lower().split("/")
        speaks = any("image" in part or (part and split.endswith(part)) for part in parts)
        return sum(folder + file in storage for file in some), speaks, folder

    return max(folders, key=rank, default=None)


def no_photographs(storage: Storage, member: str, file_names: Sequence[str]) -> DataError:
    """What to say where ``find_photographs`` found none."""
    first = f", the first is {file_names[0]}" if file_names else ""
    return DataError(
        f"none of the images of {storage.where(member)} are in {storage.where()}{first}: put their folder there"
    )


def unique_names(file_names: Sequence[str], where: str) -> tuple[str, ...]:
    """The names of images: their files', without the suffix. Raises DataError where one occurs twice."""
    names = tuple(posixpath.splitext(file)[0] for file in file_names)
    if len(set(names)) < len(names):
        twice, _ = Counter(names).most_common(1)[0]
        raise DataError(f"{where} lists the image {twice} twice: keep one entry")
    return names


def _end(name: str) -> str:
    return name.rpartition("_")[2]
