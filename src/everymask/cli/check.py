"""``everymask check``: what is wrong with annotated data, and how to put it right."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from everymask.doctor import Report

_SHOWN = 3
"""Of the names that a finding has; --json gives up to 20."""


def check(
    data: Annotated[str, typer.Argument(help="A folder, a zip or tar file, or an fsspec URL.")],
    format: Annotated[
        str | None,
        typer.Option(help="coco-panoptic, coco-instances, coco-stuff, ade20k, cityscapes, ... Recognised without it."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Check only this split, as the data calls it.")] = None,
    model: Annotated[str | None, typer.Option(help="Also compare with this model's classes and predictions.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Find faults of annotated data: labels off by one, sizes, polygons, duplicates and more, each with its fix.

    The exit status is 1 when there are errors; warnings and notes leave it at 0.
    """
    from everymask.cli.progress import image_progress
    from everymask.doctor import check as check_data

    with image_progress() as progress:
        bar = progress.add_task("checking", total=None)
        report = check_data(
            data,
            format=format,
            split=split,
            model=model,
            progress=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    if as_json:
        _print_json(report)
    else:
        _print_report(report)
    if report.count("error"):
        raise typer.Exit(1)


def _print_json(report: "Report") -> None:
    import json
    from dataclasses import asdict

    print(json.dumps(asdict(report), indent=1, ensure_ascii=False))


def _print_report(report: "Report") -> None:
    from rich.box import SIMPLE
    from rich.table import Column, Table

    from everymask.cli.output import print_table
    from everymask.doctor.findings import SEVERITIES

    if report.findings:
        table = Table("", "severity", "kind", Column("count", justify="right"), "what and where", box=SIMPLE)
        for number, each in enumerate(report.findings, 1):
            lines = [each.message, *(f"  {name}" for name in each.where[:_SHOWN])]
            if each.count > _SHOWN:
                lines.append(f"  and {each.count - _SHOWN} more")
            table.add_row(str(number), each.severity, each.kind, str(each.count), "\n".join(lines))
        print_table(table)
        # Not in the table, which would break commands into lines that cannot be pasted.
        for number, each in enumerate(report.findings, 1):
            print(f"fix {number}: {each.fix}")
        print()
    images = ", ".join(f"{count} {name}".rstrip() for name, count in report.splits.items())
    counts = ", ".join(_counted(report.count(severity), severity) for severity in SEVERITIES)
    print(f"{report.location}: {report.format}, images: {images or 'not read'}; {counts}")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")
