"""``everymask train``: a network for the user's own classes."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from everymask.cli.options import Device, read_window
from everymask.errors import OptionError

if TYPE_CHECKING:
    from everymask.checkpoints import Checkpoint
    from everymask.datasets.dataset import DataSet
    from everymask.segmentation import Task
    from everymask.training.preflight import Preflight

MOST_WORKERS = 8
SHOWN = 5  # classes in a line


def train(
    model: Annotated[
        str,
        typer.Option(help="What to start from: a bundled name, a folder or a Hub id; or a config.json, from scratch."),
    ],
    data: Annotated[str, typer.Option(help="Annotated images: a folder, a zip or tar file, or an fsspec URL.")],
    output: Annotated[Path, typer.Option(help="The folder for the result, logs and states.")],
    task: Annotated[
        str | None,
        typer.Option(help="panoptic, instance, semantic or depth.", show_default="the model's first that the data has"),
    ] = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Start from random weights: of the model only its config is used.")
    ] = False,
    split: Annotated[
        str | None, typer.Option(help="The part of the data to train on.", show_default="the one named train...")
    ] = None,
    validation_split: Annotated[
        str | None,
        typer.Option(help='The part to validate on; "" for none.', show_default="the one named val..., if any"),
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="Of the data, as for `everymask evaluate`.", show_default="recognised")
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Settings in a YAML or JSON file; the others are as published for the family.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of the optimiser.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images in a step, on all devices together.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The highest learning rate.")] = None,
    crop: Annotated[str | None, typer.Option(help="Of training images, a side or HEIGHTxWIDTH, in pixels.")] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="32-true, bf16-mixed or 16-mixed.", show_default="as published, where it is native"),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of all that is random.")] = None,
    device: Device = "auto",
    devices: Annotated[int, typer.Option(min=1, help="How many devices train together; on CPUs, processes.")] = 1,
    license: Annotated[
        str | None, typer.Option(help="The licence of the result.", show_default="that of the weights it starts from")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --output.")] = False,
) -> None:
    """Train a network on annotated images, from a model or from scratch; the result loads here and in transformers.

    --output gets the folders best and last, the figures of every step and validation as CSV and for TensorBoard,
    pictures of validation images, and a state that --resume goes on from, also after a crash.
    """
    from everymask.devices import choose_device

    settings = {
        "steps": steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "crop": _crop(crop),
        "precision": precision,
        "seed": seed,
    }
    chosen_device = choose_device(device)

    from everymask.evaluation.figures import figure_text
    from everymask.training.adaptation import adapt, knows_classes
    from everymask.training.defaults import default_recipe
    from everymask.training.job import TrainingJob
    from everymask.training.loop import train as run
    from everymask.training.preflight import preflight
    from everymask.training.recipe import TrainingRecipe, changed, read_recipe

    wanted = _known_task(task)
    in_parts = recipe is not None and read_recipe(recipe, TrainingRecipe()).instances_from == "components"
    # Instances that are connected parts of class maps need annotations of classes alone.
    annotated = "semantic" if in_parts and wanted != "depth" else wanted
    training, held_out = _open(data, format, split, validation_split, annotated)

    source = _source(model, from_scratch=from_scratch)
    chosen = wanted or _shared_task(source, training)
    settled = default_recipe(source.config, chosen, source.preprocessing, training.labels, chosen_device)
    if recipe is not None:
        settled = read_recipe(recipe, settled)
    settled = changed(settled, {name: value for name, value in settings.items() if value is not None})
    checkpoint = adapt(source, training.labels, chosen, settled.seed, from_scratch=from_scratch)
    workers = min(MOST_WORKERS, (os.cpu_count() or 1) // devices) if chosen_device.type == "cuda" else 0
    job = TrainingJob(
        checkpoint=checkpoint,
        data=training,
        validation=held_out,
        task=chosen,
        recipe=settled,
        output=output,
        license=license or checkpoint.license,
        start="random weights" if from_scratch else _public_name(model),
        device=chosen_device,
        devices=devices,
        workers=workers,
        resume=resume,
    )
    print(f"{source.config['model_type']} for {chosen}, {job.steps} steps of {settled.batch_size} images", end="")
    print(f" out of {len(training.names)}, {0 if held_out is None else len(held_out.names)} to validate")
    if not from_scratch and chosen != "depth" and not knows_classes(source, training.labels):
        print(f"the classes are new to {model}: its class head starts afresh, all else is kept")
    if not (resume and (output / "state.pt").exists()):
        _print_preflight(preflight(job))
    result = run(job)
    figures = "  ".join(figure_text(name, value) for name, value in result.figures.items())
    print(f"{result.steps} steps taken{': ' if figures else ''}{figures}")
    print(f"the network is in {result.folder}: everymask segment PHOTO --model {result.folder}")


def _crop(text: str | None) -> list[int] | None:
    try:
        sides = read_window(text)
    except OptionError:
        raise OptionError(f"--crop is {text!r}: give a side such as 512, or HEIGHTxWIDTH such as 512x1024") from None
    return None if sides is None else [sides, sides] if isinstance(sides, int) else list(sides)


def _open(
    data: str, format: str | None, split: str | None, validation_split: str | None, task: "Task | None"
) -> "tuple[DataSet, DataSet | None]":
    """The images to train on, and those to validate on, if any."""
    from everymask.datasets.opening import list_splits, open_dataset

    names = list_splits(data, format=format, task=task)
    train = split if split is not None else _named(names, "train")
    if train is None:
        raise OptionError(f"no split of {data} is called train: say with --split which of {', '.join(names)} to use")
    validation = validation_split if validation_split is not None else _named(names, "val")
    if validation == train:
        validation = None
    return (
        open_dataset(data, format=format, split=train or None, task=task),
        open_dataset(data, format=format, split=validation, task=task) if validation else None,
    )


def _named(splits: Sequence[str], beginning: str) -> str | None:
    """The only split there is, or the first whose name begins so."""
    if len(splits) == 1:
        return splits[0] if beginning == "train" else None
    return next((each for each in splits if each.startswith(beginning)), None)


def _known_task(task: str | None) -> "Task | None":
    from everymask.segmentation import TASKS

    for each in (*TASKS, "depth"):
        if each == task:
            return each
    if task is None:
        return None
    raise OptionError(f"there is no task {task!r}: choose {', '.join(TASKS)} or depth")


def _source(model: str, *, from_scratch: bool) -> "Checkpoint":
    from everymask.checkpoints import load_checkpoint
    from everymask.checkpoints.find import find
    from everymask.training.adaptation import untrained

    is_config = model.endswith(".json") and Path(model).is_file()
    if from_scratch:
        return untrained(Path(model) if is_config else find(model))
    if is_config:
        raise OptionError(f"{model} holds no weights: add --from-scratch, or give the folder of a model")
    return load_checkpoint(model)


def _shared_task(source: "Checkpoint", data: "DataSet") -> "Task":
    shared = [each for each in source.tasks if each in data.tasks]
    if not shared:
        raise OptionError(
            f"{source.name} does {', '.join(source.tasks)} and {data.name} has annotations for "
            f"{', '.join(data.tasks)}: choose with --task what to train for"
        )
    return shared[0]


def _public_name(model: str) -> str:
    """What a model card calls the model: nobody needs to know where it lay."""
    return Path(model).resolve().name if Path(model).exists() else model


def _print_preflight(found: "Preflight") -> None:
    if found.labels is not None:
        segments = "" if found.labels.segments is None else f", {found.labels.segments:.1f} segments an image"
        print(f"one batch: {found.labels.images} images, {found.labels.ignored:.1%} without a label{segments}")
        print(f"its classes: {_shares(found.labels.classes)}")
    memory = "" if found.memory is None else f" and {found.memory / 1e9:.1f} GB"
    print(f"a step takes {found.seconds:.2g} s{memory}", end="; ")
    print(f"on this batch alone the loss went from {found.first_loss:.4g} to {found.last_loss:.4g}")
    for warning in found.warnings:
        print(f"warning: {warning}", file=sys.stderr)


def _shares(classes: Mapping[str, float]) -> str:
    shown: list[Any] = [f"{name} {share:.1%}" for name, share in list(classes.items())[:SHOWN]]
    return ", ".join(shown) + (f" and {len(classes) - SHOWN} more" if len(classes) > SHOWN else "")
