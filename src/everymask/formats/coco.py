"""COCO annotations (https://cocodataset.org/#format-data): masks, which may overlap, as compressed runs."""

import json
from pathlib import Path
from typing import Any

from everymask.atomic import Content
from everymask.errors import DataError
from everymask.formats.requirements import require_segments
from everymask.geometry import Size
from everymask.labels import LabelSet
from everymask.runs import Runs
from everymask.segmentation import Segmentation


def encode(result: Segmentation, stem: str) -> dict[str, Content]:
    """``{stem}.coco.json``: a data set of one image that pycocotools and faster-coco-eval load.

    An annotation has id (the segment's), image_id, category_id (the label's index), segmentation (size and compressed
    counts), bbox, area, iscrowd and, unless semantic, score: the annotations are also valid COCO results.

    Raises OptionError for a result of depth alone.
    """
    require_segments(result, "coco")
    image = image_entry(result, stem)
    annotations: list[dict[str, object]] = []
    for segment in result.segments:
        annotation = {
            "id": segment.id,
            "image_id": image["id"],
            "category_id": segment.label_id,
            "segmentation": rle(segment.runs),
            "bbox": list(segment.box),
            "area": segment.area,
            "iscrowd": 0,
        }
        annotations.append(annotation if segment.score is None else {**annotation, "score": segment.score})
    document = {"images": [image], "annotations": annotations, "categories": categories(result.labels)}
    return {f"{stem}.coco.json": json.dumps(document).encode()}


def read(path: str | Path) -> dict[int, Runs]:
    """The masks of a file that ``encode`` made, by segment id. Raises DataError."""
    try:
        document = json.loads(Path(path).read_bytes())
        return {annotation["id"]: runs_of(annotation["segmentation"]) for annotation in document["annotations"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"cannot read {path} as COCO annotations: {error!r}; save it again as coco") from error


def image_entry(result: Segmentation, stem: str) -> dict[str, object]:
    """The entry of "images". A stem of digits is the image's id, as COCO names its files; else the id is 1."""
    return {
        "id": int(stem) if stem.isdecimal() else 1,
        "file_name": stem,
        "height": result.size.height,
        "width": result.size.width,
    }


def categories(labels: LabelSet) -> list[dict[str, object]]:
    """The entries of "categories": every class by its index, with its colour where it has one."""
    entries: list[dict[str, object]] = []
    for index in labels.classes:
        entry = {"id": index, "name": labels.names[index], "isthing": int(labels.things[index])}
        color = labels.colors[index]
        entries.append(entry if color is None else {**entry, "color": list(color)})
    return entries


def rle(runs: Runs) -> dict[str, object]:
    """Runs as COCO writes them into JSON: the counts as a string."""
    return {"size": list(runs.size), "counts": runs.counts.decode("ascii")}


def runs_of(rle: dict[str, Any]) -> Runs:
    """The runs that ``rle`` wrote."""
    height, width = rle["size"]
    return Runs(Size(height, width), rle["counts"].encode("ascii"))
