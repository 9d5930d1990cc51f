"""``everymask bench``: engines and number types of a model side by side."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from everymask.cli.demo import PHOTO
from everymask.cli.options import Device
from everymask.errors import OptionError

if TYPE_CHECKING:
    from everymask.benchmarking.gate import Record
    from everymask.benchmarking.report import Report


def bench(
    model: Annotated[str, typer.Argument(help="A bundled name, a folder or a Hub id.")] = "street",
    image: Annotated[Path | None, typer.Argument(help="A photograph.", show_default="one that is bundled")] = None,
    engines: Annotated[
        str | None,
        typer.Option(help="eager, openvino, compile and graphs, with commas.", show_default="eager and openvino"),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="float32, bfloat16 and the like, with commas.", show_default="float32, and bfloat16 where it is native"
        ),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="panoptic, instance, semantic or depth.", show_default="the model's first")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds in which each engine runs once.")] = 7,
    threads: Annotated[int | None, typer.Option(min=1, help="Of the CPU.", show_default="torch's choice")] = None,
    device: Device = "auto",
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the figures to this file.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Also write the table to this file.")] = None,
    record: Annotated[Path | None, typer.Option(help="Record the speed of this run in a gate file.")] = None,
    gate: Annotated[
        Path | None, typer.Option(help="Fail where more than 10 % of the speed is lost that a gate file has.")
    ] = None,
) -> None:
    """Measure a model: image in to result out, phase by phase, and the share of the machine's own matrix products.

    Engines and number types take turns; medians count. A gate compares ratios to a matrix product that is timed in the
    same rounds, so that it holds on a machine that is busy at times; the exit status is 1 where speed is lost.
    """
    _check_names(engines, dtype)

    import torch

    from everymask.benchmarking import gate as gates
    from everymask.benchmarking.bench import bench as measure

    recorded = None if gate is None else gates.read_record(gate, model)  # now, not after minutes
    if threads is not None:
        torch.set_num_threads(threads)
    report = measure(
        model,
        image or PHOTO,
        engines=_names(engines or ""),
        dtypes=_names(dtype or ""),
        device=device,
        task=task,
        repeats=repeats,
    )
    _print_report(report)
    _write_files(report, json_file, markdown)
    ratios = {row.subject: row.ratio for row in report.rows}
    if record is not None:
        gates.write_record(record, model, gates.Record(str(report.machine), ratios))
    if recorded is not None:
        _pass_gate(recorded, gates.Record(str(report.machine), ratios))


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _check_names(engines: str | None, dtype: str | None) -> None:
    """Raises OptionError, before any work, for lists that name nothing."""
    for option, text in (("--engines", engines), ("--dtype", dtype)):
        if text is not None and not _names(text):
            raise OptionError(f"{option} is {text!r}: name at least one, several with commas")


def _print_report(report: "Report") -> None:
    from rich.table import Table

    from everymask.cli.output import print_table

    table = Table(*report.columns(), title=report.title)
    for cells in report.cells():
        table.add_row(*cells)
    print_table(table)
    print(report.footnote())


def _write_files(report: "Report", json_file: Path | None, markdown: Path | None) -> None:
    import json

    from everymask.atomic import ready_folder, write

    if json_file is not None:
        content = json.dumps(report.to_json(), indent=1)
        write(ready_folder(json_file.parent) / json_file.name, f"{content}\n".encode())
    if markdown is not None:
        write(ready_folder(markdown.parent) / markdown.name, report.to_markdown().encode())


def _pass_gate(recorded: "Record", measured: "Record") -> None:
    """Prints what was lost and exits with 1, or says that nothing was."""
    from everymask.benchmarking.gate import losses

    lost = losses(recorded, measured.ratios)
    compared = [name for name in recorded.ratios if name in measured.ratios]
    absent = [name for name in recorded.ratios if name not in measured.ratios]
    if absent:
        print(f"recorded but not measured: {', '.join(absent)}", file=sys.stderr)
    if not lost:
        print(f"the gate holds: no loss over 10 % in {', '.join(compared)}")
        return
    if recorded.machine != measured.machine:
        print(f"the gate was recorded on another machine: {recorded.machine}", file=sys.stderr)
    for loss in lost:
        print(f"error: slower than recorded: {loss}", file=sys.stderr)
    raise typer.Exit(1)
