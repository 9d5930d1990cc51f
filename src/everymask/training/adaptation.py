"""What training starts from: a checkpoint whose classes become those of the data, or a config without weights."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from everymask.checkpoints.config import read_config
from everymask.checkpoints.families import FAMILIES
from everymask.checkpoints.files import CONFIG, PREPROCESSOR, read_json
from everymask.checkpoints.layouts import eomt
from everymask.checkpoints.load import Checkpoint
from everymask.checkpoints.strict import no_random_initialisation
from everymask.checkpoints.task_tokens import read_task_tokens
from everymask.errors import CheckpointError, OptionError
from everymask.labels import LabelSet, canonical_names
from everymask.networks.oneformer import OneFormer
from everymask.preprocessing import Preprocessing
from everymask.segmentation import TASKS, Task

QUERY_CLASSES = ("query_decoder.class_predictor",)
CLASS_HEADS: Mapping[str, tuple[str, ...]] = {
    "beit": ("head.classifier", "auxiliary_head.classifier"),
    "depth_anything": (),
    "detr": ("class_predictor",),
    "dpt": ("class_head.4", "auxiliary_head.4"),
    "eomt": ("class_predictor",),
    "eomt_dinov3": ("class_predictor",),
    "mask2former": QUERY_CLASSES,
    "maskformer": QUERY_CLASSES,
    "oneformer": QUERY_CLASSES,
    "segformer": ("decoder.classifier",),
    "upernet": ("head.classifier", "auxiliary_head.classifier"),
    "vit_adapter": QUERY_CLASSES,
}
"""The layers whose size is the number of classes, by model_type; a network may lack the auxiliary ones."""

SMALL_START = 0.01
"""The standard deviation of a fresh classifier of mmsegmentation, which UPerNet and BEiT come from."""

PROCESSORS: Mapping[str, str] = {
    "beit": "BeitImageProcessor",
    "depth_anything": "DPTImageProcessor",
    "detr": "DetrImageProcessor",
    "dpt": "DPTImageProcessor",
    "eomt": "EomtImageProcessor",
    "eomt_dinov3": "EomtImageProcessor",
    "mask2former": "Mask2FormerImageProcessor",
    "maskformer": "MaskFormerImageProcessor",
    "oneformer": "OneFormerImageProcessor",
    "segformer": "SegformerImageProcessor",
    "upernet": "SegformerImageProcessor",
}
"""The processor, with its own defaults, that a config without a preprocessor_config.json gets."""


def adapt(checkpoint: Checkpoint, labels: LabelSet, task: Task, seed: int, *, from_scratch: bool = False) -> Checkpoint:
    """The checkpoint with the data's classes, ready to be trained for ``task``; the network is a new one.

    A model that knows all classes of the data by their names keeps what it knows of them, in the data's order.
    Otherwise its class head starts afresh, from ``seed``, as the published code starts it. All else is kept; only what
    training needs besides and no file on the Hub holds (OneFormer's text mapper) starts afresh, too. ``from_scratch``
    keeps no weights at all, and with them goes their licence.
    Raises OptionError for a task that the family cannot do.
    """
    _check_task(checkpoint.config, task, checkpoint.name)
    if task == "depth":
        labels = LabelSet((), (), ())
    network = _fresh_network(checkpoint.config, len(labels), seed)
    if not from_scratch:
        heads = _head_tensors(network, checkpoint.config)
        state = checkpoint.network.state_dict()
        kept = {key: tensor for key, tensor in state.items() if key not in heads}
        rows = _rows(checkpoint.labels, labels)
        if rows is not None:
            kept |= {key: _chosen_rows(state[key], rows, len(checkpoint.labels)) for key in heads}
        network.load_state_dict(kept, strict=False)
    return replace(
        checkpoint,
        network=network,
        labels=labels,
        tasks=trained_tasks(task),
        license=None if from_scratch else checkpoint.license,
        config=_config(checkpoint.config),
        preprocessor=_preprocessor(checkpoint.preprocessor, labels),
        published_size=None,
    )


def untrained(path: Path) -> Checkpoint:
    """What a config.json describes, for ``adapt`` to start from scratch: the weights of its network mean nothing.

    ``path``: a config.json of any name, or a folder with one. The preprocessor_config.json beside it says how images
    are resized and normalised; without one it is as the processor of the family does by default. Raises CheckpointError
    for a config that cannot be read or built.
    """
    file = path / CONFIG if path.is_dir() else path
    config = read_config(file.parent, read_json(file))
    if config.model_type not in FAMILIES:
        raise CheckpointError(
            f'{file} is of model_type "{config.model_type}"; supported are {", ".join(sorted(FAMILIES))}'
        )
    family = FAMILIES[config.model_type]
    tasks, names = family.tasks(config.content), config.names
    beside = file.parent / PREPROCESSOR
    preprocessor: Mapping[str, Any] | None = read_json(beside) if beside.exists() else None
    preprocessor = preprocessor or family.preprocessor(config.content, config.statement.tasks)
    preprocessor = preprocessor or {"image_processor_type": PROCESSORS[config.model_type]}
    with no_random_initialisation():
        network, _ = family.build(config.content, max(len(names), 1))
    return Checkpoint(
        name=str(path),
        folder=file.parent,
        network=network,
        labels=LabelSet(names, (True,) * len(names), (None,) * len(names)),
        preprocessing=Preprocessing.from_config(preprocessor),
        tasks=config.statement.tasks or tasks,
        license=None,
        task_tokens=read_task_tokens(file.parent, network.task_length) if isinstance(network, OneFormer) else None,
        depth_kind=family.depth_kind(config.content),
        description=family.description(config.content),
        scores_at_mask_size=family.scores_at_mask_size,
        config=config.content,
        preprocessor=preprocessor,
    )


def trained_tasks(task: Task) -> tuple[Task, ...]:
    """What a network that was trained for ``task`` can do: panoptic queries have all three readings."""
    return TASKS if task == "panoptic" else (task,)


def knows_classes(checkpoint: Checkpoint, labels: LabelSet) -> bool:
    """Whether ``adapt`` keeps the class head: the checkpoint knows every class of ``labels`` by its name."""
    return _rows(checkpoint.labels, labels) is not None


def _check_task(config: Mapping[str, Any], task: Task, name: str) -> None:
    possible = FAMILIES[config["model_type"]].tasks(config)
    if task not in possible:
        raise OptionError(f"{name} cannot be trained for the task {task!r}: choose {' or '.join(possible)}")


def _fresh_network(config: Mapping[str, Any], num_labels: int, seed: int) -> nn.Module:
    """The network as it starts without weights, in all that training needs; torch's random numbers go on as before."""
    model_type = config["model_type"]
    if model_type == "oneformer":
        config = {**config, "is_training": True}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network, _ = FAMILIES[model_type].build(config, num_labels)
        if model_type in ("beit", "upernet"):
            for key in _head_tensors(network, config):
                tensor = network.get_parameter(key)
                nn.init.normal_(tensor, std=SMALL_START) if tensor.dim() > 1 else nn.init.zeros_(tensor)
    return network


def _head_tensors(network: nn.Module, config: Mapping[str, Any]) -> set[str]:
    """The keys of the tensors that depend on the number of classes."""
    heads = CLASS_HEADS[config["model_type"]]
    return {key for key in network.state_dict() if key.rpartition(".")[0] in heads}


def _rows(known: LabelSet, wanted: LabelSet) -> list[int] | None:
    """Where the classes ``wanted`` are among those that are ``known``, by name; None where one is not, or is twice."""
    known_names = canonical_names(known.names)
    places = {known_names[index].casefold(): index for index in known.classes}
    names = [name.casefold() for name in canonical_names(wanted.names)]
    if len(places) < len(known.classes) or len(set(names)) < len(names) or not set(names) <= places.keys():
        return None
    return [places[name] for name in names]


def _chosen_rows(tensor: Tensor, rows: Sequence[int], known: int) -> Tensor:
    """The rows of a class head (C or C + 1, ...) that belong to the classes ``rows``; "no object" comes last again."""
    no_object = [known] if len(tensor) == known + 1 else []
    return tensor[[*rows, *no_object]]


def _config(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the result's config.json says of the network, in transformers' words; classes are added by saving."""
    left_out = {"id2label", "label2id", "num_labels", "_name_or_path"}
    if config["model_type"].startswith("eomt"):
        config = eomt.spelled_out(config)
        left_out |= {"backbone"}
    return {key: value for key, value in config.items() if key not in left_out}


def _preprocessor(preprocessor: Mapping[str, Any], labels: LabelSet) -> dict[str, Any]:
    """What the result's preprocessor_config.json says.

    Its classes count from 0, so transformers has nothing to subtract from label files. OneFormer's processor lists the
    classes itself; without a name for the file it would fetch them from, it takes them from the list.
    """
    changed = {key: False for key in ("do_reduce_labels", "reduce_labels") if key in preprocessor}
    result = {**preprocessor, **changed}
    if str(result.get("image_processor_type") or result.get("feature_extractor_type")).startswith("OneFormer"):
        things = [index for index, is_thing in enumerate(labels.things) if is_thing]
        names = {str(index): name for index, name in enumerate(labels.names)}
        result["metadata"] = {**names, "class_names": list(labels.names), "thing_ids": things}
        result |= {"class_info_file": "", "num_labels": len(labels)}
    return result
