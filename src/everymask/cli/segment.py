"""``everymask segment``: images in, labelled masks out."""

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from everymask.cli.imports import quick_imports
from everymask.cli.options import BatchSize, Device, Dtype, Engine, Overlap, Size, Window, read_size, read_window
from everymask.errors import OptionError

if TYPE_CHECKING:
    from everymask.segmentation import Segmentation


def segment(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT", help="Files, folders, globs and URLs.")],
    model: Annotated[str, typer.Option(help="A bundled name, a folder or a Hub id.")] = "street",
    task: Annotated[
        str | None, typer.Option(help="panoptic, instance, semantic or depth.", show_default="the model's first")
    ] = None,
    threshold: Annotated[float | None, typer.Option(min=0, max=1, help="Keep queries with a score above this.")] = None,
    mask_threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="A mask is where its probability reaches this.")
    ] = None,
    overlap_threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Drop panoptic masks that keep a smaller share than this.")
    ] = None,
    output: Annotated[Path, typer.Option(help="The folder for the results.")] = Path("everymask-out"),
    format: Annotated[
        list[str],
        typer.Option(
            help="overlay, panoptic-png, coco, masks, json; with depth also depth-png, depth-tiff, depth-npz and the "
            "pictures depth-map, depth-shade, depth-order; several with commas or by repeating the option."
        ),
    ] = ["overlay"],  # noqa: B006 - typer reads the default, nothing changes it
    device: Device = "auto",
    dtype: Dtype = "auto",
    engine: Engine = "eager",
    size: Size = "checkpoint",
    window: Window = None,
    overlap: Overlap = None,
    depth: Annotated[str | None, typer.Option(help="A second model, of depth, whose result is added.")] = None,
    batch_size: BatchSize = 1,
    explain: Annotated[bool, typer.Option("--explain", help="Tell why each dropped query was dropped.")] = False,
) -> None:
    """Segment images and save the results."""
    from everymask.cli.inputs import find_inputs, result_stems

    found = find_inputs(inputs)
    formats = _known_formats(format)

    with quick_imports():
        from everymask.cli.progress import image_progress
        from everymask.loading import load
        from everymask.segmenter import Failure

    segmenter = load(
        model,
        device=device,
        dtype=dtype,
        engine=engine,
        size=read_size(size),
        window=read_window(window),
        overlap=overlap,
        depth=depth,
    )
    results = segmenter.stream(
        found.sources,
        batch_size=batch_size,
        task=task,
        threshold=threshold,
        mask_threshold=mask_threshold,
        overlap_threshold=overlap_threshold,
        explain=explain,
    )
    failures = list(found.missing)
    with image_progress() as progress:
        bar = progress.add_task("segmenting", total=len(found.sources))
        for source, stem, result in zip(found.sources, result_stems(found.sources), results, strict=True):
            if isinstance(result, Failure):
                failures.append(str(result.error))
            else:
                saved = result.save(output, formats=formats, stem=stem)
                print(f"{source}: {describe(result)} -> {saved[0]}")
                if explain:
                    _print_dropped(result)
            progress.advance(bar)
    if failures:
        print(f"{len(failures)} of {len(found.sources) + len(found.missing)} inputs failed:", file=sys.stderr)
        for failure in failures:
            print(f"error: {failure}", file=sys.stderr)
        raise typer.Exit(1)


def describe(result: "Segmentation") -> str:
    """One line: how many segments, and how many of each label, the most frequent first; the range of depth."""
    parts = [] if result.task == "depth" else [_describe_segments(result)]
    if result.depth is not None and result.depth_kind is not None:
        unit = " m" if result.depth_kind == "metric" else ""
        parts.append(f"{result.depth_kind} depth {result.depth.min():.4g} to {result.depth.max():.4g}{unit}")
    return ", ".join(parts)


def _describe_segments(result: "Segmentation") -> str:
    counts = Counter(segment.label for segment in result.segments)
    labels = ", ".join(f"{count} {label}" for label, count in counts.most_common())
    plural = "" if len(result.segments) == 1 else "s"
    return f"{len(result.segments)} segment{plural}" + (f" ({labels})" if labels else "")


def _known_formats(options: list[str]) -> list[str]:
    """The names in what was given with --format. Raises OptionError, before any work, for one that is unknown."""
    from everymask.formats import FORMATS

    names = [name.strip() for option in options for name in option.split(",")]
    for name in names:
        if name not in FORMATS:
            raise OptionError(f"unknown format {name!r}: choose from {', '.join(FORMATS)}")
    return names


def _print_dropped(result: "Segmentation") -> None:
    from rich.table import Table

    from everymask.cli.output import print_table

    table = Table("query", "label", "score", "why it was dropped", title="dropped queries")
    for dropped in result.dropped or ():
        table.add_row(str(dropped.query), dropped.label, f"{dropped.score:.2f}", dropped.reason)
    print_table(table)
