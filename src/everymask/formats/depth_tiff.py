"""Depth as a 32-bit floating point TIFF, which geographic and photogrammetric tools read."""

import io
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from everymask.atomic import Content
from everymask.errors import DataError
from everymask.formats.depth_kind import describe_kind, parse_kind, read_content
from everymask.segmentation import DepthKind, Segmentation, depth_of


def encode(result: Segmentation, stem: str) -> dict[str, Content]:
    """``{stem}.depth.tiff``: the depths themselves, uncompressed.

    Its description tag (270) holds JSON: {"kind": "metric" | "relative", "unit": "m" | null}. Raises OptionError when
    the result has no depth.
    """
    depth, kind = depth_of(result, "depth-tiff")
    tiff = io.BytesIO()
    Image.fromarray(depth).save(tiff, "TIFF", description=json.dumps(describe_kind(kind)))
    return {f"{stem}.depth.tiff": tiff.getvalue()}


def read(path: str | Path) -> tuple[NDArray[np.float32], DepthKind]:
    """The depth (H, W) float32 of a TIFF that ``encode`` made, and its kind. Raises DataError."""
    return decode(read_content(path, "TIFF"), str(path))


def decode(content: bytes, name: str) -> tuple[NDArray[np.float32], DepthKind]:
    """What ``read`` gives, from the content of a file that errors call ``name``. Raises DataError."""
    try:
        with Image.open(io.BytesIO(content), formats=["TIFF"]) as tiff:
            assert isinstance(tiff, TiffImagePlugin.TiffImageFile)
            if tiff.mode != "F":
                raise ValueError(f"its pixels are {tiff.mode}, not 32-bit floating point")
            kind = parse_kind(json.loads(tiff.tag_v2[TiffImagePlugin.IMAGEDESCRIPTION])["kind"])
            return np.array(tiff, np.float32), kind
    except (OSError, ValueError, KeyError, TypeError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot read {name} as a depth TIFF: {error!r}; save it again as depth-tiff") from error
