"""What ModelScope's pipeline takes as an image, as everymask's reader takes it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everymask.errors import ImageError
from everymask.images.arrays import is_tensor

_FILE = ":FILE"  # ends the name of a column of an MsDataset that holds paths


def is_one_image(source: object) -> bool:
    """Whether ``source`` is an image or a row, not several of them: a data set or another iterable."""
    if isinstance(source, str | bytes | bytearray | memoryview | np.ndarray | Mapping):
        return True
    if is_tensor(source) or hasattr(source, "read"):
        return True
    return not (hasattr(source, "__iter__") or hasattr(source, "__getitem__"))


def as_source(image: Any) -> Any:
    """``image`` as ``read_image`` takes it: of a row its image, and of an array red, green, blue.

    Arrays are blue, green, red as OpenCV has them, with alpha after that or without; (H, W) is grey. Everything else is
    as it was. Raises ImageError for a row that has no image, or several.
    """
    if isinstance(image, Mapping):
        image = _image_of(image)
    return _rgb(image) if isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] in (3, 4) else image


def _rgb(image: NDArray[Any]) -> NDArray[Any]:
    return image[:, :, [2, 1, 0, 3][: image.shape[2]]]


def _image_of(row: Mapping[Any, Any]) -> Any:
    """The value of the column "image", or of the only one whose name ends so, such as "InputImage:FILE"."""
    columns = {column: str(column).removesuffix(_FILE).lower() for column in row}
    found = [column for column, name in columns.items() if name == "image"]
    found = found or [column for column, name in columns.items() if name.endswith("image")]
    if len(found) != 1:
        raise ImageError(
            f"a row with the columns {', '.join(map(repr, row)) or 'of none'} has {len(found) or 'no'} columns for the "
            'image; pass the value of the one that is meant, e.g. row["photo"]'
        )
    return row[found[0]]
