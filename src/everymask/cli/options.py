"""Options that several verbs take."""

from typing import Annotated

import typer

Device = Annotated[
    str, typer.Option(help="auto (cuda, then mps, then cpu), cpu, cuda, cuda:N or mps.", show_default=True)
]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16 (not on the CPU).", show_default=True)]
BatchSize = Annotated[int, typer.Option(min=1, help="Images of equal size that go through the network together.")]
Size = Annotated[
    str,
    typer.Option(
        help="checkpoint (as its file says), published (as its accuracy was measured) or the shortest edge in pixels.",
        show_default=True,
    ),
]


def read_size(text: str) -> str | int:
    """What ``load`` takes as its size, from the text of ``--size``."""
    return int(text) if text.isascii() and text.isdigit() else text
