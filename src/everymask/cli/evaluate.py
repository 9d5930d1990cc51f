"""``everymask evaluate``: the figures of a model on annotated data."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from everymask.cli.options import BatchSize, Device, Dtype, Engine, Overlap, Size, Window, read_size, read_window
from everymask.errors import OptionError

if TYPE_CHECKING:
    from everymask.evaluation import Report
    from everymask.segmentation import Task


def evaluate(
    model: Annotated[str, typer.Argument(help="A bundled name, a folder or a Hub id.")],
    data: Annotated[str, typer.Argument(help="Annotated images: a folder, a zip or tar file, or an fsspec URL.")],
    task: Annotated[
        str | None,
        typer.Option(help="panoptic, instance, semantic or depth.", show_default="the model's first that the data has"),
    ] = None,
    split: Annotated[str | None, typer.Option(help="The part of the data, such as val.")] = None,
    format: Annotated[
        str | None,
        typer.Option(
            help="coco-panoptic, coco-instances, coco-stuff, ade20k, cityscapes, mapillary-vistas, pascal-voc, camvid "
            "or folder.",
            show_default="recognised",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N images.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the figures to this file.")] = None,
    save_worst: Annotated[int, typer.Option(min=0, help="Draw the N worst images beside their truth.")] = 0,
    output: Annotated[Path, typer.Option(help="The folder for the worst images.")] = Path("everymask-worst"),
    batch_size: BatchSize = 1,
    device: Device = "auto",
    dtype: Dtype = "auto",
    engine: Engine = "eager",
    size: Size = "checkpoint",
    window: Window = None,
    overlap: Overlap = None,
) -> None:
    """Measure a model: PQ, AP, mIoU or the errors of depth over all images together, and the figures of each class.

    An image that cannot be read is reported and left out; the exit status is then 1.
    """
    wanted = _known_task(task)

    from everymask.datasets.opening import open_dataset

    dataset = open_dataset(data, format=format, split=split, task=wanted)

    from everymask.atomic import ready_folder
    from everymask.cli.progress import image_progress
    from everymask.evaluation import Evaluation, choose_task
    from everymask.evaluation.worst import save_worst as save_pictures
    from everymask.loading import load

    segmenter = load(
        model,
        device=device,
        dtype=dtype,
        engine=engine,
        size=read_size(size),
        window=read_window(window),
        overlap=overlap,
    )
    chosen = choose_task(segmenter, dataset, wanted)
    if chosen != dataset.tasks[0]:
        # Annotations of one kind can say more than a coarser reading of a richer kind: crowds have classes, too.
        dataset = open_dataset(data, format=format, split=split, task=chosen)
    evaluation = Evaluation(segmenter, dataset, chosen, limit=limit, batch_size=batch_size, worst=save_worst)
    if save_worst:
        ready_folder(output)  # now, not after hours
    with image_progress() as progress:
        bar = progress.add_task("evaluating", total=evaluation.total)
        for done in evaluation.run():
            progress.update(bar, completed=done)
    report = evaluation.report()
    if report.figures.columns:
        _print_classes(report)
    _print_phases(report)
    _print_headline(report, evaluation.total)
    if json_file is not None:
        _write_json(json_file, report)
    if save_worst:
        pictures = save_pictures(report.worst, output)
        print(f"the {len(pictures)} worst images beside their truth: {output}")
    if report.failures:
        for failure in report.failures:
            print(f"error: {failure.error}", file=sys.stderr)
        print(
            f"{len(report.failures)} of {evaluation.total} images failed; the figures leave them out", file=sys.stderr
        )
        raise typer.Exit(1)


def _known_task(task: str | None) -> "Task | None":
    """What --task says. Raises OptionError, before any work, where that is nothing to evaluate."""
    from everymask.segmentation import TASKS

    tasks: tuple[Task, ...] = (*TASKS, "depth")
    if task is not None and task not in tasks:
        raise OptionError(f"--task is {task!r}: choose from {', '.join(tasks)}")
    return next((each for each in tasks if each == task), None)


def _print_classes(report: "Report") -> None:
    from rich.table import Table

    from everymask.cli.output import print_table

    counts = _counted(report)
    table = Table("class", *(name if name in counts else f"{name} %" for name in report.figures.columns))
    for index in report.labels.classes:
        table.add_row(report.labels.names[index], *map(_cell, report.figures.classes[index]))
    print_table(table)


def _counted(report: "Report") -> set[str]:
    """The columns that hold counts, not shares."""
    columns = zip(report.figures.columns, zip(*report.figures.classes, strict=True), strict=True)
    return {name for name, values in columns if any(isinstance(value, int) for value in values)}


def _cell(value: float | int | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{100 * value:.2f}"


def _print_phases(report: "Report") -> None:
    from rich.table import Table

    from everymask.cli.output import print_table

    total = sum(report.seconds.values())
    table = Table("phase", "seconds", "ms per image", "share %")
    for phase, seconds in (*report.seconds.items(), ("all", total)):
        per_image = 1000 * seconds / report.images
        table.add_row(phase, f"{seconds:.2f}", f"{per_image:.1f}", f"{100 * seconds / total:.1f}")
    print_table(table)


def _print_headline(report: "Report", total: int) -> None:
    from everymask.evaluation.figures import figure_text

    images = f"{report.images}{f' of {total}' if report.images < total else ''} image{'s' if total > 1 else ''}"
    print(f"{report.model} on {report.data}, {report.task}, {images}, {report.engine} in {report.dtype}")
    print("  ".join(figure_text(name, value) for name, value in report.figures.headline.items()))


def _write_json(path: Path, report: "Report") -> None:
    """Figures in 0..1 or metres, null for a class that is in neither truth nor prediction."""
    import json

    from everymask.atomic import ready_folder, write

    write(ready_folder(path.parent) / path.name, f"{json.dumps(report.to_json(), indent=1)}\n".encode())
