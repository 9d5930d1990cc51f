"""``everymask quantize``: a model in int8, with ranges learnt from images."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from everymask.cli.options import Overlap, Size, Window, read_size, read_window
from everymask.errors import EverymaskError

if TYPE_CHECKING:
    from everymask.datasets.dataset import DataSet


def quantize(
    model: Annotated[str, typer.Argument(help="A bundled name, a folder or a Hub id.")],
    images: Annotated[
        str, typer.Argument(help="Images such as the model will meet: a folder of them, or annotated data.")
    ],
    output: Annotated[Path, typer.Option(help="The folder for the result: a new one, or the model's own, to add to.")],
    split: Annotated[str | None, typer.Option(help="The part of annotated data, such as train.")] = None,
    format: Annotated[
        str | None, typer.Option(help="Of annotated data, as in everymask evaluate.", show_default="recognised")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Learn from N images at most, evenly spread over all.")] = 300,
    size: Size = "checkpoint",
    window: Window = None,
    overlap: Overlap = None,
) -> None:
    """Make an int8 network for --engine openvino --dtype int8, which can be faster and a little less exact.

    It takes inputs of one size: that which the network sees most of the images at. An image that cannot be read is
    reported and left out; the exit status is then 1.
    """
    found = _images(images, format, split)

    from everymask.cli.progress import image_progress
    from everymask.quantization import PASSES
    from everymask.quantization import quantize as make

    with image_progress() as progress:
        bar = progress.add_task("quantizing", total=PASSES * min(limit, len(found)))
        made = make(
            model,
            found,
            output,
            limit=limit,
            size=read_size(size),
            window=read_window(window),
            overlap=overlap,
            seen=lambda: progress.advance(bar),
        )
    others = f"; {made.others} that the network sees at another size were left out" if made.others else ""
    print(f"int8 for an input of {made.size.height} x {made.size.width} pixels, from {made.images} images{others}")
    print(f"run it with --model {output} --engine openvino --dtype int8, measure it with:")
    print(f"everymask evaluate {output} DATA --engine openvino --dtype int8")
    print(f"everymask bench {output} IMAGE --engines openvino --dtype bfloat16,int8")
    if made.failures:
        for failure in made.failures:
            print(f"error: {failure}", file=sys.stderr)
        raise typer.Exit(1)


class _Photographs(Sequence[Any]):
    """The images of a data set, read when they are asked for."""

    def __init__(self, data: "DataSet") -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data.names)

    def __getitem__(self, index: Any) -> Any:
        return self._data.read_image(index)


def _images(location: str, format: str | None, split: str | None) -> Sequence[Any]:
    """The image files directly in a folder; where there are none, the images of the annotated data there."""
    from everymask.cli.inputs import find_inputs

    if format is None and split is None and Path(location).is_dir():
        try:
            return find_inputs([location]).sources
        except EverymaskError:  # no image files: it may be annotated data
            pass
    from everymask.datasets.opening import open_dataset

    return _Photographs(open_dataset(location, format=format, split=split))
