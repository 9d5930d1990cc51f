"""Polygons, runs and boxes of COCO's instance annotations against their images."""

from typing import Any

import numpy as np
from faster_coco_eval import mask as coco_mask
from numpy.typing import NDArray

from everymask.doctor.annotations import Document, Record
from everymask.doctor.findings import Finding, finding
from everymask.doctor.fixes import edit_json

# Polygons are drawn by hand to fractions of a pixel, and end at the image's last edge or a little after it.
OUTSIDE = 1.0
BOX_TOLERANCE = 2.0

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


def check_geometry(document: Document) -> list[Finding]:
    """Degenerate polygons, those that leave the image, runs of another size, and boxes that do not fit the mask."""
    sizes = {image.get("id"): (image.get("height"), image.get("width")) for image in document.images}
    degenerate: list[str] = []
    outside: list[str] = []
    normalised: list[str] = []
    runs: list[str] = []
    boxes: list[str] = []
    corners = 0
    for name, annotation in document.segments():
        height, width = sizes.get(annotation.get("image_id"), (None, None))
        if not isinstance(height, int) or not isinstance(width, int):
            continue
        segmentation = annotation.get("segmentation")
        if isinstance(segmentation, dict):
            if list(segmentation.get("size", ())) != [height, width]:
                runs.append(name)
                continue
            extent = _runs_extent(segmentation)
        else:
            polygons = _polygons(segmentation)
            sound = [polygon for polygon in polygons if _area(polygon) > 0]
            if not sound or len(sound) < len(polygons):
                degenerate.append(name)
            if not sound:
                continue
            points = np.concatenate(sound)  # (points, 2)
            left, top = points.min(axis=0)
            right, bottom = points.max(axis=0)
            extent = (float(left), float(top), float(right), float(bottom))
            if right <= 1 and bottom <= 1 and min(height, width) > 2:
                normalised.append(name)
                continue
            if min(left, top) < -OUTSIDE or right > width + OUTSIDE or bottom > height + OUTSIDE:
                outside.append(name)
        wrong, as_corners = _box_differs(annotation, extent, (height, width))
        if wrong:
            boxes.append(name)
            corners += as_corners
    return _findings(document.member, degenerate, outside, normalised, runs, boxes, corners)


# Parts of the programs that fixes run. The shoelace formula tells which polygons have an area.
_SIZES = "sizes = {i['id']: (i['width'], i['height']) for i in d['images']}"
_KEEP_SOUND = (
    "[a.update(segmentation=[p for p in a['segmentation'] if len(p) > 5 and len(p) % 2 == 0 and "
    "sum(p[i - 2] * p[i + 1] - p[i] * p[i - 1] for i in range(0, len(p), 2))]) "
    "for a in d['annotations'] if isinstance(a['segmentation'], list)]"
)


def _each_number(expression: str) -> str:
    """A statement that replaces each number ``v`` of each polygon ``p``, its ``i``-th; ``s`` is (width, height)."""
    return (
        f"[a.update(segmentation=[[{expression} for i, v in enumerate(p)] for p in a['segmentation']]) "
        "for a in d['annotations'] for s in [sizes[a['image_id']]] if isinstance(a['segmentation'], list)]"
    )


def _findings(
    member: str,
    degenerate: list[str],
    outside: list[str],
    normalised: list[str],
    runs: list[str],
    boxes: list[str],
    corners: int,
) -> list[Finding]:
    findings = []
    if degenerate:
        findings.append(
            finding(
                "degenerate-polygon",
                "error",
                f"{member}: polygons have fewer than three points, an odd number of coordinates, or no area",
                degenerate,
                edit_json(
                    member, f"{_KEEP_SOUND}; d.update(annotations=[a for a in d['annotations'] if a['segmentation']])"
                ),
            )
        )
    if normalised:
        findings.append(
            finding(
                "normalised-polygon",
                "error",
                f"{member}: all coordinates of a polygon lie in 0..1: they are shares of the image, not pixels",
                normalised,
                edit_json(
                    member,
                    f"{_SIZES}; {_each_number('v * s[i % 2] if max(p) <= 1 else v')}",
                ),
            )
        )
    if outside:
        findings.append(
            finding(
                "polygon-outside",
                "error",
                f"{member}: polygons leave their image",
                outside,
                edit_json(member, f"{_SIZES}; {_each_number('min(max(v, 0), s[i % 2])')}")
                + " cuts them; where all are affected, width and height are exchanged, or the images were resized",
            )
        )
    if runs:
        findings.append(
            finding(
                "runs-of-other-size",
                "error",
                f"{member}: the size of a mask's runs ('segmentation.size', height first) is not that of its image",
                runs,
                f"{member}: encode these masks at the size of their image",
            )
        )
    if boxes and corners > 0.5 * len(boxes):
        findings.append(
            finding(
                "boxes-as-corners",
                "error",
                f"{member}: boxes are given as left, top, right, bottom; COCO's are left, top, width, height",
                boxes,
                edit_json(
                    member,
                    "[a.update(bbox=[x, y, r - x, b - y]) for a in d['annotations'] for x, y, r, b in [a['bbox']]]",
                ),
            )
        )
    elif boxes:
        findings.append(
            finding(
                "box-mismatch",
                "warning",
                f"{member}: boxes are more than {BOX_TOLERANCE:g} pixels away from the extent of their mask",
                boxes,
                f"{member}: set 'bbox' to the mask's [x, y, width, height]; pycocotools.mask.toBbox gives it",
            )
        )
    return findings


def _polygons(segmentation: Any) -> list[NDArray[np.float64]]:
    """Each polygon's points, (points, 2); empty where they are none."""
    if not isinstance(segmentation, list):
        return []
    polygons = segmentation if all(isinstance(each, list) for each in segmentation) else [segmentation]
    sound = [each if len(each) >= 6 and len(each) % 2 == 0 else [] for each in polygons]
    return [np.asarray(each, np.float64).reshape(-1, 2) for each in sound]


def _area(points: NDArray[np.float64]) -> float:
    """The area inside a polygon, (points, 2), by the shoelace formula."""
    if not len(points):
        return 0.0
    x, y = (points - points[0]).T
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2


def _runs_extent(segmentation: Record) -> Box | None:
    """The extent of runs; None where they are empty or cannot be read, which the reader tells."""
    try:
        height, width = segmentation["size"]
        encoded = (
            coco_mask.frPyObjects(segmentation, height, width)
            if isinstance(segmentation["counts"], list)
            else segmentation
        )
        x, y, wide, high = (float(value) for value in coco_mask.toBbox(encoded))
    except (KeyError, TypeError, ValueError):
        return None
    return (x, y, x + wide, y + high) if wide and high else None


def _box_differs(annotation: Record, extent: Box | None, size: tuple[int, int]) -> tuple[bool, bool]:
    """Whether a box is not the mask's, and if so, whether it would be as left, top, right, bottom."""
    box = annotation.get("bbox")
    if extent is None or not isinstance(box, list) or len(box) != 4:
        return False, False
    height, width = size
    left, top, right, bottom = extent
    inside = (max(left, 0), max(top, 0), min(right, width), min(bottom, height))
    x, y, wide, high = (float(value) for value in box)
    given = (x, y, x + wide, y + high)
    if _close(given, extent) or _close(given, inside):
        return False, False
    return True, _close((x, y, wide, high), extent) or _close((x, y, wide, high), inside)


def _close(one: Box, other: Box) -> bool:
    return all(abs(a - b) <= BOX_TOLERANCE for a, b in zip(one, other, strict=True))
