"""Tables on stdout."""

import sys

from rich.console import Console
from rich.table import Table

# Into a pipe or a file there is no width to keep to: a row stays one line.
_PIPE_WIDTH = 160


def print_table(table: Table) -> None:
    """Prints a table whose cells stand for themselves: brackets and colons in a label are no markup."""
    _console().print(table)


def output_width() -> int:
    """The characters that fit into a line of stdout."""
    return _console().width


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, markup=False, emoji=False)
