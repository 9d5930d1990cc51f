"""The command line: ``everymask VERB ...``, a file a verb.

Everything heavy (torch, rich, the library itself) is imported inside the commands, so that ``--help`` is instant.
"""

import sys
from collections.abc import Sequence

import typer

from everymask.cli import bench, check, demo, evaluate, models, quantize, segment, train
from everymask.errors import EverymaskError, OptionError

app = typer.Typer(
    name="everymask",
    help="Segment images with the published segmentation transformers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(segment.segment)
app.command()(demo.demo)
app.command()(models.models)
app.command()(evaluate.evaluate)
app.command()(check.check)
app.command()(train.train)
app.command()(bench.bench)
app.command()(quantize.quantize)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line on ``arguments``, by default the process's, and exits.

    The exit status is 0 when all went well, 1 when something failed (an input, a download, a checkpoint), 2 for wrong
    usage. Every EverymaskError becomes one ``error:`` line on stderr.
    """
    try:
        app(args=arguments)
    except EverymaskError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, OptionError) else 1)
