"""Panoptic decoding: every pixel goes to one query (Mask2Former, section 4.1; MaskFormer, section 3.4)."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from everymask.decoding import dense
from everymask.decoding.options import DecodingOptions
from everymask.decoding.queries_native import compete_natively
from everymask.decoding.regions import Regions, find_regions, relabel
from everymask.decoding.resizing import ROUNDING, Grid, logit
from everymask.geometry import Size
from everymask.labels import LabelSet
from everymask.segmentation import Dropped, Region, Segment, Segmentation


@dataclass(frozen=True, slots=True)
class _Contest:
    """Who got which pixels. Query k of the K that took part has the id k + 1."""

    id_map: NDArray[np.int32]  # (H, W): the winner where its own mask holds the pixel, else 0
    won: list[int]  # (K,) pixels where the query's score times mask is the highest
    claimed: list[int]  # (K,) pixels of the query's own mask
    regions: Regions  # of the ids 0 .. K in id_map


def decode_panoptic(
    probabilities: Tensor, mask_logits: Tensor, grid: Grid, size: Size, labels: LabelSet, options: DecodingOptions
) -> Segmentation:
    """Reads ``probabilities`` (Q, C + 1) float32 and ``mask_logits`` (Q, h, w) as a panoptic segmentation.

    Queries whose best class is an object and whose score is above the threshold compete for every pixel with score
    times mask probability. A query's segment is where it wins and its own mask holds the pixel. It is dropped when
    the pixels it wins are a smaller share of its mask than the overlap threshold. The stuff segments of a class
    are one segment with the highest of their scores.
    """
    probabilities = probabilities.cpu()  # at once, before they are asked one by one
    score, label = (values.tolist() for values in probabilities[:, :-1].max(1))
    reasons = _unfit(probabilities, options.threshold)
    kept = [query for query in range(len(score)) if query not in reasons]
    scores = torch.tensor([score[query] for query in kept], device=mask_logits.device)
    contest = _compete(mask_logits[kept].float(), scores, grid, size, logit(options.mask_threshold))

    groups: dict[tuple[int, int], list[int]] = {}  # the ids in id_map that make up a segment
    areas = zip(contest.won, contest.claimed, contest.regions.area[1:].tolist(), strict=True)
    for id, (query, (won, claimed, visible)) in enumerate(zip(kept, areas, strict=True), start=1):
        if claimed == 0:
            reasons[query] = f"no pixel of its mask reaches the mask threshold {options.mask_threshold:g}"
        elif won == 0:
            reasons[query] = "wins no pixel"
        elif visible == 0:
            reasons[query] = "wins no pixel of its own mask"
        elif won / claimed < options.overlap_threshold:
            share = f"keeps {100 * won / claimed:.3g} % of its mask"
            reasons[query] = f"{share}, below the overlap threshold {options.overlap_threshold:g}"
        else:
            thing = query if labels.things[label[query]] else -1
            groups.setdefault((label[query], thing), []).append(id)

    segments = []
    new_ids = np.zeros(len(kept) + 1, np.int32)
    ranked = sorted(groups.items(), key=lambda group: max(score[kept[id - 1]] for id in group[1]), reverse=True)
    for new_id, ((label_id, _), ids) in enumerate(ranked, start=1):
        new_ids[ids] = new_id
        segments.append(
            Segment(
                id=new_id,
                label=labels.names[label_id],
                label_id=label_id,
                score=max(score[kept[id - 1]] for id in ids),
                area=int(contest.regions.area[ids].sum()),
                box=contest.regions.box(ids),
                is_thing=labels.things[label_id],
                pixels=Region(contest.id_map, new_id),
                query=kept[ids[0] - 1],
            )
        )
    relabel(contest.id_map, new_ids)
    dropped = None
    if options.explain:
        dropped = tuple(Dropped(q, labels.names[label[q]], score[q], reasons[q]) for q in sorted(reasons))
    return Segmentation("panoptic", size, tuple(segments), contest.id_map, labels, dropped=dropped)


def _unfit(probabilities: Tensor, threshold: float) -> dict[int, str]:
    """The queries that take no part, by probabilities (Q, C + 1), and why."""
    no_object = probabilities[:, -1].tolist()
    score = probabilities[:, :-1].amax(1).tolist()
    reasons = {}
    for query in range(len(score)):
        if no_object[query] > score[query]:
            reasons[query] = f"best class is no object ({no_object[query]:.4g})"
        elif not score[query] > threshold:
            reasons[query] = f"score {score[query]:.4g} is not above the threshold {threshold:g}"
    return reasons


def _compete(logits: Tensor, scores: Tensor, grid: Grid, size: Size, mask_logit: float) -> _Contest:
    """Gives every pixel to the query with the highest score times mask: logits (K, h, w), scores (K,)."""
    if len(scores) == 0:
        id_map = np.zeros(size, np.int32)
        return _Contest(id_map, [], [], find_regions(id_map, 1))
    if logits.device.type != "cpu":
        return _compete_densely(logits, scores, grid, size, mask_logit)
    found = compete_natively(logits, scores, grid, mask_logit)
    if found is None:
        return _compete_in_cells(logits, scores, grid, size, mask_logit)
    return _Contest(*found, find_regions(found[0], len(scores) + 1))


def _compete_in_cells(logits: Tensor, scores: Tensor, grid: Grid, size: Size, mask_logit: float) -> _Contest:
    """The same by torch alone, for one query or more.

    All inside one cell is decided together where the bounds of the logits allow it, else pixel by pixel among the
    queries that the bounds do not rule out.
    """
    count = len(scores)
    id_map = np.zeros(size, np.int32)
    all_won, all_claimed = torch.zeros(count, dtype=torch.int64), torch.zeros(count, dtype=torch.int64)
    for band in grid.bands(count):
        smallest, largest = band.bounds(logits)  # (K, R, C)
        weakest, strongest = (scores[:, None, None] * bound.sigmoid() for bound in (smallest, largest))
        may_win = strongest * ROUNDING >= weakest.amax(0)
        crosses = (smallest < mask_logit) & (largest >= mask_logit)  # the border of the mask is in the cell
        whole = smallest >= mask_logit  # the mask holds the whole cell

        # Settled: one query wins the whole cell, and no mask has its border there.
        settled = (may_win.sum(0) == 1) & ~crosses.any(0)  # (R, C)
        winner = strongest.max(0).indices  # (R, C), where settled
        all_won.index_add_(0, winner[settled], band.pixels[settled])
        unsettled = (may_win | crosses) & ~settled  # (K, R, C): the rivals in the cells that are left
        all_claimed.add_((whole & ~unsettled).mul(band.pixels).sum((1, 2)))
        ids = ((winner + 1) * (settled & (may_win & whole).any(0))).int()  # (R, C)
        ids = ids[:, None, :, None].repeat(1, band.rows.slots, 1, band.columns.slots)  # (R, S, C, P)

        rivals = unsettled.sum(0)
        for depth in range(1, int(rivals.max()) + 1):
            for cells in band.pieces(rivals == depth, depth):
                # By rising number, so that the first of equals wins.
                rival = unsettled[:, cells.rows, cells.columns].T.nonzero()[:, 1].view(-1, depth).T  # (depth, G)
                resized = band.resize_cells(logits, rival, cells)  # (depth, S, P, G)
                pixel = ~resized[0].isnan()  # (S, P, G)
                held = resized >= mask_logit
                all_claimed.index_add_(0, rival.flatten(), held.flatten(1, 2).sum(1).flatten())
                best = resized.sigmoid_().mul_(scores[rival][:, None, None]).max(0).indices[None]  # (1, S, P, G)
                winner = rival[:, None, None].expand(held.shape).gather(0, best)[0]  # (S, P, G)
                all_won.add_(torch.bincount(winner[pixel], minlength=count))
                found = ((winner + 1) * held.gather(0, best)[0]).int()
                ids[cells.rows, cells.slots, cells.columns] = found.permute(2, 0, 1)  # (G, S, P)
        id_map[band.rows.pixels] = band.to_image(ids)
    return _Contest(id_map, all_won.tolist(), all_claimed.tolist(), find_regions(id_map, count + 1))


def _compete_densely(logits: Tensor, scores: Tensor, grid: Grid, size: Size, mask_logit: float) -> _Contest:
    """The same on a GPU, for one query or more."""
    found = dense.to_host(dense.compete(logits, scores, grid, size, mask_logit))
    return _Contest(found.id_map.astype(np.int32), found.won[1:].tolist(), found.claimed[1:].tolist(), found.regions)
