"""Depth files beside images: what their numbers mean, and data sets that have them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everymask.datasets.class_file import CLASS_FILES, read_class_file, read_document
from everymask.datasets.dataset import Truth
from everymask.datasets.pictures import read_grey_png
from everymask.datasets.pixel_maps import Entry, PixelMaps, check_size, size_of_image
from everymask.datasets.storage import Storage
from everymask.errors import DataError
from everymask.formats import depth_npz, depth_png, depth_tiff
from everymask.geometry import Size
from everymask.segmentation import DEPTH_UNITS, DepthKind

DEPTH_FILES = ("depth.yaml", "depth.yml", "depth.json")
UNITS: Mapping[str, Fraction] = {
    name: Fraction(1, parts)
    for names, parts in (
        (("m", "metres", "meters"), 1),
        (("cm", "centimetres", "centimeters"), 100),
        (("mm", "millimetres", "millimeters"), 1000),
    )
    for name in names
}
"""The metres of each unit."""


@dataclass(frozen=True, slots=True)
class DepthEncoding:
    """Depth is ``step`` times the number stored, and not known where that is 0: metres, or relative depth."""

    kind: DepthKind
    step: float


@dataclass(frozen=True)
class DepthMaps(PixelMaps):
    """A ``DepthDataSet``: images with a depth file beside each, and perhaps PNGs of classes.

    ``encoding``: of files that do not say themselves what they hold; None where there are none.
    """

    depth_kind: DepthKind
    encoding: DepthEncoding | None = field(repr=False)

    def read_depth(self, index: int) -> NDArray[np.float32]:
        """The depth of every pixel, (H, W) float32, 0 where it is not known (``DepthDataSet.read_depth``)."""
        entry = self.entries[index]
        assert entry.depth is not None
        depth, kind = read_depth_file(self.storage, entry.depth, self.encoding)
        if kind != self.depth_kind:
            raise DataError(
                f"{self.storage.where(entry.depth)} holds {kind} depth and the data set {self.depth_kind} depth: keep "
                "one kind, and take the other files elsewhere"
            )
        check_size(self.storage, entry, entry.depth, Size(*depth.shape), "depths")
        return depth


def read_depth_encoding(storage: Storage) -> DepthEncoding | None:
    """What depth.yaml (.yml, .json) at the top of a folder says of depth files, or ``depth:`` in the list of classes.

    None where neither says anything. Raises DataError for wrong statements, and for several.
    """
    stated = [(read_document(storage, name), storage.where(name)) for name in DEPTH_FILES if name in storage]
    if any(name in storage for name in CLASS_FILES):
        classes, where = read_class_file(storage)
        stated += [(classes["depth"], f"{where}, depth")] if "depth" in classes else []
    if len(stated) > 1:
        raise DataError(f"{stated[0][1]} and {stated[1][1]} both say what depth files hold: keep one of them")
    return depth_encoding(*stated[0]) if stated else None


def depth_encoding(content: Any, where: str) -> DepthEncoding:
    """What the numbers in depth files mean:

        scale: 1/256      # a step of the numbers stored, in the unit; without it, 1. KITTI has 1/256, NYU 1/1000
        unit: metres      # or centimetres, millimetres; without it, metres
        kind: metric      # or relative: an inverse depth without a unit, larger is nearer; without it, metric

    Of metric depth the scale or the unit must be there. Raises DataError, calling it ``where``, for all else.
    """
    known = ("scale", "unit", "kind")
    if not isinstance(content, dict) or not set(content) <= set(known):
        raise DataError(f"{where} must say {', '.join(known)}, as in scale: 1/256; it is {content!r}")
    kind: DepthKind | None = next((each for each in DEPTH_UNITS if each == content.get("kind", "metric")), None)
    if kind is None:
        raise DataError(f"{where}: kind is {content['kind']!r}; it is one of {', '.join(DEPTH_UNITS)}")
    unit = str(content.get("unit", "metres"))
    if "unit" in content and (kind == "relative" or unit not in UNITS):
        cure = "leave it out, for relative depth has none" if kind == "relative" else f"it is one of {', '.join(UNITS)}"
        raise DataError(f"{where}: unit is {content['unit']!r}; {cure}")
    if kind == "metric" and not {"scale", "unit"} & set(content):
        raise DataError(f"{where} must say how many metres a step of the numbers stored is, as in scale: 1/256")
    try:
        step = float(Fraction(str(content.get("scale", 1))) * UNITS[unit])
    except (ValueError, OverflowError, ZeroDivisionError):
        step = 0.0
    if step <= 0:
        raise DataError(f"{where}: scale is {content['scale']!r}; it is a number above 0, such as 0.001 or 1/256")
    return DepthEncoding(kind, step)


def kind_of_depths(storage: Storage, member: str, encoding: DepthEncoding | None) -> DepthKind:
    """The kind of all depths of a data set: what is stated, or else that of its file ``member``. Raises DataError."""
    return encoding.kind if encoding is not None else read_depth_file(storage, member, None)[1]


def read_depth_file(
    storage: Storage, member: str, encoding: DepthEncoding | None
) -> tuple[NDArray[np.float32], DepthKind]:
    """The depth (H, W) float32 in a file, 0 where it is not known, and its kind.

    Files that everymask saved (``formats``) say themselves what they hold; for other PNGs ``encoding`` does. Raises
    DataError where the file is missing or damaged, or nothing says what it holds.
    """
    where = storage.where(member)
    content = storage.read(member)
    suffix = member.lower().rpartition(".")[2]
    if suffix == "npz":
        depth, kind = depth_npz.decode(content, where)
    elif suffix in ("tif", "tiff"):
        depth, kind = depth_tiff.decode(content, where)
    elif depth_png.is_described(content):
        depth, kind = depth_png.decode(content, where)
    else:
        stored = read_grey_png(storage, member)  # (H, W)
        if encoding is None:
            raise DataError(
                f"nothing says how deep the numbers in {where} are: write {storage.where(DEPTH_FILES[0])} with the "
                "metres of a step, as in scale: 1/256 (KITTI's files) or scale: 0.001 (NYU's)"
            )
        depth, kind = (stored * encoding.step).astype(np.float32), encoding.kind
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0)), kind


def describe_depth(kind: DepthKind, encoding: DepthEncoding | None) -> str:
    """For ``Conventions.depth``."""
    meaning = "metres" if kind == "metric" else "inverse depth without a unit"
    step = "as its files say" if encoding is None else f"the number stored * {encoding.step:g} in PNGs without a scale"
    return f"depth/: {meaning}, {step}; 0 is unknown"


def nothing_annotated(storage: Storage, entry: Entry) -> Truth:
    """The truth of an image without segments: nothing is annotated."""
    size = size_of_image(storage, entry)
    return Truth(size, (), np.zeros(size, np.int32))
