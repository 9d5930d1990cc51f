"""What a model found drawn beside what annotators say."""

from collections import Counter
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from everymask.datasets.dataset import Truth
from everymask.decoding.regions import find_regions
from everymask.drawing.colors import label_color
from everymask.drawing.comparison import side_by_side
from everymask.evaluation.instance_quality import CONFIDENT
from everymask.labels import LabelSet
from everymask.segmentation import Region, Segment, Segmentation, Task


def compare(prediction: Segmentation, truth: Truth, title: str) -> Image.Image:
    """Photo, prediction and truth side by side, with the labels that are in either below, the largest in truth first.

    ``prediction`` carries its image and is in terms of the data's classes, which ``truth`` indexes. Of instances only
    those are drawn that ``instance_quality`` counts: average precision takes many that nobody would show.
    """
    photo, labels, caption = prediction.image, prediction.labels, "prediction"
    assert photo is not None
    if prediction.task == "instance":
        confident = tuple(each for each in prediction.segments if (each.score or 0) >= CONFIDENT)
        prediction, caption = replace(prediction, segments=confident), f"prediction, scores from {CONFIDENT}"
    annotated = replace(truth_segmentation(truth, labels, prediction.task), image=photo)
    in_truth, found = _areas(annotated), _areas(prediction)
    by_area = sorted(in_truth | found, key=lambda label_id: (-in_truth[label_id], -found[label_id]))
    return side_by_side(
        [("photo", Image.fromarray(photo)), (caption, prediction.draw()), ("truth", annotated.draw())],
        title=title,
        legend=[(labels.names[label_id], label_color(labels, label_id)) for label_id in by_area],
    )


def truth_segmentation(truth: Truth, labels: LabelSet, task: Task) -> Segmentation:
    """An annotation as a Segmentation, as a perfect model would give it: the same drawing and saving works on it.

    ``labels`` are the data set's. Semantic: a segment per class, without what figures ignore. Panoptic: the segments
    as annotated. Instance: the things alone, smaller ones on top. Scores are None.
    """
    if task == "semantic":
        return _semantic(truth, labels)
    segments = _segments(truth, labels)
    if task == "instance":
        things = sorted((each for each in segments if each.is_thing), key=lambda each: each.area)
        return Segmentation(task, truth.size, tuple(things), None, labels)
    return Segmentation(task, truth.size, tuple(segments), truth.id_map, labels)


def _areas(result: Segmentation) -> Counter[int]:
    """Pixels by class; overlaps count twice."""
    areas: Counter[int] = Counter()
    for segment in result.segments:
        areas[segment.label_id] += segment.area
    return areas


def _semantic(truth: Truth, labels: LabelSet) -> Segmentation:
    id_map = truth.class_map() + 1  # (H, W): class c has the id c + 1
    segments = _of_id_map(id_map, [(c + 1, c) for c in range(len(labels))], labels)
    return Segmentation("semantic", truth.size, tuple(segments), id_map, labels)


def _segments(truth: Truth, labels: LabelSet) -> list[Segment]:
    """The segments as annotated, without those that have no pixels; ids are their places + 1."""
    if truth.id_map is not None:
        return _of_id_map(truth.id_map, [(id, s.label_id) for id, s in enumerate(truth.segments, start=1)], labels)
    segments = []
    for id, each in enumerate(truth.segments, start=1):
        assert not isinstance(each.pixels, Region)
        area = each.pixels.area
        if area:
            name, is_thing = labels.names[each.label_id], labels.things[each.label_id]
            segments.append(Segment(id, name, each.label_id, None, area, each.pixels.box, is_thing, each.pixels))
    return segments


def _of_id_map(id_map: NDArray[np.int32], label_ids: list[tuple[int, int]], labels: LabelSet) -> list[Segment]:
    """The segments of an id map, whose ids and label ids are given, by falling area."""
    regions = find_regions(id_map, 1 + max((id for id, _ in label_ids), default=0))
    segments = [
        Segment(
            id=id,
            label=labels.names[label_id],
            label_id=label_id,
            score=None,
            area=int(regions.area[id]),
            box=regions.box([id]),
            is_thing=labels.things[label_id],
            pixels=Region(id_map, id),
        )
        for id, label_id in label_ids
        if regions.area[id]
    ]
    return sorted(segments, key=lambda each: -each.area)
