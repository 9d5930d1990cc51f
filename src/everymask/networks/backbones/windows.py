"""Attention inside the windows of a map (Liu et al. 2021, section 3.2), which both versions of Swin share."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from everymask.networks.backbones.windows_native import attends_natively, attention_of_windows_native
from everymask.networks.layers.chunks import may_overwrite, tokens_at_once


class WindowAttention(nn.Module):
    """Multi-head attention inside windows with a bias for the relative position of two tokens.

    ``relative_position_index``: what the function of that name gives for ``window``, on the device of the weights.
    """

    relative_position_index: Tensor

    def __init__(self, window: int) -> None:
        super().__init__()
        self.window = window
        self.register_buffer("relative_position_index", relative_position_index(window), persistent=False)

    def position_bias(self) -> Tensor:
        """What is added to the scores of two tokens of a window: (heads, n, n)."""
        raise NotImplementedError

    def forward(self, windows: Tensor, bias: Tensor, regions: Tensor | None) -> Tensor:
        """``windows`` (B, N, n, dim): N windows of n tokens; returns the same shape.

        ``bias`` is the position bias; ``regions`` (N, n) int numbers the parts of shifted windows that may not look at
        each other.
        """
        raise NotImplementedError


def attend_in_windows(features: Tensor, attention: WindowAttention, shift: int) -> Tensor:
    """Pads ``features`` (B, h, w, dim) to whole windows, shifts, attends, undoes both; returns the same shape.

    Padded tokens are zeros and take part, as published.
    """
    batch, height, width, dim = features.shape
    window = attention.window
    padded = F.pad(features, (0, 0, 0, -width % window, 0, -height % window))
    rows, columns = padded.shape[1] // window, padded.shape[2] // window
    if shift:
        padded = padded.roll((-shift, -shift), (1, 2))
    windows = padded.view(batch, rows, window, columns, window, dim).transpose(2, 3)
    windows = windows.reshape(batch, rows * columns, window * window, dim)
    regions = _shift_regions(rows, columns, window, shift, features.device) if shift else None
    windows = attention(windows, attention.position_bias(), regions)
    merged = windows.view(batch, rows, columns, window, window, dim).transpose(2, 3).reshape(padded.shape)
    if shift:
        merged = merged.roll((shift, shift), (1, 2))
    cropped: Tensor = merged[:, :height, :width]
    return cropped


def add_attention_in_windows(
    features: Tensor,
    attention: WindowAttention,
    shift: int,
    *,
    before: Callable[[Tensor], Tensor] | None = None,
    after: Callable[[Tensor], Tensor] | None = None,
) -> None:
    """Adds ``after(attend_in_windows(before(features)))`` to ``features`` (B, h, w, dim), contiguous, in place.

    Some windows at a time: each token lies in one window, and what is done with it depends on no other window.
    ``before`` and ``after`` take (T, dim) to (T, dim), each token by itself.
    """
    height, width, dim = features.shape[1:]
    window_tokens = attention.window**2
    at_once = max(1, tokens_at_once(4 * dim) // window_tokens)  # query, key, value and scores
    bias = attention.position_bias()
    for tokens in features.view(-1, height * width, dim):  # (h w, dim); a copy would be changed in vain
        for chunk in window_chunks(height, width, attention.window, shift, at_once):
            own = tokens.index_select(0, chunk.tokens)  # (k n, dim)
            windows = own if before is None else before(own)
            if chunk.padding is not None:
                windows.index_fill_(0, chunk.padding, 0.0)
            attended = attention(windows.view(1, -1, window_tokens, dim), bias, chunk.regions).view(-1, dim)
            own += attended if after is None else after(attended)
            tokens.index_copy_(0, chunk.real_tokens, own if chunk.real is None else own.index_select(0, chunk.real))


def attention_of_windows(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor, regions: Tensor | None, *, scale: float, apart: float
) -> Tensor:
    """Attends inside N windows of n tokens: each (B, N, heads, n, dim) -> (B, N, n, heads * dim).

    ``bias`` (heads, n, n) is added to the products times ``scale``; ``apart`` comes on top where two tokens are of
    different ``regions`` (N, n).
    """
    batch, count, heads, tokens, _ = query.shape
    if may_overwrite(query) and attends_natively(query, key, value, bias):
        return attention_of_windows_native(query, key, value, bias, regions, scale=scale, apart=apart)
    bias = bias.to(query.dtype)
    if may_overwrite(query):
        # Windows are so small that what torch does around its fused attention takes longer than plain attention.
        scores = query.flatten(0, 2) @ key.flatten(0, 2).transpose(1, 2)  # (B N heads, n, n)
        scores = scores.view(batch, count, heads, tokens, tokens).mul_(scale).add_(bias)
        if regions is not None:
            mixed = (regions != regions[:, :1]).any(1).nonzero()[:, 0]  # few: those at the border
            part = regions[mixed]
            differ = part[:, None, :, None] != part[:, None, None, :]  # (M, 1, n, n)
            scores.index_add_(1, mixed, differ.to(scores.dtype).expand(batch, -1, heads, -1, -1), alpha=apart)
        attended = scores.softmax(-1).flatten(0, 2) @ value.flatten(0, 2)  # (B N heads, n, dim)
    else:
        if regions is not None:
            differ = regions[:, None, :, None] != regions[:, None, None, :]  # (N, 1, n, n)
            bias = torch.where(differ, bias + apart, bias)  # (N, heads, n, n)
        # Windows and heads share a dimension, so that one mask serves every image of the batch.
        mask = bias.expand(count, heads, tokens, tokens).flatten(0, 1)  # (N heads, n, n)
        query, key, value = query.flatten(1, 2), key.flatten(1, 2), value.flatten(1, 2)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
    return attended.view(batch, count, heads, tokens, -1).transpose(2, 3).flatten(3)


def neighbours_as_channels(features: Tensor) -> Tensor:
    """(B, h, w, dim) -> (B, ceil(h / 2), ceil(w / 2), 4 dim): four neighbours side by side, zeros beyond the border."""
    height, width = features.shape[1:3]
    padded = F.pad(features, (0, 0, 0, width % 2, 0, height % 2)) if height % 2 or width % 2 else features
    return torch.cat([padded[:, row::2, column::2] for column in (0, 1) for row in (0, 1)], -1)


def relative_position_index(window: int) -> Tensor:
    """Which row of the bias table belongs to each pair of tokens of a window: (window^2, window^2) int64."""
    steps = torch.arange(window)
    rows, columns = (axis.flatten() for axis in torch.meshgrid(steps, steps, indexing="ij"))
    row_offset = rows[:, None] - rows[None, :] + window - 1
    column_offset = columns[:, None] - columns[None, :] + window - 1
    return row_offset * (2 * window - 1) + column_offset


@dataclass(frozen=True, slots=True)
class WindowChunk:
    """k windows of n tokens each of a map: where their tokens are. All tensors are int64 on the CPU.

    ``tokens`` (k n,): their places in the map; 0 for padding. ``real_tokens``: the same without padding.
    ``padding`` and ``real``: which of the k n are padding, and which are not; None both if there is none.
    ``regions`` (k, n): as attention takes them; None if all tokens of each window may look at each other.
    """

    tokens: Tensor
    real_tokens: Tensor
    padding: Tensor | None
    real: Tensor | None
    regions: Tensor | None


@lru_cache(maxsize=64)  # of eight sizes of images: with and without shift, four stages
def window_chunks(height: int, width: int, window: int, shift: int, at_once: int) -> tuple[WindowChunk, ...]:
    """The windows of a map, from left to right and from top to bottom, ``at_once`` at a time."""
    with torch.inference_mode(False):  # kept for later calls, which may want gradients
        rows, columns = -(-height // window), -(-width // window)
        place = torch.arange(height * width, device="cpu").view(1, 1, height, width)
        padded = F.pad(place, (0, columns * window - width, 0, rows * window - height), value=-1)[0, 0]
        shifted = padded.roll((-shift, -shift), (0, 1)).view(rows, window, columns, window)
        places = shifted.transpose(1, 2).reshape(rows * columns, window * window)
        regions = _shift_regions(rows, columns, window, shift, places.device)
        return tuple(
            _window_chunk(part.flatten(), part_regions)
            for part, part_regions in zip(places.split(at_once), regions.split(at_once), strict=True)
        )


def _window_chunk(places: Tensor, regions: Tensor) -> WindowChunk:
    """``places`` (k n,) in the map, -1 for padding; ``regions`` (k, n)."""
    real = (places >= 0).nonzero()[:, 0]
    padding = (places < 0).nonzero()[:, 0]
    whole, alike = len(padding) == 0, bool((regions == regions[:, :1]).all())
    return WindowChunk(
        tokens=places.clamp(min=0),
        real_tokens=places[real],
        padding=None if whole else padding,
        real=None if whole else real,
        regions=None if alike else regions,
    )


def _shift_regions(rows: int, columns: int, window: int, shift: int, device: torch.device) -> Tensor:
    """Numbers the tokens of shifted windows by the part of the image they come from: (rows * columns, window^2) int64.

    After a cyclic shift the last windows hold tokens of opposite borders, which may not attend to each other.
    """

    def parts(count: int) -> Tensor:
        place = torch.arange(count * window, device=device)
        return (place >= (count - 1) * window).long() + (place >= count * window - shift).long()

    regions = parts(rows)[:, None] * 3 + parts(columns)[None, :]
    return regions.view(rows, window, columns, window).transpose(1, 2).reshape(rows * columns, -1)
