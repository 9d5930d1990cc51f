"""Which class of a data set each class of a model is."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from everymask.errors import OptionError
from everymask.labels import LabelSet, canonical_names
from everymask.segmentation import Segmentation, Task

_SHOWN = 5  # names in a message


def corresponding_classes(model: LabelSet, data: LabelSet, task: Task) -> dict[int, int]:
    """By class index of the model, the index of the same class in the data; both index their own label set.

    Classes are the same when they have the same name, apart from case and the blanks around it; their order may
    differ, and holes in a numbering do not count. ADE20K's two sets of names are the same. The instance task compares
    the things of both sides, the others all classes, and panoptic asks that both mean the same classes to be things.

    Raises OptionError, saying what differs, where the two are not the same classes.
    """
    of_model, of_data = _classes(model, task), _classes(data, task)
    model_names, data_names = _names(model, of_model), _names(data, of_data)
    if model_names != data_names:
        _check_same(model_names, data_names, task)
        places = dict(zip(data_names, of_data, strict=True))
        of_data = [places[name] for name in model_names]
    pairs = dict(zip(of_model, of_data, strict=True))
    if task == "panoptic":
        _check_things(model, data, pairs)
    return pairs


def in_classes_of(result: Segmentation, labels: LabelSet, classes: Mapping[int, int]) -> Segmentation:
    """The same result in terms of the classes of ``labels``, by what ``corresponding_classes`` gives."""
    segments = tuple(
        replace(
            segment,
            label_id=(label_id := classes[segment.label_id]),
            label=labels.names[label_id],
            is_thing=labels.things[label_id],
        )
        for segment in result.segments
    )
    return replace(result, segments=segments, labels=labels)


def _classes(labels: LabelSet, task: Task) -> list[int]:
    return [index for index in labels.classes if task != "instance" or labels.things[index]]


def _names(labels: LabelSet, indices: Sequence[int]) -> list[str]:
    names = canonical_names(labels.names)
    return [names[index].casefold() for index in indices]


def _check_same(model: Sequence[str], data: Sequence[str], task: Task) -> None:
    kind = "things" if task == "instance" else "classes"
    only_model = [name for name in model if name not in set(data)]
    only_data = [name for name in data if name not in set(model)]
    differences = [
        f"only {whose} has {_some(names)}"
        for whose, names in (("the model", only_model), ("the data", only_data))
        if names
    ]
    if not differences:
        for whose, names in (("the model", model), ("the data", data)):
            twice = sorted({name for name in names if list(names).count(name) > 1})
            if twice:
                differences.append(f"{whose} has {_some(twice)} more than once, and the order differs")
    if differences:
        raise OptionError(
            f"the model has {len(model)} {kind} and the data {len(data)}, and they are not the same: "
            f"{'; '.join(differences)}. Choose a model that was trained for these classes, or give the classes that "
            "mean the same the same names"
        )


def _check_things(model: LabelSet, data: LabelSet, pairs: Mapping[int, int]) -> None:
    unlike = [model.names[mine] for mine, other in pairs.items() if model.things[mine] != data.things[other]]
    if unlike:
        raise OptionError(
            f"the model and the data disagree on whether {_some(unlike)} can be counted (things) or not (stuff), "
            "which panoptic segmentation depends on: state the same in both, or choose the task semantic"
        )


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(f'"{name}"' for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
