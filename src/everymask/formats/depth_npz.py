"""Depth as numpy's archive."""

import io
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from everymask.atomic import Content
from everymask.errors import DataError
from everymask.formats.depth_kind import parse_kind, read_content
from everymask.segmentation import DEPTH_UNITS, DepthKind, Segmentation, depth_of

# Whatever numpy and zipfile raise for files that are damaged, encrypted, or something else than an archive.
UNREADABLE = (OSError, ValueError, KeyError, EOFError, TypeError, AttributeError, RuntimeError, zipfile.BadZipFile)


def encode(result: Segmentation, stem: str) -> dict[str, Content]:
    """``{stem}.depth.npz``: arrays ``depth`` (H, W) float32, ``kind`` and ``unit`` (texts; relative depth has no unit,
    which is an empty one). Raises OptionError when the result has no depth.
    """
    depth, kind = depth_of(result, "depth-npz")
    npz = io.BytesIO()
    np.savez(npz, depth=depth, kind=np.array(kind), unit=np.array(DEPTH_UNITS[kind] or ""))
    return {f"{stem}.depth.npz": npz.getvalue()}


def read(path: str | Path) -> tuple[NDArray[np.float32], DepthKind]:
    """The depth (H, W) float32 of an archive that ``encode`` made, and its kind. Raises DataError."""
    return decode(read_content(path, "NPZ"), str(path))


def decode(content: bytes, name: str) -> tuple[NDArray[np.float32], DepthKind]:
    """What ``read`` gives, from the content of a file that errors call ``name``. Raises DataError."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as npz:
            depth, kind = npz["depth"], parse_kind(npz["kind"].item())
            if depth.dtype != np.float32 or depth.ndim != 2:
                raise ValueError(f"its depth is {depth.dtype} {depth.shape}, not float32 (height, width)")
            return depth, kind
    except UNREADABLE as error:
        raise DataError(f"cannot read {name} as a depth NPZ: {error!r}; save it again as depth-npz") from error
