"""From a name to a built network with all that belongs to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from everymask.checkpoints import deltas, mmcv
from everymask.checkpoints.catalogue import Entry, PublishedSize, entry
from everymask.checkpoints.config import ModelConfig, read_config
from everymask.checkpoints.families import FAMILIES, Family
from everymask.checkpoints.files import CONFIG, PREPROCESSOR, read_json
from everymask.checkpoints.find import find
from everymask.checkpoints.licenses import why_not_commercial
from everymask.checkpoints.strict import load_strictly, no_random_initialisation
from everymask.checkpoints.task_tokens import read_task_tokens
from everymask.checkpoints.weights import read_weights
from everymask.errors import CheckpointError
from everymask.labels import LabelSet, label_set, match_labels
from everymask.networks.oneformer import OneFormer
from everymask.preprocessing import Preprocessing
from everymask.segmentation import DepthKind, Task


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint, loaded.

    ``name``: as it was asked for. ``folder``: where its files lie. ``network``: in eval mode, float32, on the CPU.
    ``tasks``: what it was trained for, in the order of ``TASKS``. ``license``: of the weights, None if not stated.
    ``published_size``: the size of images at which its accuracy was measured, None if not known.
    ``task_tokens``: what a network that is told its task takes beside the image, (length,) int64 for each task; None
    for all others. ``depth_kind``: what the depth it gives means, None for a network without depth. ``description``:
    what else a user should know of the network; None for most. ``scores_at_mask_size``: see ``families.Family``.
    ``config`` and ``preprocessor``: what the files say, or what stands for them; what is trained from the checkpoint is
    saved with them.
    """

    name: str
    folder: Path
    network: nn.Module
    labels: LabelSet
    preprocessing: Preprocessing
    tasks: tuple[Task, ...]
    license: str | None
    published_size: PublishedSize | None = None
    task_tokens: Mapping[Task, Tensor] | None = None
    depth_kind: DepthKind | None = None
    description: str | None = None
    scores_at_mask_size: bool = False
    config: Mapping[str, Any] = field(default_factory=dict)
    preprocessor: Mapping[str, Any] = field(default_factory=dict)


def load_checkpoint(
    name: str | Path,
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | Path | None = None,
    base: str | Path | None = None,
    commercial: bool = False,
    share: bool = False,
) -> Checkpoint:
    """Loads a bundled model, a local folder, or a repository of the Hub (owner/name) or ModelScope.

    A folder has the transformers layout or is one that ``mmcv`` knows. ``revision``, ``token`` and ``cache_dir`` are
    for repositories (see ``find``). Tasks, licence, things and palette come from the first that states them: the
    ``everymask`` block of the config; the data set whose class names the config has (things and palette); the
    catalogue. Otherwise the checkpoint does all tasks of its family (the semantic one alone if its images are cut into
    windows), every class is a thing, no class has a colour, the licence is None.
    ``base`` is for checkpoints that hold only differences (see ``deltas.complete``).
    ``commercial=True`` refuses, with a CheckpointError, weights whose licence is not known to allow commercial use (see
    ``licenses``); before anything is downloaded where the catalogue knows the name.
    ``share=True`` leaves float32 weights where they are, in the file, for a network that is converted next (see
    ``strict.load_strictly``).
    Raises CheckpointError if the checkpoint cannot be found, read or built, OptionError for a revision of something
    that has none and for a ``base`` of weights that are complete.
    """
    listed = entry(str(name))
    if commercial and listed is not None:
        _refuse_unless_commercial(str(name), listed.license)
    folder = find(name, revision=revision, token=token, cache_dir=cache_dir)
    config = read_config(folder, mmcv.implied_config(folder))
    if config.model_type not in FAMILIES:
        raise CheckpointError(
            f'{folder / CONFIG} is of model_type "{config.model_type}"; supported are {", ".join(sorted(FAMILIES))}'
        )
    family = FAMILIES[config.model_type]
    possible = family.tasks(config.content)
    if not config.names and possible != ("depth",):
        raise CheckpointError(
            f'{folder / CONFIG} has neither "id2label" nor "num_labels"; add the names of the classes'
        )
    known = _catalogued(str(name), config)
    license = config.statement.license or (known.license if known else None)
    if commercial:
        _refuse_unless_commercial(str(name), license)
    tasks = config.statement.tasks or (known.tasks if known else None)
    if tasks is not None and not set(tasks) <= set(possible):
        raise CheckpointError(
            f"{name} is said to do {', '.join(tasks)}, but a network of its kind does {', '.join(possible)}: correct "
            f'"tasks" in the everymask block of {folder / CONFIG}'
        )
    preprocessor = _preprocessor(folder, family, config, tasks)
    preprocessing = Preprocessing.from_config(preprocessor)
    with no_random_initialisation():
        network, layout = family.build(config.content, len(config.names))
    weights = deltas.complete(read_weights(folder), str(name), base, token=token, cache_dir=cache_dir)
    load_strictly(network, layout, weights, share=share)
    return Checkpoint(
        name=str(name),
        folder=folder,
        network=network.eval(),
        labels=_labels(config, known),
        preprocessing=preprocessing,
        tasks=tasks or (("semantic",) if preprocessing.tiling else possible),
        license=license,
        published_size=known.published_size if known else None,
        task_tokens=read_task_tokens(folder, network.task_length) if isinstance(network, OneFormer) else None,
        depth_kind=family.depth_kind(config.content),
        description=family.description(config.content),
        scores_at_mask_size=family.scores_at_mask_size,
        config=config.content,
        preprocessor=preprocessor,
    )


def _refuse_unless_commercial(name: str, license: str | None) -> None:
    reason = why_not_commercial(license)
    if reason is not None:
        raise CheckpointError(
            f"{name} is not for commercial use: {reason}; `everymask models --commercial` lists models that are"
        )


def _preprocessor(
    folder: Path, family: Family, config: ModelConfig, tasks: tuple[Task, ...] | None
) -> Mapping[str, Any]:
    if not (folder / PREPROCESSOR).exists():
        implied = family.preprocessor(config.content, tasks)
        if implied is not None:
            return implied
    return read_json(folder / PREPROCESSOR)


def _catalogued(name: str, config: ModelConfig) -> Entry | None:
    found = entry(name)
    if found is not None:
        return found
    # A model fine-tuned from a published one still bears its name: it is the same thing only with the same classes.
    origin = entry(config.origin)
    labels = match_labels(config.names)
    return origin if origin and labels is not None and labels == _known_labels(origin, config.names) else None


def _labels(config: ModelConfig, known: Entry | None) -> LabelSet:
    names, statement = config.names, config.statement
    labels = match_labels(names)
    if labels is None and known is not None:
        labels = _known_labels(known, names)
    if labels is None:
        labels = LabelSet(names, (True,) * len(names), (None,) * len(names))
    things = labels.things if statement.things is None else tuple(i in statement.things for i in range(len(names)))
    return replace(labels, things=things, colors=labels.colors if statement.palette is None else statement.palette)


def _known_labels(known: Entry, names: tuple[str, ...]) -> LabelSet | None:
    if known.labels is None:
        return None
    labels = label_set(known.labels)
    if len(labels) != len(names):
        return None
    # Some configs give numbers only, and others the names that transformers makes of numbers.
    unnamed = names == tuple(f"LABEL_{index}" for index in range(len(names)))
    return labels if unnamed else labels.named(names)
