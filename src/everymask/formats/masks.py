"""A black and white PNG per segment."""

import io
import unicodedata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from everymask.atomic import Content
from everymask.errors import DataError
from everymask.formats.requirements import require_segments
from everymask.segmentation import Segmentation

LONGEST_NAME = 100  # bytes of a label in a file name; file systems take 255 in all


def encode(result: Segmentation, stem: str) -> dict[str, Content]:
    """The folder ``{stem}.masks`` with a 1-bit PNG per segment: its id, its label and ".png", as in ``001-car.png``.

    Raises OptionError for a result of depth alone.
    """
    require_segments(result, "masks")
    files = {}
    for segment in result.segments:
        png = io.BytesIO()
        Image.fromarray(segment.mask).save(png, "PNG")
        files[f"{segment.id:03d}-{file_name_of(segment.label)}.png"] = png.getvalue()
    return {f"{stem}.masks": files}


def file_name_of(label: str) -> str:
    """A label as a part of a file name: letters, digits and marks of any script; the rest becomes single hyphens."""
    kept = "".join(
        char if unicodedata.category(char)[0] in "LMN" else " " for char in unicodedata.normalize("NFC", label)
    )
    name = "-".join(kept.split()).encode()[:LONGEST_NAME].decode(errors="ignore")
    return name.rstrip("-") or "segment"


def read(folder: str | Path) -> dict[int, NDArray[np.bool_]]:
    """The masks, (H, W) bool, of a folder that ``encode`` made, by segment id. Raises DataError."""
    masks = {}
    try:
        for path in sorted(Path(folder).iterdir()):
            with Image.open(path) as png:
                masks[int(path.name.split("-")[0])] = np.asarray(png.convert("1"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {folder} as a folder of masks: {error}; save it again as masks") from error
    return masks
