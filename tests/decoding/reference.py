"""The dense reference: what decoding means, stated as simply as possible, in float64 and with no regard for memory."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from everymask.decoding import DecodingOptions
from everymask.geometry import Geometry
from everymask.labels import LabelSet

# Two decoders may differ where the deciding values are this close: float32 against float64.
TIE = 1e-5


@dataclass
class Reference:
    """``segments``: (label_id, score, mask) in the order of the result. ``ties``: something is decided by rounding."""

    segments: list[tuple[int, float | None, NDArray[np.bool_]]]
    ties: bool
    dropped: set[int]


def matrix(original: int, resized: int, padded: int, logits: int) -> Tensor:
    """The (original, logits) matrix that resizes one axis."""
    last = -(-resized * logits // padded) - 1
    result = torch.zeros(original, logits, dtype=torch.float64)
    for y in range(original):
        at = min(max((y + 0.5) * (resized / original) * (logits / padded) - 0.5, 0), last)
        lower = int(at)
        result[y, lower] += 1 - (at - lower)
        result[y, min(lower + 1, last)] += at - lower
    return result


def resize(mask_logits: Tensor, geometry: Geometry) -> Tensor:
    """Mask logits (Q, h, w) at the image's pixels: (Q, H, W) float64."""
    sizes = zip(geometry.original, geometry.resized, geometry.padded, mask_logits.shape[1:], strict=True)
    rows, columns = (matrix(*size) for size in sizes)
    return rows @ mask_logits.double() @ columns.T


def decode(
    class_logits: Tensor, mask_logits: Tensor, geometry: Geometry, labels: LabelSet, options: DecodingOptions
) -> Reference:
    """Decodes class logits (Q, C + 1) and mask logits (Q, h, w)."""
    p = class_logits.double().softmax(-1)
    m = resize(mask_logits, geometry).sigmoid()
    return {"panoptic": panoptic, "instance": instance, "semantic": semantic}[options.task](p, m, labels, options)


def top_two_close(values: Tensor) -> Tensor:
    """Whether the best two along the first axis are nearly equal."""
    if len(values) < 2:
        return torch.zeros(values.shape[1:], dtype=torch.bool)
    best, second = values.topk(2, dim=0).values
    return best - second < TIE * best


def close(values: Tensor, threshold: float) -> bool:
    return bool(((values - threshold).abs() < TIE).any())


def panoptic(p: Tensor, m: Tensor, labels: LabelSet, options: DecodingOptions) -> Reference:
    s, c = p[:, :-1].max(1)
    kept = [q for q in range(len(p)) if p[q].argmax() < len(labels) and s[q] > options.threshold]
    ties = close(s, options.threshold) or bool(top_two_close(p.T).any()) or bool((s.sort().values.diff() < TIE).any())
    dropped = set(range(len(p)))
    if not kept:
        return Reference([], ties, dropped)
    contest = s[kept, None, None] * m[kept]
    ties |= bool(top_two_close(contest).any()) or close(m[kept], options.mask_threshold)
    winner = contest.argmax(0)
    things, stuff = [], {}
    for k, q in enumerate(kept):
        wins, own = winner == k, m[q] >= options.mask_threshold
        mask = (wins & own).numpy()
        if not wins.any() or not own.any() or not mask.any():
            continue
        if int(wins.sum()) / int(own.sum()) < options.overlap_threshold:
            continue
        dropped.remove(q)
        label = int(c[q])
        if labels.things[label]:
            things.append((label, float(s[q]), mask))
        else:
            score, union = stuff.get(label, (0.0, np.zeros_like(mask)))
            stuff[label] = max(score, float(s[q])), union | mask
    segments = things + [(label, score, mask) for label, (score, mask) in stuff.items()]
    return Reference(sorted(segments, key=lambda segment: -segment[1]), ties, dropped)


def instance(p: Tensor, m: Tensor, labels: LabelSet, options: DecodingOptions) -> Reference:
    pairs = [(float(p[q, c]), q, c) for q in range(len(p)) for c in range(len(labels)) if labels.things[c]]
    pairs.sort(key=lambda pair: -pair[0])
    ties = any(a[0] - b[0] < TIE for a, b in pairwise(pairs))
    ties |= close(m, options.mask_threshold)
    segments, dropped = [], set(range(len(p)))
    for probability, q, c in pairs[: len(p)]:
        mask = m[q] >= options.mask_threshold
        if not mask.any():
            continue
        score = probability * float(m[q][mask].mean())
        ties |= abs(score - options.threshold) < TIE
        if score > options.threshold:
            segments.append((c, score, mask.numpy()))
            dropped.discard(q)
    segments.sort(key=lambda segment: -segment[1])
    ties |= any(a[1] - b[1] < TIE for a, b in pairwise(segments))
    return Reference(segments, ties, dropped)


def semantic(p: Tensor, m: Tensor, labels: LabelSet, options: DecodingOptions) -> Reference:
    sums = torch.einsum("qc,qhw->chw", p[:, :-1], m)
    classes = sums.argmax(0).numpy()
    areas = np.bincount(classes.ravel(), minlength=len(labels))
    order = sorted(np.flatnonzero(areas).tolist(), key=lambda c: (-areas[c], c))
    return Reference([(c, None, classes == c) for c in order], bool(top_two_close(sums).any()), set())
