"""Options that several verbs take."""

from typing import Annotated

import typer

Device = Annotated[
    str, typer.Option(help="auto (cuda, then mps, then cpu), cpu, cuda, cuda:N or mps.", show_default=True)
]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16 (not on the CPU).", show_default=True)]
BatchSize = Annotated[int, typer.Option(min=1, help="Images of equal size that go through the network together.")]
