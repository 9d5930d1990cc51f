"""What a segmentation is saved as, one file a format.

A format is a function ``encode(result, stem)`` from a result to what lies in its files, by file name; it writes
nothing itself. ``save`` writes what all of them return.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from everymask.atomic import Content, ready_folder, write
from everymask.errors import OptionError
from everymask.formats import coco, depth_npz, depth_png, depth_tiff, json_summary, masks, overlay, panoptic_png
from everymask.segmentation import Segmentation

FORMATS: dict[str, Callable[[Segmentation, str], dict[str, Content]]] = {
    "overlay": overlay.encode,
    "panoptic-png": panoptic_png.encode,
    "coco": coco.encode,
    "masks": masks.encode,
    "json": json_summary.encode,
    "depth-png": depth_png.encode,
    "depth-tiff": depth_tiff.encode,
    "depth-npz": depth_npz.encode,
    "depth-map": overlay.encode_map,
    "depth-shade": overlay.encode_shade,
    "depth-order": overlay.encode_order,
}


def save(result: Segmentation, folder: str | Path, formats: Sequence[str], stem: str = "image") -> list[Path]:
    """Saves ``result`` into ``folder``, which is made when missing, and returns the files written, in order.

    Every name starts with ``stem``:

    - "overlay": ``{stem}.overlay.png``, the picture with its segments and legend; of depth alone, its colour drawing
    - "panoptic-png": ``{stem}.panoptic.png`` and ``{stem}.panoptic.json``, the COCO panoptic format
    - "coco": ``{stem}.coco.json``, COCO annotations with run-length encoded masks
    - "masks": the folder ``{stem}.masks``, a black and white PNG per segment such as ``001-car.png``
    - "json": ``{stem}.segments.json``, the segments for programs (schema: everymask.formats.json_summary)
    - "depth-png": ``{stem}.depth.png``, the depth in 16 bits, and ``{stem}.depth.json``, its kind, unit and scale
    - "depth-tiff": ``{stem}.depth.tiff``, the depth as 32-bit floating point numbers
    - "depth-npz": ``{stem}.depth.npz``, numpy arrays ``depth``, ``kind`` and ``unit``
    - "depth-map": ``{stem}.depth-map.png``, the depth in colour
    - "depth-shade", "depth-order": ``{stem}.depth-shade.png`` and ``{stem}.depth-order.png``, the picture with its
      segments shaded by depth, or the nearer of overlapping ones on top

    The depth formats need a result with depth; "panoptic-png", "coco" and "masks" need one with segments. The module of
    each format has the function that reads it back.

    Files of an earlier save are replaced. Every format is encoded before the first byte is written, and every file or
    folder gets its name only when it is complete, so what is found under these names is never half a file.

    Raises OptionError for an unknown format, one that cannot hold this result, a stem that is no file name, and a
    folder that cannot be written.
    """
    if isinstance(formats, str):
        raise OptionError(f"formats takes a list of names; write formats=[{formats!r}]")
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise OptionError(f"unknown format {', '.join(map(repr, unknown))}; the formats are {', '.join(FORMATS)}")
    if not stem or any(char in stem for char in "/\\\0"):
        raise OptionError(f"the stem {stem!r} cannot start a file name; use one with letters and without slashes")

    contents: dict[str, Content] = {}
    for name in dict.fromkeys(formats):
        contents |= FORMATS[name](result, stem)
    folder = ready_folder(Path(folder))
    return [write(folder / name, content) for name, content in contents.items()]
