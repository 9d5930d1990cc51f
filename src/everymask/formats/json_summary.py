"""The plain summary of a result, for programs.

The schema, version 1:

    {
      "version": 1,
      "task": "panoptic" | "instance" | "semantic" | "depth",
      "size": {"height": int, "width": int},            of the original image, in pixels
      "segments": [                                     by falling score (semantic: by falling area)
        {
          "id": int,                                    from 1
          "label": str,
          "label_id": int,                              the label's index in the model's labels, from 0
          "score": float | null,                        0 to 1; null for the semantic task
          "area": int,                                  in pixels
          "box": [x, y, width, height],                 in pixels
          "is_thing": bool,
          "rle": {"size": [height, width], "counts": str},   the mask, as COCO's compressed run-length encoding
          "depth": {"median": float, "minimum": float, "maximum": float}    only if the result has depth
        }
      ],
      "depth": {                                        only if the result has depth
        "kind": "metric" | "relative",                  relative: an inverse depth, larger is nearer
        "unit": "m" | null,                             null for relative depth
        "minimum": float,
        "maximum": float
      }
    }
"""

import json
from dataclasses import asdict
from pathlib import Path

from everymask.atomic import Content
from everymask.errors import DataError
from everymask.formats.coco import rle, runs_of
from everymask.formats.depth_kind import describe_kind
from everymask.segmentation import DepthRange, Segment, Segmentation

VERSION = 1


def encode(result: Segmentation, stem: str) -> dict[str, Content]:
    """``{stem}.segments.json``."""
    segments = [
        {
            "id": segment.id,
            "label": segment.label,
            "label_id": segment.label_id,
            "score": segment.score,
            "area": segment.area,
            "box": list(segment.box),
            "is_thing": segment.is_thing,
            "rle": rle(segment.runs),
            **({} if segment.depth is None else {"depth": asdict(segment.depth)}),
        }
        for segment in result.segments
    ]
    document = {"version": VERSION, "task": result.task, "size": result.size._asdict(), "segments": segments}
    if result.depth is not None and result.depth_kind is not None:
        extremes = {"minimum": float(result.depth.min()), "maximum": float(result.depth.max())}
        document["depth"] = {**describe_kind(result.depth_kind), **extremes}
    return {f"{stem}.segments.json": json.dumps(document).encode()}


def read(path: str | Path) -> tuple[Segment, ...]:
    """The segments of a file that ``encode`` made, their masks as runs. Raises DataError."""
    try:
        document = json.loads(Path(path).read_bytes())
        if document["version"] != VERSION:
            raise DataError(f"{path} has version {document['version']}, not {VERSION}; save it again as json")
        return tuple(
            Segment(
                id=entry["id"],
                label=entry["label"],
                label_id=entry["label_id"],
                score=entry["score"],
                area=entry["area"],
                box=tuple(entry["box"]),
                is_thing=entry["is_thing"],
                pixels=runs_of(entry["rle"]),
                depth=DepthRange(**entry["depth"]) if "depth" in entry else None,
            )
            for entry in document["segments"]
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"cannot read {path} as a summary: {error!r}; save it again as json") from error
