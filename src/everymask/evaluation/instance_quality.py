"""How well the things of a single image were found, where average precision says little."""

import numpy as np
from faster_coco_eval import mask as coco_mask
from numpy.typing import NDArray

from everymask.datasets.dataset import Truth
from everymask.labels import LabelSet
from everymask.runs import Runs
from everymask.segmentation import Region, Segment, Segmentation

CONFIDENT = 0.5  # the score from which an instance counts as found
MATCH = 0.5  # the IoU above which it is the annotated one


def instance_quality(prediction: Segmentation, truth: Truth, labels: LabelSet) -> float | None:
    """Panoptic quality's formula on masks that may overlap, 0..1: IoUs of the matches / (matches + half the errors).

    Instances with a score of at least 0.5 take, by falling score, the unmatched annotated thing of their class with
    the largest IoU, above 0.5. What is missed and what is found without a match are errors, unless more than
    half of the latter lies in a crowd of its class. None where no thing is annotated.

    It sorts images by how well they went. Average precision would need all images for that: within one, a single
    object that a confident mistake precedes halves it.
    """
    annotated = [each for each in truth.segments if labels.things[each.label_id] and each.area]
    if all(each.is_crowd for each in annotated):
        return None
    found = [each for each in prediction.segments if each.score is not None and each.score >= CONFIDENT]
    true_runs = [_runs(each.pixels) for each in annotated]
    total, matched, excused = 0.0, 0, 0
    taken: set[int] = set()
    for segment in found:
        rivals = [place for place, each in enumerate(annotated) if each.label_id == segment.label_id]
        free = [place for place in rivals if not annotated[place].is_crowd and place not in taken]
        overlaps = _overlaps(segment, [true_runs[place] for place in free], crowd=False)
        if overlaps.size and overlaps.max() > MATCH:
            taken.add(free[int(overlaps.argmax())])
            total += float(overlaps.max())
            matched += 1
        else:
            crowds = [true_runs[place] for place in rivals if annotated[place].is_crowd]
            excused += bool((_overlaps(segment, crowds, crowd=True) > MATCH).any())
    missed = sum(not each.is_crowd for each in annotated) - matched
    wrong = len(found) - matched - excused
    return total / (matched + 0.5 * missed + 0.5 * wrong)


def _overlaps(segment: Segment, others: list[Runs], *, crowd: bool) -> NDArray[np.float64]:
    """The IoU of a segment with each of the others, (N,); with crowds the share of the segment inside them."""
    if not others:
        return np.zeros(0)
    runs = [other.to_coco() for other in others]
    iou = coco_mask.iou([segment.runs.to_coco()], runs, [int(crowd)] * len(others))
    return np.asarray(iou, np.float64).reshape(-1)


def _runs(pixels: Runs | Region) -> Runs:
    return pixels if isinstance(pixels, Runs) else Runs.from_mask(pixels.id_map == pixels.id)
