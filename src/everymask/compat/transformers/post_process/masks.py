"""What transformers' post-processing does to masks: resizing them, and who of them has which pixel.

A mask at a time at the image's size, never all of them. The arithmetic is that of transformers operation by operation,
so that the results are its own to the last pixel; ``everymask.decoding`` is quicker, and rounds in another order.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from everymask.geometry import Size


def resize(values: Tensor, size: Size | None, *, antialias: bool = False) -> Tensor:
    """Bilinear with half-pixel centres, (..., h, w) -> (..., H, W) for up to two leading dimensions.

    ``values`` as they are where no size is wanted. ``antialias`` smooths what becomes smaller.
    """
    if size is None:
        return values
    planes = values[(None,) * (4 - values.ndim)]
    if antialias and planes.dtype != torch.float64:
        planes = planes.float()  # antialiasing knows no half precision
    resized = F.interpolate(planes, size=tuple(size), mode="bilinear", align_corners=False, antialias=antialias)
    return resized.to(values.dtype).view(*values.shape[:-2], *size)


@dataclass(frozen=True, slots=True)
class Contest:
    """Which of K masks has which pixel.

    ``winner`` (H, W) int32: the mask with the highest score times value. ``held`` (H, W) bool: whether that reaches the
    threshold. ``won``, ``claimed`` and ``kept`` (K,) int64: of how many pixels a mask is the winner, how many reach the
    threshold in it, and how many do both.
    """

    winner: Tensor
    held: Tensor
    won: Tensor
    claimed: Tensor
    kept: Tensor

    def stand(self, least_share: float) -> list[bool]:
        """Which masks win pixels, more than that share of what they claim: in float32, as transformers divides."""
        stands: Tensor = (self.won > 0) & (self.claimed > 0)
        shares = (self.won / self.claimed).tolist()
        return [each and share > least_share for each, share in zip(stands.tolist(), shares, strict=True)]


def compete(masks: Iterable[Tensor], scores: Tensor, size: Size, threshold: float, *, weigh_claims: bool) -> Contest:
    """Gives every pixel to one of K masks (H, W) of a size, by ``scores`` (K,) times value; of equals the first has it.

    ``weigh_claims``: whether a mask claims pixels by its value times its score too, as in most families, or by its
    value alone.
    """
    best = scores.new_full(size, -torch.inf)
    winner = torch.zeros_like(best, dtype=torch.int32)
    held = torch.zeros_like(best, dtype=torch.bool)
    claimed = []
    for index, (mask, score) in enumerate(zip(masks, scores, strict=True)):
        value = mask * score
        holds = (value if weigh_claims else mask) >= threshold
        claimed.append(holds.sum())
        wins = value > best
        winner.masked_fill_(wins, index)
        held = torch.where(wins, holds, held)
        best = torch.maximum(best, value)
    won, kept = (torch.bincount(each.flatten(), minlength=len(scores)) for each in (winner, winner[held]))
    return Contest(winner, held, won, torch.stack(claimed), kept)


def best_classes(scores: Tensor, size: Size | None, *, antialias: bool = False) -> Tensor:
    """The class with the highest score at every pixel: (C, h, w) -> (H, W) int64; of equals the first."""
    if size is None:
        return scores.argmax(0)
    best = resize(scores[0], size, antialias=antialias)
    classes = torch.zeros_like(best, dtype=torch.int64)
    for index in range(1, len(scores)):
        value = resize(scores[index], size, antialias=antialias)
        classes.masked_fill_(value > best, index)
        torch.maximum(best, value, out=best)
    return classes


def run_lengths(id_map: Tensor) -> list[list[int]]:
    """Of every value in a map (H, W), the smallest first, its runs in reading order: [start, length, start, ...].

    Pixels are counted from 1, row by row. (COCO counts column by column and gives lengths alone.)
    """
    pixels = id_map.flatten()
    changes = (pixels[1:] != pixels[:-1]).nonzero()[:, 0] + 1
    bounds = torch.cat((changes.new_zeros(1), changes, changes.new_full((1,), len(pixels))))
    runs = torch.stack((bounds[:-1] + 1, bounds.diff()), 1)  # (R, 2)
    values = pixels[bounds[:-1]]
    return [runs[values == value].flatten().tolist() for value in values.unique()]
