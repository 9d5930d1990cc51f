"""Depth as a 16-bit PNG, and its scale: depth = offset + scale * value.

The description, which lies beside the PNG as JSON and in its text chunks (``depth_kind`` and so on):

    {
      "file_name": str,
      "kind": "metric" | "relative",
      "unit": "m" | null,         null for relative depth, which is larger where it is nearer and has no unit
      "offset": float,            the depth of value 0
      "scale": float              the depth of one step
    }
"""

import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from everymask.atomic import Content
from everymask.errors import DataError
from everymask.formats.depth_kind import describe_kind, parse_kind, read_content
from everymask.segmentation import DepthKind, Segmentation, depth_of

LARGEST = 65_535
KITTI_STEP = 1 / 256  # metres


@dataclass(frozen=True, slots=True)
class Scale:
    """depth = offset + step * value."""

    offset: float
    step: float


def encode(result: Segmentation, stem: str) -> dict[str, Content]:
    """``{stem}.depth.png`` and ``{stem}.depth.json``.

    A metric step is 1/256 m, as in KITTI's files, where all depths are from 0 to 255.99 m; else, and for relative
    depth, the values 0 to 65535 are the range of the depths. No depth changes by more than half a step.
    Raises OptionError when the result has no depth.
    """
    depth, kind = depth_of(result, "depth-png")
    scale = choose_scale(float(depth.min()), float(depth.max()), kind)
    description = {**describe_kind(kind), "offset": scale.offset, "scale": scale.step}
    text = PngImagePlugin.PngInfo()
    for key, value in description.items():
        text.add_text(f"depth_{key}", "" if value is None else str(value))
    values = np.subtract(depth, scale.offset, dtype=np.float64)  # (H, W); float32 would not be exact to half a step
    values /= scale.step
    png = io.BytesIO()
    picture = Image.fromarray(np.rint(values, out=values).astype(np.uint16))
    picture.save(png, "PNG", pnginfo=text, compress_level=1)  # higher levels take four times as long for 3 % less
    document = {"file_name": f"{stem}.depth.png", **description}
    return {f"{stem}.depth.png": png.getvalue(), f"{stem}.depth.json": json.dumps(document).encode()}


def choose_scale(smallest: float, largest: float, kind: DepthKind) -> Scale:
    """The scale for depths in a range."""
    if kind == "metric" and smallest >= 0 and largest <= LARGEST * KITTI_STEP:
        return Scale(0.0, KITTI_STEP)
    return Scale(smallest, (largest - smallest) / LARGEST or 1.0)


def read(path: str | Path) -> tuple[NDArray[np.float32], DepthKind]:
    """The depth (H, W) float32 of a PNG that ``encode`` made, and its kind. Raises DataError."""
    return decode(read_content(path, "PNG"), str(path))


def is_described(content: bytes) -> bool:
    """Whether a PNG says in its text chunks what its values mean, as ``encode`` writes them."""
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as png:
            return "depth_kind" in png.info
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def decode(content: bytes, name: str) -> tuple[NDArray[np.float32], DepthKind]:
    """What ``read`` gives, from the content of a file that errors call ``name``. Raises DataError."""
    try:
        with Image.open(io.BytesIO(content)) as png:
            kind = parse_kind(png.info["depth_kind"])
            offset, step = float(png.info["depth_offset"]), float(png.info["depth_scale"])
            if png.mode not in ("I;16", "I"):  # the second is what Pillow before 11 calls 16 bits
                raise ValueError(f"its pixels are {png.mode}, not 16 bits of grey")
            values = np.asarray(png)  # (H, W), integers up to 65535
        depth = (offset + step * values.astype(np.float64)).astype(np.float32)
    except (OSError, ValueError, KeyError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot read {name} as a depth PNG: {error!r}; save it again as depth-png") from error
    return depth, kind
