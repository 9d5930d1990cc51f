"""The progress bar of verbs that go through many images."""

import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


def image_progress() -> Progress:
    """A bar on stderr with images per second; shown on a terminal only."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _ImagesPerSecond(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
        # On one terminal, lines must be printed above the bar; into a pipe, stdout must stay stdout.
        redirect_stdout=sys.stdout.isatty(),
    )


class _ImagesPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.2g} images/s", style="progress.data.speed")
