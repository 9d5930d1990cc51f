"""Panoptic PNGs against the segments that their JSON lists."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from everymask.doctor.annotations import Record
from everymask.doctor.facts import LabelFacts, label_facts, label_pixels
from everymask.doctor.findings import Finding, finding
from everymask.doctor.fixes import rewrite


@dataclass(frozen=True, slots=True)
class PanopticFacts:
    """Where a PNG and the segments of its JSON disagree; ids as R + 256 G + 65536 B.

    ``unlisted``: ids of the PNG that the JSON does not list; ``absent``: the reverse. ``wrong_areas``,
    ``wrong_boxes``: ids whose pixels the JSON states otherwise. ``swapped``: whether the unlisted ids are listed with
    red and blue exchanged. ``cut_off``: whether they are listed ids of which only the lowest 8 bits are there.
    """

    file: LabelFacts
    unlisted: tuple[int, ...]
    absent: tuple[int, ...]
    wrong_areas: tuple[int, ...]
    wrong_boxes: tuple[int, ...]
    swapped: bool
    cut_off: bool


def look_at_panoptic(content: bytes, segments: Sequence[Record]) -> PanopticFacts | str:
    """The facts of a panoptic PNG file and its ``segments_info``, or why it cannot be read."""
    pixels = label_pixels(content)
    if isinstance(pixels, str):
        return pixels
    file = label_facts(pixels)
    listed = {segment["id"]: segment for segment in segments if isinstance(segment.get("id"), int)}
    found = _measure(pixels.values)
    unlisted = sorted(set(found) - set(listed) - {0})
    absent = sorted(set(listed) - set(found))
    both = sorted(set(found) & set(listed))
    return PanopticFacts(
        file,
        tuple(unlisted),
        tuple(absent),
        tuple(each for each in both if listed[each].get("area") not in (None, found[each][0])),
        tuple(each for each in both if "bbox" in listed[each] and list(listed[each]["bbox"]) != found[each][1]),
        bool(unlisted) and {_swap(each) for each in unlisted} <= set(listed),
        bool(unlisted) and file.channels == 1 and set(unlisted) <= {each % 256 for each in listed},
    )


def _measure(ids: NDArray[np.int64]) -> dict[int, tuple[int, list[int]]]:
    """The area and the box [x, y, width, height] of every id of a map, (H, W)."""
    flat = ids.ravel()
    order = np.argsort(flat, kind="stable")
    values, starts, counts = np.unique(flat[order], return_index=True, return_counts=True)
    y, x = np.divmod(order, ids.shape[1])
    left, right = np.minimum.reduceat(x, starts), np.maximum.reduceat(x, starts)
    top, bottom = np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts)
    boxes = np.stack([left, top, right - left + 1, bottom - top + 1], axis=1)  # (K, 4)
    return {int(value): (int(count), box) for value, count, box in zip(values, counts, boxes.tolist(), strict=True)}


def _swap(number: int) -> int:
    red, green, blue = number & 255, number >> 8 & 255, number >> 16
    return blue | green << 8 | red << 16


def check_panoptic(looked: Sequence[tuple[str, PanopticFacts]], member: str) -> list[Finding]:
    """Findings about PNGs, given by their names, and the JSON file ``member``."""
    swapped = [name for name, facts in looked if facts.swapped]
    cut_off = [name for name, facts in looked if facts.cut_off]
    grey = [name for name, facts in looked if facts.file.channels == 1 and not facts.cut_off]
    explained = {*swapped, *cut_off}
    rest = [(name, facts) for name, facts in looked if name not in explained]
    unlisted = [f"{name}: id {each}" for name, facts in rest for each in facts.unlisted]
    absent = [f"{name}: id {each}" for name, facts in rest for each in facts.absent]
    areas = [f"{name}: id {each}" for name, facts in rest for each in facts.wrong_areas]
    boxes = [f"{name}: id {each}" for name, facts in rest for each in facts.wrong_boxes]
    findings = []
    if swapped:
        findings.append(
            finding(
                "panoptic-bgr",
                "error",
                "panoptic PNGs hold ids with red and blue exchanged, as OpenCV writes an RGB array",
                swapped,
                rewrite("np.asarray(Image.open(f))[..., ::-1]", only=swapped),
            )
        )
    if cut_off:
        findings.append(
            finding(
                "bit-depth",
                "error",
                "panoptic PNGs have 8 bits: of every id only the lowest 8 are there",
                cut_off,
                "write the ids as RGB: np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype('uint8')",
            )
        )
    if grey:
        findings.append(
            finding(
                "panoptic-not-rgb",
                "error",
                "panoptic PNGs are single-channel, their ids have to be colours: R + 256 G + 65536 B",
                grey,
                rewrite(
                    "(lambda a: np.stack([a % 256, a // 256, 0 * a], axis=-1))(np.asarray(Image.open(f)).astype(int))",
                    only=grey,
                ),
            )
        )
    if unlisted:
        findings.append(
            finding(
                "panoptic-id-not-in-json",
                "error",
                f"PNGs hold ids that {member} does not list for them",
                unlisted,
                f"{member}: add a segment with this id to the image's 'segments_info', or set its pixels to 0",
            )
        )
    if absent:
        findings.append(
            finding(
                "panoptic-id-not-in-png",
                "error",
                f"{member} lists segments that have no pixel in their PNG",
                absent,
                f"{member}: remove these segments from 'segments_info'",
            )
        )
    if areas:
        findings.append(
            finding(
                "panoptic-area",
                "warning",
                f"{member} states areas that are not the number of pixels in the PNG",
                areas,
                f"{member}: set 'area' to the number of pixels with this id",
            )
        )
    if boxes and not areas:
        findings.append(
            finding(
                "box-mismatch",
                "warning",
                f"{member} states boxes that are not those of the pixels in the PNG",
                boxes,
                f"{member}: set 'bbox' to the segment's [x, y, width, height]",
            )
        )
    return findings
