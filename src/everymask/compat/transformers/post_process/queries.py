"""The queries of one image as segments, the way transformers' image processors read them."""

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from everymask.compat.transformers.post_process.canvas import Canvas
from everymask.compat.transformers.post_process.inputs import Reading
from everymask.compat.transformers.post_process.masks import Contest, compete, resize
from everymask.decoding.resizing import logit
from everymask.geometry import Size

Segments = dict[str, Any]
"""What transformers returns for an image: {"segmentation": a map or masks, "segments_info": a dictionary a segment}."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a caller can choose: scores are above ``threshold``, and segments keep more than ``share`` of their mask."""

    threshold: float
    mask_threshold: float
    share: float


@dataclass(frozen=True, slots=True)
class ImageQueries:
    """Q queries of an image, ``class_logits`` (Q, C + 1) and ``mask_logits`` (Q, h, w), and how they are read.

    ``target``: the size of the result; None for that of the masks. ``canvas``: of families that have one; these have a
    target.
    """

    class_logits: Tensor
    mask_logits: Tensor
    reading: Reading
    target: Size | None
    canvas: Canvas | None

    @property
    def size(self) -> Size:
        """The size of the result."""
        return self.target or self.reading.first_size or Size(*self.mask_logits.shape[1:])

    def panoptic(self, limits: Limits, fused: Container[int]) -> Segments:
        """Every pixel to one of the queries whose best class is an object; the classes ``fused`` share an id."""
        scores, labels = self.class_logits.softmax(-1).max(-1)  # (Q,)
        kept = labels.ne(self.class_logits.shape[-1] - 1) & (scores > limits.threshold)
        return self._contested(self._probabilities(kept), scores[kept], labels[kept], limits, fused)

    def instances(self, limits: Limits, *, binary_maps: bool = False) -> Segments:
        """Instances; with ``binary_maps`` the masks of all, (N, H, W) float32, if there are any, in place of a map."""
        if self.reading.instances == "panoptic":
            return self.panoptic(limits, ())
        if self.reading.instances == "contest":
            scores, labels, queries = self._pairs()
            kept = scores > limits.threshold
            masks = (resize(mask, self.target, antialias=True) for mask in self.mask_logits[queries[kept]])
            return self._contested(masks, scores[kept], labels[kept], limits, ())
        found = self._pair_masks(limits) if self.reading.instances == "pairs" else self._query_masks(limits)
        id_map = torch.full(self.size, -1.0, device=self.mask_logits.device)
        infos: list[dict[str, Any]] = []
        maps: list[Tensor] = []
        for score, label, mask in found:
            if mask.any():
                id_map[mask] = len(infos)
                infos.append(self._info(len(infos), label, score, was_fused=False))
                maps += [mask.float()] if binary_maps else []
        return {"segmentation": torch.stack(maps) if maps else id_map, "segments_info": infos}

    def _contested(
        self, masks: Iterable[Tensor], scores: Tensor, labels: Tensor, limits: Limits, fused: Container[int]
    ) -> Segments:
        """The segments of masks (H, W) that compete for the pixels."""
        if not len(scores):
            return {"segmentation": torch.full(self.size, -1.0, device=scores.device), "segments_info": []}
        contest = compete(masks, scores, self.size, limits.mask_threshold, weigh_claims=self.canvas is None)
        stands = contest.stand(limits.share)
        found = [
            (index, label, score)
            for index, (label, score) in enumerate(zip(labels.tolist(), scores.tolist(), strict=True))
            if stands[index]
        ]
        return self._trimmed(contest, found, fused) if self.canvas else self._untrimmed(contest, found, fused)

    def _untrimmed(self, contest: Contest, found: list[tuple[int, int, float]], fused: Container[int]) -> Segments:
        """Segments of all pixels that they win, with ids from 1; an entry for each of the queries that share one."""
        ids = contest.won.new_zeros(len(contest.won), dtype=torch.int32)
        infos: list[dict[str, Any]] = []
        id_of_class: dict[int, int] = {}
        id = 0
        for index, label, score in found:
            # An id that is shared is counted on from, as in transformers, even to one that is taken.
            id = id_of_class.get(label, id + 1)
            if label in fused:
                id_of_class[label] = id
            ids[index] = id
            infos.append(self._info(id, label, score, was_fused=label in fused))
        return {"segmentation": ids[contest.winner], "segments_info": infos}

    def _trimmed(self, contest: Contest, found: list[tuple[int, int, float]], fused: Container[int]) -> Segments:
        """Segments of the pixels that they win and that are in their mask, with ids from 0 and an entry each."""
        kept = contest.kept.tolist()
        ids = torch.full_like(contest.won, -1)
        infos: list[dict[str, Any]] = []
        id_of_class: dict[int, int] = {}
        for index, label, score in found:
            if not kept[index]:
                continue
            if label in id_of_class:
                ids[index] = id_of_class[label]
                continue
            if label in fused:
                id_of_class[label] = len(infos)
            ids[index] = len(infos)
            infos.append(self._info(len(infos), label, score, was_fused=label in fused))
        return {"segmentation": ids[contest.winner].masked_fill_(~contest.held, -1), "segments_info": infos}

    def _info(self, id: int, label: int, score: float, *, was_fused: bool) -> dict[str, Any]:
        told = {} if self.canvas else {"was_fused": was_fused}
        return {"id": id, "label_id": label, **told, "score": round(score, 6)}

    def _probabilities(self, queries: Tensor) -> Iterator[Tensor]:
        """The masks (H, W) of some queries."""
        if self.canvas is not None:
            for mask in self.mask_logits[queries]:
                yield self.canvas.cut_out(mask, self.size).sigmoid()
        else:
            for mask in resize(self.mask_logits[queries], self.reading.first_size):
                yield resize(mask.sigmoid(), self.target, antialias=self.reading.antialias)

    def _pairs(self) -> tuple[Tensor, Tensor, Tensor]:
        """The best Q pairs of a query and a class: scores, classes and queries, (Q,) each."""
        probabilities = self.class_logits.softmax(-1)[:, :-1]
        scores, pairs = probabilities.flatten().topk(len(probabilities), sorted=False)
        return scores, pairs % probabilities.shape[1], pairs.div(probabilities.shape[1], rounding_mode="floor")

    def _pair_masks(self, limits: Limits) -> Iterator[tuple[float, int, Tensor]]:
        """Score, class and mask (H, W) bool of the best pairs; masks are cut at their own size and then resized."""
        masks = resize(self.mask_logits, self.reading.first_size)
        scores, labels, queries = self._pairs()
        inside = masks > _cut(limits)
        scores = scores * _confidence(masks, inside)[queries]
        for score, label, query in zip(scores.tolist(), labels.tolist(), queries.tolist(), strict=True):
            if score >= limits.threshold:
                mask = inside[query]
                if self.target is not None:
                    mask = F.interpolate(mask[None, None].float(), size=tuple(self.target), mode="nearest")[0, 0] > 0
                yield score, label, mask

    def _query_masks(self, limits: Limits) -> Iterator[tuple[float, int, Tensor]]:
        """Score, class and mask (H, W) bool of the queries by their best class."""
        assert self.canvas is not None
        scores, labels = self.class_logits.softmax(-1)[:, :-1].max(-1)
        for probability, label, mask in zip(scores, labels.tolist(), self.mask_logits, strict=True):
            if probability >= limits.threshold:  # no confidence is above 1
                whole = self.canvas.cut_out(mask, self.size)
                inside = whole > _cut(limits)
                score = float(probability * _confidence(whole[None], inside[None])[0])
                if score >= limits.threshold:
                    yield score, label, inside


def _cut(limits: Limits) -> float:
    """The logit from which a pixel is in an instance's mask."""
    return logit(min(max(limits.mask_threshold, 0), 1))


def _confidence(masks: Tensor, inside: Tensor) -> Tensor:
    """The mean probability inside of masks: logits and bool (N, h, w) -> (N,)."""
    total = (masks.sigmoid() * inside).flatten(1).sum(1)
    mean: Tensor = total / (inside.to(masks.dtype).flatten(1).sum(1) + 1e-6)
    return mean
