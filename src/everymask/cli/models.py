"""``everymask models``: the models that are known by name, and those the Hub has."""

import sys
from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated, Any

import typer

from everymask.errors import OptionError

if TYPE_CHECKING:
    from rich.table import Table

    from everymask.checkpoints.catalogue import Entry
    from everymask.checkpoints.hub_models import HubModel


def models(
    model: Annotated[
        str | None, typer.Argument(help="Load this one (a bundled name, a folder or a repository) and describe it.")
    ] = None,
    hub: Annotated[
        bool, typer.Option("--hub", help="List the Hub's most downloaded segmentation models, and which load here.")
    ] = False,
    commercial: Annotated[
        bool, typer.Option("--commercial", help="Only models whose licence is known to allow commercial use.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all that is known of them as JSON.")] = False,
) -> None:
    """List the known models: tasks, training data, size, published accuracy and licence. Or describe one."""
    if model is not None:
        if hub or commercial:
            raise OptionError("--hub and --commercial are for lists: leave them out to describe one model")
        _describe(model, as_json=as_json)
    elif hub:
        _list_hub(commercial=commercial, as_json=as_json)
    else:
        _list_catalogue(commercial=commercial, as_json=as_json)


def _describe(model: str, *, as_json: bool) -> None:
    from everymask.loading import load

    facts = load(model).describe()
    if as_json:
        _print_json(facts)
        return
    for name, fact in facts.items():
        print(f"{name:8} {fact}")


def _list_catalogue(*, commercial: bool, as_json: bool) -> None:
    from everymask.checkpoints.catalogue import catalogue
    from everymask.cli.output import output_width, print_table

    entries = [entry for entry in catalogue() if not commercial or _allows_commerce(entry.license)]
    if as_json:
        from dataclasses import asdict

        _print_json([asdict(entry) for entry in entries])
    else:
        print_table(_catalogue_table(entries, narrow=output_width() < 140))
    _tell_hidden(len(catalogue()) - len(entries))


def _list_hub(*, commercial: bool, as_json: bool) -> None:
    from everymask.checkpoints.hub_models import list_hub_models

    found = list_hub_models()
    shown = [model for model in found if not commercial or _allows_commerce(model.license)]

    from everymask.checkpoints.families import FAMILIES
    from everymask.cli.output import print_table

    if as_json:
        from dataclasses import asdict

        _print_json([{**asdict(model), "loads_here": model.model_type in FAMILIES} for model in shown])
    else:
        print_table(_hub_table(shown, FAMILIES))
    _tell_hidden(len(found) - len(shown))


def _allows_commerce(license: str | None) -> bool:
    from everymask.checkpoints.licenses import why_not_commercial

    return why_not_commercial(license) is None


def _tell_hidden(count: int) -> None:
    if count:
        plural = "models are" if count > 1 else "model is"
        print(
            f"{count} {plural} hidden: no licence is stated, or none that is known to allow commercial use",
            file=sys.stderr,
        )


def _print_json(rows: list[dict[str, Any]] | dict[str, str]) -> None:
    import json

    print(json.dumps(rows, indent=1))


def _catalogue_table(entries: "list[Entry]", *, narrow: bool) -> "Table":
    from rich.box import SIMPLE
    from rich.table import Column, Table

    # On a narrow terminal the other columns wrap, so that the names, which are there to be copied, keep their width.
    width = 10 if narrow else None
    table = Table(
        Column("name", overflow="fold", no_wrap=not narrow),
        Column("tasks", max_width=width),
        Column("data", max_width=width),
        "MB",
        Column("accuracy", max_width=width),
        Column("licence", max_width=width or 14),
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


def _hub_table(found: "list[HubModel]", loadable: Collection[str]) -> "Table":
    from rich.box import SIMPLE
    from rich.table import Column, Table

    table = Table(
        Column("name", overflow="fold"),
        "loads here",
        "model type",
        Column("downloads", justify="right"),
        "licence",
        box=SIMPLE,
    )
    for model in found:
        table.add_row(
            model.name,
            "yes" if model.model_type in loadable else "no",
            model.model_type or "not stated",
            "" if model.downloads is None else f"{model.downloads}",
            model.license or "not stated",
        )
    return table
