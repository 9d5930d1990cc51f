"""What a checkpoint's config.json says about the model as a whole."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from everymask.checkpoints.files import CONFIG, read_json
from everymask.errors import CheckpointError
from everymask.labels import Color
from everymask.segmentation import TASKS, Task

KNOWN_TASKS: tuple[Task, ...] = (*TASKS, "depth")


@dataclass(frozen=True, slots=True)
class Statement:
    """What a checkpoint says itself, in the ``everymask`` block of its config; None where it says nothing.

    ``things``: the indices of the classes that are things. ``palette``: a colour, or None, for every class.
    ``tasks``: in the order of ``KNOWN_TASKS``. ``license``: of the weights.
    """

    things: frozenset[int] | None = None
    palette: tuple[Color | None, ...] | None = None
    tasks: tuple[Task, ...] | None = None
    license: str | None = None


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A config.json, read.

    ``names``: the class names by index, without blanks around them; empty where the file names none. ``origin``: the
    name the checkpoint was saved from
    (``_name_or_path``). ``content``: the whole file, for the builder of the network.
    """

    model_type: str
    names: tuple[str, ...]
    origin: str | None
    statement: Statement
    content: Mapping[str, Any]


def read_config(folder: Path, content: Mapping[str, Any] | None = None) -> ModelConfig:
    """Reads config.json, or the ``content`` that stands for it.

    Raises CheckpointError if it is missing, invalid, or names its classes with gaps.
    """
    path = folder / CONFIG
    if content is None:
        content = read_json(path)
    model_type = content.get("model_type")
    if not isinstance(model_type, str):
        raise CheckpointError(f'{path} has no "model_type"; it is not the config of a transformers model')
    origin = content.get("_name_or_path")
    names = _class_names(content, path)
    return ModelConfig(
        model_type=model_type,
        names=names,
        origin=origin if isinstance(origin, str) else None,
        statement=_statement(content.get("everymask", {}), len(names), path),
        content=content,
    )


def _class_names(content: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    # The top level alone counts: backbone_config often carries the id2label of an ImageNet classifier.
    id2label = content.get("id2label")
    if id2label is None:
        count = content.get("num_labels", 0)
        if type(count) is not int or count < 0:
            raise CheckpointError(f'"num_labels" in {path} must be the number of classes')
        return tuple(f"LABEL_{index}" for index in range(count))
    if not isinstance(id2label, dict) or not id2label or not all(isinstance(name, str) for name in id2label.values()):
        raise CheckpointError(f'"id2label" in {path} must map the index of every class to its name')
    if set(id2label) != {str(index) for index in range(len(id2label))}:
        raise CheckpointError(
            f'"id2label" in {path} must count its {len(id2label)} classes from "0" to "{len(id2label) - 1}", no gaps'
        )
    return tuple(id2label[str(index)].strip() for index in range(len(id2label)))


def _statement(block: object, count: int, path: Path) -> Statement:
    def wrong(what: str) -> CheckpointError:
        return CheckpointError(f'the "everymask" block in {path} is wrong: {what}')

    if not isinstance(block, dict):
        raise wrong("it must be an object")
    things, palette, tasks, license = (block.get(key) for key in ("things", "palette", "tasks", "license"))
    if things is not None and not (isinstance(things, list) and all(_is_index(each, count) for each in things)):
        raise wrong(f'"things" must list indices of classes, 0 to {count - 1}')
    if palette is not None and not (
        isinstance(palette, list) and len(palette) == count and all(each is None or _is_color(each) for each in palette)
    ):
        raise wrong(f'"palette" must list [red, green, blue] in 0..255, or null, for each of the {count} classes')
    if tasks is not None and not (isinstance(tasks, list) and tasks and all(each in KNOWN_TASKS for each in tasks)):
        raise wrong(f'"tasks" must list some of {", ".join(KNOWN_TASKS)}')
    if license is not None and not isinstance(license, str):
        raise wrong('"license" must be a text')
    return Statement(
        things=None if things is None else frozenset(things),
        palette=None if palette is None else tuple(None if c is None else (c[0], c[1], c[2]) for c in palette),
        tasks=None if tasks is None else tuple(task for task in KNOWN_TASKS if task in tasks),
        license=license,
    )


def _is_index(value: object, count: int) -> bool:
    return type(value) is int and 0 <= value < count  # bool is an int, too


def _is_color(value: object) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(_is_index(part, 256) for part in value)
