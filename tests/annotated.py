"""Small annotated data sets, made in memory, and what their truth must be."""

import io
from collections.abc import Iterable, Mapping

import numpy as np
from PIL import Image

from everymask.datasets.dataset import Truth
from everymask.datasets.storage import Storage
from everymask.segmentation import Region

Piece = tuple[int, bool, bytes]


class Files:
    """A source of files that are only in memory."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)

    def names(self) -> list[str]:
        return list(self.files)

    def read(self, name: str) -> bytes:
        return self.files[name]

    def where(self, name: str) -> str:
        return f"data/{name}".rstrip("/")


def storage_of(files: Mapping[str, bytes]) -> Storage:
    """The storage of files in memory, at "data"."""
    return Storage("data", tuple(sorted(files)), "", Files(files))


def png(values: np.ndarray, **options: object) -> bytes:
    """A PNG of an (H, W) or (H, W, 3) array."""
    return _saved(Image.fromarray(values), "PNG", **options)


def palette_png(values: np.ndarray) -> bytes:
    """A PNG with a palette whose indices are an (H, W) uint8 array."""
    picture = Image.fromarray(values)
    picture = picture.copy()
    picture.putpalette(bytes(range(255, -1, -1)) * 3)
    assert picture.mode == "P"
    return _saved(picture, "PNG")


def photo(height: int, width: int, form: str = "JPEG", **options: object) -> bytes:
    """An image file of a size."""
    return _saved(Image.new("RGB", (width, height), (200, 100, 50)), form, **options)


def pieces(truth: Truth) -> list[Piece]:
    """The segments of a truth as (class, crowd, dense mask), sorted; checks that the truth is consistent."""
    assert truth.id_map is not None
    assert truth.id_map.shape == truth.size
    assert truth.id_map.dtype == np.int32
    assert set(np.unique(truth.id_map)) <= set(range(len(truth.segments) + 1))
    found = []
    for place, segment in enumerate(truth.segments, 1):
        assert isinstance(segment.pixels, Region)
        assert segment.pixels.id_map is truth.id_map
        assert segment.pixels.id == place
        mask = truth.id_map == place
        assert segment.area == mask.sum() > 0
        found.append((segment.label_id, segment.is_crowd, mask.tobytes()))
    return sorted(found)


def expected(masks: Iterable[tuple[int, bool, np.ndarray]]) -> list[Piece]:
    """The pieces of (class, crowd, mask); empty masks are none."""
    return sorted((label, crowd, mask.tobytes()) for label, crowd, mask in masks if mask.any())


def _saved(picture: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()
