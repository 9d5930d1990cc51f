"""Options that several verbs take."""

from typing import Annotated

import typer

from everymask.errors import OptionError

Device = Annotated[
    str, typer.Option(help="auto (cuda, then mps, then cpu), cpu, cuda, cuda:N or mps.", show_default=True)
]
Dtype = Annotated[
    str,
    typer.Option(
        help="auto (bfloat16 where the device has it in hardware, but float32 for depth), float32, bfloat16, float16 "
        "(not on the CPU) or int8 (with openvino, for a folder from everymask quantize).",
        show_default=True,
    ),
]
Engine = Annotated[
    str,
    typer.Option(
        help="What runs the network: eager, auto (the fastest that is installed), openvino, graphs (CUDA graphs, on a "
        "GPU) or compile, which takes minutes at the first image of every size.",
        show_default=True,
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Images of equal size that go through the network together.")]
Size = Annotated[
    str,
    typer.Option(
        help="checkpoint (as its file says), published (as its accuracy was measured) or the shortest edge in pixels.",
        show_default=True,
    ),
]

Window = Annotated[
    str | None,
    typer.Option(
        help="Send images through the network in windows of this side, or HEIGHTxWIDTH, in pixels (semantic task); "
        "images keep their own size unless --size is given.",
    ),
]
Overlap = Annotated[
    float | None, typer.Option(help="How much of a window its neighbours cover, 0 to 0.9.", show_default="0.25")
]


def read_window(text: str | None) -> int | tuple[int, ...] | None:
    """What ``load`` takes as its window, from the text of ``--window``. Raises OptionError for other texts."""
    if text is None:
        return None
    parts = text.lower().split("x")
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise OptionError(f"--window is {text!r}: give a side such as 640, or HEIGHTxWIDTH such as 640x960, in pixels")
    return int(text) if len(parts) == 1 else tuple(int(part) for part in parts)


def read_size(text: str) -> str | int:
    """What ``load`` takes as its size, from the text of ``--size``."""
    return int(text) if text.isascii() and text.isdigit() else text
