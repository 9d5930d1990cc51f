"""Folders of photographs with a class for every pixel, laid out as CamVid's.

images/{split}/NAME.jpg    the photographs, of any readable image format
labels/{split}/NAME.png    single-channel PNG, the class index of each pixel
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from everymask.errors import DataError
from everymask.geometry import Size

# "P" stores indices into a palette that is only for looking at: the indices are the classes.
_INDEX_MODES = ("L", "P", "I;16")


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """A photograph and the class map that belongs to it."""

    image: Path
    labels: Path


def list_class_maps(root: Path, split: str) -> tuple[AnnotatedImage, ...]:
    """The annotated images of a split, sorted by name. Raises DataError where a folder or a partner is missing."""
    images = _files_by_stem(root / "images" / split, root, split)
    labels = _files_by_stem(root / "labels" / split, root, split)
    for name, lonely, other in (
        ("image", images.keys() - labels.keys(), "labels"),
        ("label file", labels.keys() - images.keys(), "images"),
    ):
        if lonely:
            raise DataError(
                f"{len(lonely)} {name}(s) have no partner in {root / other / split}, the first is {min(lonely)}: "
                "add what is missing, with the same name up to the suffix, or remove them"
            )
    if not images:
        raise DataError(f"{root / 'images' / split} holds no images")
    return tuple(AnnotatedImage(images[stem], labels[stem]) for stem in sorted(images))


def read_class_map(path: Path, size: Size, num_classes: int) -> NDArray[np.int64]:
    """The class index of each pixel, (H, W) int64.

    Values that are neither a class nor one of ``ignored_values(num_classes)`` raise DataError, as do an unreadable
    file, one that is not single-channel and one whose size is not ``size``, the photograph's.
    """
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            mode = picture.mode
            classes = np.asarray(picture).astype(np.int64)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # SyntaxError is what Pillow raises for a broken PNG chunk.
        raise DataError(f"{path} cannot be read as a PNG: {error}") from error
    if mode not in _INDEX_MODES:
        raise DataError(
            f"{path} has the mode {mode}: labels must be single-channel PNGs that hold class indices, not colours"
        )
    if classes.shape != size:
        raise DataError(
            f"{path} is {classes.shape[1]} x {classes.shape[0]} pixels and its image {size.width} x {size.height}: "
            "labels must have the size of their image"
        )
    allowed = [*range(num_classes), *ignored_values(num_classes)]
    if not np.isin(classes, allowed).all():
        value = int(classes[~np.isin(classes, allowed)][0])
        raise DataError(
            f"{path} holds the value {value}, which is neither one of the {num_classes} classes nor the ignored "
            f"{' or '.join(map(str, ignored_values(num_classes)))}: is the model made for this data?"
        )
    return classes


def ignored_values(num_classes: int) -> tuple[int, int]:
    """The values that mean "no class here".

    One past the last class (CamVid's void is 11 beside the classes 0..10), and the largest value the file can hold:
    255, or 65535 where 255 is a class.
    """
    return num_classes, 255 if num_classes <= 255 else 65535


def _files_by_stem(folder: Path, root: Path, split: str) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder: the data is expected as {root}/images/{split}/NAME.jpg "
            f"with {root}/labels/{split}/NAME.png"
        )
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_file():
            continue
        if path.stem in files:
            raise DataError(f"{folder} holds both {files[path.stem].name} and {path.name}: keep one of them")
        files[path.stem] = path
    return files
