"""The class list of a plain folder: names, and how its files say things."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from everymask.datasets.storage import Storage
from everymask.errors import DataError
from everymask.labels import LabelSet

CLASS_FILES = ("classes.txt", "classes.yaml", "classes.yml", "classes.json")
_KEYS = ("names", "things", "palette", "ignore", "offset", "depth")


@dataclass(frozen=True, slots=True)
class ClassList:
    """Classes and the numbers that stand for them: class c is stored as c + ``offset``; ``ignore`` are no class."""

    labels: LabelSet
    ignore: tuple[int, ...]
    offset: int


def read_class_list(storage: Storage) -> ClassList:
    """The classes that the class file at the top of a folder lists.

    ``classes.txt`` has the name of a class on every line, in the order of their indices. ``classes.yaml``, ``.yml`` and
    ``.json`` hold a list of names, or

        names: [road, car]                        # or {0: road, 1: car}
        things: [car]                             # names or indices; without it, none
        palette: [[128, 64, 128], [0, 0, 142]]    # red, green, blue of every class
        offset: 1                                 # what is stored for the first class; without it, 0
        ignore: [0, 255]                          # what is stored for "no class"; without it, what lies below offset,
                                                  # and 255, or 65535 where 255 stands for a class or lies below one
        depth: {scale: 1/256}                     # what depth files hold (``depth_maps.depth_encoding``)

    Raises DataError where there is no such file, or several, or its content is none of this.
    """
    return class_list(*read_class_file(storage))


def read_class_file(storage: Storage) -> tuple[Mapping[Any, Any], str]:
    """What the class file at the top of a folder says by its keys, and what errors call it.

    Raises DataError where there is no such file, or several, or it cannot be read.
    """
    found = [name for name in CLASS_FILES if name in storage]
    if not found:
        raise DataError(
            f"{storage.where()} has no list of classes: write classes.txt there, the name of a class on every line in "
            "the order of their indices, or classes.yaml or classes.json with names, things, palette, ignore and offset"
        )
    if len(found) > 1:
        raise DataError(f"{storage.where()} holds {' and '.join(found)}: keep one list of classes")
    where = storage.where(found[0])
    if found[0].endswith(".txt"):
        return {"names": _text(storage, found[0]).rstrip().split("\n")}, where
    content = read_document(storage, found[0])
    return content if isinstance(content, dict) else {"names": content}, where


def read_document(storage: Storage, name: str) -> Any:
    """The content of a file of YAML, or by its suffix JSON. Raises DataError where it cannot be read."""
    return _parse(_text(storage, name), name.endswith(".json"), storage.where(name))


def class_list(content: Mapping[Any, Any], where: str) -> ClassList:
    """Classes from the content of a class file, which errors call ``where``. Raises DataError as above."""
    unknown = [key for key in content if key not in _KEYS]
    if unknown or "names" not in content:
        wrong = f"has the key {unknown[0]!r}" if unknown else "has no names"
        raise DataError(f"{where} {wrong}: write names, and where needed {', '.join(_KEYS[1:])}, and nothing else")
    names = _names(content["names"], where)
    offset = content.get("offset", 0)
    if not _is_index(offset) or offset + len(names) > 2**16:
        raise DataError(f"{where}: offset must be a number from 0 on that leaves room for the classes, not {offset!r}")
    after = offset + len(names)
    ignore = content.get("ignore", [*range(offset), 255 if after <= 255 else 2**16 - 1])
    ignore = ignore if isinstance(ignore, list) else [ignore]
    if not all(_is_index(value) for value in ignore):
        raise DataError(f"{where}: ignore must be a stored number or a list of them, not {ignore!r}")
    for value in ignore:
        if offset <= value < after:
            raise DataError(
                f'{where}: ignore {value} stands for the class "{names[value - offset]}" too: take the class out of '
                "names (and count the others from offset), or the value out of ignore"
            )
    labels = LabelSet(names, _things(content.get("things", []), names, where), _palette(content, names, where))
    return ClassList(labels, tuple(sorted(set(ignore))), offset)


def _text(storage: Storage, name: str) -> str:
    try:
        return storage.read(name).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{storage.where(name)} is no UTF-8 text ({error}): save it as UTF-8") from error


def _parse(text: str, as_json: bool, where: str) -> Any:
    import yaml

    try:
        return json.loads(text) if as_json else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{where} cannot be read: {' '.join(str(error).split())}; correct it there") from error


def _names(names: Any, where: str) -> tuple[str, ...]:
    if isinstance(names, dict):
        if set(names) != set(range(len(names))) and set(names) != {str(index) for index in range(len(names))}:
            raise DataError(f"{where}: names must count from 0 without gaps; list the unused ones too, by any name")
        names = [names[key] for key in sorted(names, key=int)]
    if not isinstance(names, list) or not names:
        raise DataError(f"{where}: names must be a list of the classes, not {names!r}")
    stripped = []
    for index, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise DataError(
                f"{where}: class {index} is called {name!r}: give it a name, in quotes if it looks like more"
            )
        stripped.append(name.strip())
    twice = next((name for index, name in enumerate(stripped) if name in stripped[:index]), None)
    if twice is not None:
        raise DataError(f'{where}: two classes are called "{twice}": give each its own name')
    return tuple(stripped)


def _things(things: Any, names: Sequence[str], where: str) -> tuple[bool, ...]:
    if not isinstance(things, list):
        raise DataError(f"{where}: things must be a list of names or indices, not {things!r}")
    for thing in things:
        if thing not in names and not (_is_index(thing) and thing < len(names)):
            raise DataError(f"{where}: the thing {thing!r} is none of the names or indices of the classes: correct it")
    return tuple(name in things or index in things for index, name in enumerate(names))


def _palette(content: Mapping[Any, Any], names: Sequence[str], where: str) -> tuple[tuple[int, int, int] | None, ...]:
    if "palette" not in content:
        return (None,) * len(names)
    palette = content["palette"]
    colors = palette if isinstance(palette, list) else []
    if len(colors) != len(names) or not all(_is_color(color) for color in colors):
        raise DataError(
            f"{where}: palette must give [red, green, blue], each 0 to 255, for each of the {len(names)} classes"
        )
    return tuple((color[0], color[1], color[2]) for color in colors)


def _is_color(color: Any) -> bool:
    return isinstance(color, list) and len(color) == 3 and all(_is_index(part) and part < 256 for part in color)


def _is_index(value: Any) -> bool:
    """Whether it is a number that a file can store; True, which Python takes for 1, is none."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**16
