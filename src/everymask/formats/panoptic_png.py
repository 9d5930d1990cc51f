"""The COCO panoptic format (https://cocodataset.org/#format-data, section 4): a PNG of ids and their description."""

import io
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from everymask.atomic import Content
from everymask.errors import DataError, OptionError
from everymask.formats.coco import categories, image_entry
from everymask.formats.requirements import require_segments
from everymask.segmentation import Segmentation


def encode(result: Segmentation, stem: str) -> dict[str, Content]:
    """``{stem}.panoptic.png`` and ``{stem}.panoptic.json``.

    A pixel of segment ``id`` is (red, green, blue) with id = red + 256 green + 65536 blue; 0 is no segment. The JSON is
    the one that panopticapi reads: "images", "categories" and one entry in "annotations", whose "segments_info" gives
    every segment's id, category_id (the label's index), isthing, area, bbox, iscrowd and, unless semantic, score.

    Raises OptionError for instance results, whose masks may overlap, which a map of ids cannot hold, and for a result
    of depth alone.
    """
    require_segments(result, "panoptic-png")
    if result.id_map is None:
        raise OptionError(
            f"panoptic-png holds one segment per pixel, and {result.task} masks may overlap; save as coco or masks"
        )
    rgb = np.empty((*result.size, 3), np.uint8)
    for channel in range(3):
        rgb[..., channel] = result.id_map >> (8 * channel)  # the cast to uint8 keeps the low byte
    png = io.BytesIO()
    Image.fromarray(rgb).save(png, "PNG")

    image = image_entry(result, stem)
    segments_info: list[dict[str, object]] = []
    for segment in result.segments:
        info = {
            "id": segment.id,
            "category_id": segment.label_id,
            "isthing": int(segment.is_thing),
            "area": segment.area,
            "bbox": list(segment.box),
            "iscrowd": 0,
        }
        segments_info.append(info if segment.score is None else {**info, "score": segment.score})
    annotation = {"image_id": image["id"], "file_name": f"{stem}.panoptic.png", "segments_info": segments_info}
    document = {"images": [image], "annotations": [annotation], "categories": categories(result.labels)}
    return {
        f"{stem}.panoptic.png": png.getvalue(),
        f"{stem}.panoptic.json": json.dumps(document).encode(),
    }


def read(path: str | Path) -> NDArray[np.int32]:
    """The id map of a COCO panoptic PNG, (H, W) int32 with 0 for "no segment". Raises DataError."""
    try:
        with Image.open(path) as png:
            if png.mode != "RGB":
                raise DataError(
                    f"{path} is a {png.mode} picture, but the ids of a panoptic PNG are in red, green, blue"
                )
            rgb = np.asarray(png).astype(np.int32)  # (H, W, 3)
    except OSError as error:
        raise DataError(f"cannot read {path} as a panoptic PNG: {error}; save it again as panoptic-png") from error
    ids: NDArray[np.int32] = rgb[..., 0] | rgb[..., 1] << 8 | rgb[..., 2] << 16
    return ids
