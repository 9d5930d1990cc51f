"""Instance decoding: the best (query, class) pairs, with masks that may overlap (Mask2Former, section 4.1)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from everymask.decoding import dense
from everymask.decoding.options import DecodingOptions
from everymask.decoding.resizing import Axis, Grid, logit
from everymask.geometry import Size
from everymask.labels import LabelSet
from everymask.runs import Runs
from everymask.segmentation import Dropped, Segment, Segmentation


@dataclass(frozen=True, slots=True)
class _Mask:
    """A query's mask in the image."""

    runs: Runs
    area: int
    box: tuple[int, int, int, int]
    confidence: float  # the mean mask probability inside the mask, 0 without pixels


def decode_instance(
    probabilities: Tensor, mask_logits: Tensor, grid: Grid, size: Size, labels: LabelSet, options: DecodingOptions
) -> Segmentation:
    """Reads ``probabilities`` (Q, C + 1) float32 and ``mask_logits`` (Q, h, w) as an instance segmentation.

    The best Q (query, class) pairs by class probability are candidates; only thing classes count when the label set
    has stuff. A candidate's score is that probability times the mean mask probability inside its mask. Those with
    a score above the threshold and a mask that has pixels are the segments.
    """
    transposed = Grid(grid.columns, grid.rows)  # runs go down the columns
    mask_logit = logit(options.mask_threshold)
    pairs = _best_pairs(probabilities.cpu(), labels)
    # By query: all its pairs have the same. At most the threshold needs no mask, whose confidence is at most 1.
    queries = list(dict.fromkeys(query for probability, query, _ in pairs if probability > options.threshold))
    masks = dict(zip(queries, _trace_all(mask_logits[queries].float().mT, transposed, mask_logit), strict=True))
    found: list[tuple[float, int, int]] = []  # score, class, query
    reasons: dict[int, str] = {}  # by query: what is wrong with its best pair
    for probability, query, label_id in pairs:
        if not probability > options.threshold:
            reasons.setdefault(query, f"score {probability:.4g} is not above the threshold {options.threshold:g}")
            continue
        mask = masks[query]
        score = probability * mask.confidence
        if mask.area == 0:
            reasons[query] = f"no pixel of its mask reaches the mask threshold {options.mask_threshold:g}"
        elif not score > options.threshold:
            product = f"score {score:.4g} ({probability:.4g} times mask confidence {mask.confidence:.4g})"
            reasons.setdefault(query, f"{product} is not above the threshold {options.threshold:g}")
        else:
            found.append((score, label_id, query))

    found.sort(key=lambda segment: segment[0], reverse=True)
    segments = tuple(
        Segment(
            id=id,
            label=labels.names[label_id],
            label_id=label_id,
            score=score,
            area=masks[query].area,
            box=masks[query].box,
            is_thing=labels.things[label_id],
            pixels=masks[query].runs,
            query=query,
        )
        for id, (score, label_id, query) in enumerate(found, start=1)
    )
    used = {query for _, _, query in found}
    dropped = None
    if options.explain:
        classes = _things(labels) or list(range(len(labels)))
        best, place = (values.tolist() for values in probabilities[:, classes].max(1))
        not_best = f"none of its classes is in the best {len(probabilities)} pairs of a query and a thing class"
        dropped = tuple(
            Dropped(query, labels.names[classes[place[query]]], best[query], reasons.get(query, not_best))
            for query in range(len(probabilities))
            if query not in used
        )
    return Segmentation("instance", size, segments, None, labels, dropped=dropped)


def _things(labels: LabelSet) -> list[int]:
    return [index for index, is_thing in enumerate(labels.things) if is_thing]


def _best_pairs(probabilities: Tensor, labels: LabelSet) -> list[tuple[float, int, int]]:
    """The best Q of all (probability, query, thing class), by falling probability; earlier queries first if equal."""
    things = _things(labels)
    pairs = probabilities[:, things].flatten().sort(descending=True, stable=True)  # (Q * things,)
    best = slice(len(probabilities))
    return [
        (probability, pair // len(things), things[pair % len(things)])
        for probability, pair in zip(pairs.values[best].tolist(), pairs.indices[best].tolist(), strict=True)
    ]


def _trace_all(logits: Tensor, grid: Grid, mask_logit: float) -> Iterator[_Mask]:
    """The masks of queries, from logits (K, w, h) and a grid whose rows are the image's columns."""
    size = Size(int(grid.columns.first[-1]), int(grid.rows.first[-1]))
    sparse = (_trace(each, grid, mask_logit) for each in logits)
    found = sparse if logits.device.type == "cpu" else dense.spans(logits, grid, mask_logit)
    return (_mask(spans, total, size) for spans, total in found)


def _trace(logits: Tensor, grid: Grid, mask_logit: float) -> tuple[NDArray[np.int64], float]:
    """The spans of one mask, as ``dense.spans`` gives them, from logits (w, h): only where the mask may be."""
    height = int(grid.columns.first[-1])
    above = logits >= mask_logit
    touched = Grid(_touched(grid.rows, above.any(1)), _touched(grid.columns, above.any(0)))
    spans, total = [np.zeros(0, np.int64)], 0.0  # starts and ends in turn, counted down the columns
    for band in touched.bands(1):
        resized = band.resize(logits)  # (columns, rows) of pixels
        inside = resized >= mask_logit
        total += float(resized.sigmoid_().mul_(inside).sum())
        padded = np.zeros((inside.shape[0], inside.shape[1] + 1), np.bool_)  # so that spans end with their column
        padded[:, :-1] = inside.numpy()
        x, y = np.divmod(np.flatnonzero(np.diff(padded.ravel(), prepend=False)), padded.shape[1])
        spans.append((x + band.rows.pixels.start) * height + y + band.columns.pixels.start)
    return np.concatenate(spans).reshape(-1, 2), total


def _mask(spans: NDArray[np.int64], total: float, size: Size) -> _Mask:
    """The mask of ``spans`` (n, 2), counted down the columns; ``total`` is the sum of its probability inside."""
    height = size.height
    start, end = spans.T
    runs, area = Runs.from_spans(start, end, size), int((end - start).sum())
    if area == 0:
        return _Mask(runs, 0, (0, 0, 0, 0), 0.0)
    left, right = int(start[0]) // height, int(end[-1] - 1) // height + 1
    top, bottom = int((start % height).min()), int(((end - 1) % height).max()) + 1
    box = left, top, right - left, bottom - top
    return _Mask(runs, area, box, total / area)


def _touched(axis: Axis, above: Tensor) -> Axis:
    """The range of cells that have a corner where ``above`` is True by logit index; an empty range if none has."""
    cells = (above[axis.low] | above[axis.high]).nonzero()[:, 0].tolist()
    return axis[slice(cells[0], cells[-1] + 1)] if cells else axis[slice(0, 0)]
