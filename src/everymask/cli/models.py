"""``everymask models``: the models that are known by name."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from everymask.checkpoints.catalogue import Entry


def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole catalogue as JSON.")] = False,
) -> None:
    """List the known models: tasks, training data, size, published accuracy and licence."""
    from everymask.checkpoints.catalogue import catalogue

    if as_json:
        import json
        from dataclasses import asdict

        print(json.dumps([asdict(entry) for entry in catalogue()], indent=1))
        return

    from everymask.cli.output import output_width, print_table

    print_table(_table(catalogue(), narrow=output_width() < 140))


def _table(entries: "tuple[Entry, ...]", *, narrow: bool) -> "Table":
    from rich.box import SIMPLE
    from rich.table import Column, Table

    # On a narrow terminal the other columns wrap, so that the names, which are there to be copied, keep their width.
    width = 9 if narrow else None
    table = Table(
        Column("name", overflow="fold"),
        Column("tasks", max_width=width),
        Column("data", max_width=width),
        "MB",
        "accuracy",
        Column("licence", max_width=width),
        box=SIMPLE,
    )
    for entry in entries:
        table.add_row(
            entry.name,
            ", ".join(entry.tasks),
            entry.dataset,
            "" if entry.weights_mb is None else f"{entry.weights_mb:.0f}",
            "" if entry.value is None else f"{entry.metric} {entry.value}",
            entry.license or "not stated",
        )
    return table
