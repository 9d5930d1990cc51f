"""Multi-scale deformable attention (Deformable DETR, Zhu et al. 2021, section 4.1, equation 3), by gathering rows.

Each query reads every level of a feature pyramid at a few learned points around its own place, bilinearly. Bilinear
reading is a weighted sum of four rows of the value matrix, so all points of all levels together are one weighted sum of
4 x levels x points rows: exactly what ``embedding_bag`` computes, without ever building the sampled values.

With gradients the same sum is taken by ``grid_sample``, level by level: the backward pass of ``embedding_bag`` sorts
its indices and takes most of a training step on a CPU. Kernels of our own do all in one pass where they can be had: on
a CPU with gradients and without them, on a GPU without them (``read_pyramid``).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from everymask.networks.layers.deformable_gradient import learns_natively, read_pyramid_with_gradients
from everymask.networks.layers.deformable_native import read_pyramid_native, reads_natively


@dataclass(frozen=True, slots=True)
class Pyramid:
    """Where the tokens of a flattened feature pyramid lie, and the Q queries that read it.

    S is the number of tokens of all L levels, level after level, each row by row; ``sizes`` holds each level's (height,
    width). In self-attention the queries are the tokens: Q = S.
    ``columns`` and ``rows`` (Q, L) float32: a query's centre in the pixel coordinates of each level (pixel centres are
    whole numbers). ``widths``, ``heights`` and ``starts`` (L,) int64: each level's size and its first token's index.
    """

    sizes: tuple[tuple[int, int], ...]
    columns: Tensor
    rows: Tensor
    widths: Tensor
    heights: Tensor
    starts: Tensor

    @classmethod
    def of(
        cls,
        sizes: Sequence[tuple[int, int]],
        device: torch.device,
        queries: Sequence[tuple[int, int]] | None = None,
    ) -> "Pyramid":
        """The pyramid of levels of the given (height, width), read by its own tokens or by those of other maps."""
        # Filled where they are: a list would be copied from the host, which a GPU has to wait for.
        heights = torch.cat([torch.full((1,), height, dtype=torch.int64, device=device) for height, _ in sizes])
        widths = torch.cat([torch.full((1,), width, dtype=torch.int64, device=device) for _, width in sizes])
        areas = heights * widths
        columns, rows = [], []
        for height, width in queries or sizes:
            y = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) / height  # (height,), in 0..1
            x = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) / width
            columns.append((x[:, None] * widths - 0.5).repeat(height, 1))  # (height * width, L)
            rows.append((y[:, None] * heights - 0.5).repeat_interleave(width, 0))
        starts = areas.cumsum(0) - areas
        return cls(tuple(sizes), torch.cat(columns), torch.cat(rows), widths, heights, starts)


class DeformableAttention(nn.Module):
    """Multi-scale deformable attention to the tokens of a pyramid."""

    def __init__(self, dim: int, heads: int, levels: int, points: int, *, value_dim: int | None = None) -> None:
        """``value_dim``: channels that are read, a multiple of ``heads``; None means ``dim``."""
        super().__init__()
        value_dim = value_dim or dim
        self.heads, self.levels, self.points = heads, levels, points
        self.sampling_offsets = nn.Linear(dim, heads * levels * points * 2)
        self.attention_weights = nn.Linear(dim, heads * levels * points)
        self.value = nn.Linear(dim, value_dim)
        self.output = nn.Linear(value_dim, dim)
        self._start_as_a_star()

    def _start_as_a_star(self) -> None:
        """Initialises the points of head i to lie in direction i, 1 to ``points`` pixels away, equally weighted."""
        angles = torch.arange(self.heads) * (2 * math.pi / self.heads)
        directions = torch.stack((angles.cos(), angles.sin()), -1)  # (heads, 2)
        directions = directions / directions.abs().amax(-1, keepdim=True)
        distances = torch.arange(1, self.points + 1)
        star = directions[:, None, None, :] * distances[:, None]  # (heads, 1, points, 2)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(star.expand(-1, self.levels, -1, -1).flatten())
        nn.init.zeros_(self.sampling_offsets.weight)
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for projection in (self.value, self.output):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(self, queries: Tensor, tokens: Tensor, pyramid: Pyramid) -> Tensor:
        """``queries`` (B, Q, dim) read ``tokens`` (B, S, dim) around their own places -> (B, Q, dim)."""
        out: Tensor = self.output(self.read(queries, tokens, pyramid))
        return out

    def read(self, queries: Tensor, tokens: Tensor, pyramid: Pyramid) -> Tensor:
        """What ``output``, which takes each query by itself, is applied to: (B, Q, value_dim)."""
        shape = (self.heads, self.levels, self.points)
        offsets = self.sampling_offsets(queries).unflatten(-1, (*shape, 2))  # (B, Q, heads, L, P, 2), pixels (x, y)
        logits = self.attention_weights(queries).unflatten(-1, shape)  # (B, Q, heads, L, P)
        return read_pyramid(self.value(tokens), offsets, logits, pyramid)


def read_pyramid(values: Tensor, offsets: Tensor, logits: Tensor, pyramid: Pyramid) -> Tensor:
    """What the queries read: the sum over all points of softmax(logits) times the value there, read bilinearly.

    ``values`` (B, S, dim); ``offsets`` (B, Q, heads, L, P, 2) in pixels of each level, x before y, from the query's own
    place; ``logits`` (B, Q, heads, L, P), before the softmax over the L * P points of a head; all of one floating-point
    type. Outside a level values are zero. Returns (B, Q, dim) in the type of ``values``: head i reads and writes the
    i-th part of the channels. Places, weights and sums are computed in float32.

    Every way of computing it has this contract: compiled C on the CPU and, without gradients, a Triton kernel on a GPU,
    each in one pass; where there is no compiler or no Triton, rows gathered by torch, or ``grid_sample`` for gradients;
    and ``grid_sample`` for graphs that torch traces or compiles. They differ by rounding, and in what they make of
    offsets that are infinite or not a number (never an access outside ``values``).
    """
    if torch.compiler.is_compiling() or torch._C._is_tracing():
        return sample_with_gradients(values, offsets, _softmax(logits), pyramid)
    if torch.is_grad_enabled():
        if learns_natively(values, offsets, logits, pyramid):
            return read_pyramid_with_gradients(values, offsets, logits, pyramid)
        return sample_with_gradients(values, offsets, _softmax(logits), pyramid)
    if reads_natively(values, offsets, logits, pyramid):
        return read_pyramid_native(values, offsets, logits, pyramid)
    if values.is_cuda and _triton_is_installed():
        from everymask.networks.layers.deformable_triton import read_pyramid_triton

        return read_pyramid_triton(values, offsets, logits, pyramid)
    return gather_bilinear(values, offsets, _softmax(logits), pyramid)


@cache
def _triton_is_installed() -> bool:
    return find_spec("triton") is not None


def _softmax(logits: Tensor) -> Tensor:
    """Over the points of all levels: (B, Q, heads, L, P) -> the same shape."""
    return logits.flatten(-2).softmax(-1).view(logits.shape)


def gather_bilinear(values: Tensor, offsets: Tensor, weights: Tensor, pyramid: Pyramid) -> Tensor:
    """Sums ``values`` over sampling points, each read bilinearly; outside a level values are zero.

    ``values`` (B, S, dim); ``offsets`` (B, Q, heads, L, P, 2) in pixels of each level, x before y, from the query's own
    place; ``weights`` (B, Q, heads, L, P). Returns (B, Q, dim): head i reads and writes the i-th part of the channels.
    Places and weights are computed in float32.
    """
    batch, queries, heads = offsets.shape[:3]
    tokens = values.shape[1]
    spread = (slice(None), None, slice(None), None)  # (Q, L) -> (Q, 1, L, 1), to stand beside (Q, heads, L, P)
    x = offsets[..., 0].float() + pyramid.columns[spread]  # (B, Q, heads, L, P)
    y = offsets[..., 1].float() + pyramid.rows[spread]
    width, height = pyramid.widths[:, None], pyramid.heights[:, None]  # (L, 1)
    left, top = x.floor(), y.floor()
    column_pairs = _corner_pair(left.long(), x - left, width)
    row_pairs = _corner_pair(top.long(), y - top, height)

    scale = weights.float()
    indices, factors = [], []
    for row, row_factor in row_pairs:
        line = pyramid.starts[:, None] + row * width
        weighted = row_factor * scale
        for column, column_factor in column_pairs:
            indices.append(line + column)
            factors.append(weighted * column_factor)

    # One table row is one head of one token: row = (image * S + token) * heads + head.
    image = torch.arange(batch, device=values.device).view(-1, 1, 1, 1) * tokens
    head = torch.arange(heads, device=values.device).view(1, 1, -1, 1)
    table_rows = (torch.stack(indices, -1).flatten(3) + image) * heads + head  # (B, Q, heads, L * P * 4)
    sampled = F.embedding_bag(
        table_rows.flatten(0, 2),  # (B * Q * heads, L * P * 4)
        values.reshape(batch * tokens * heads, -1),
        per_sample_weights=torch.stack(factors, -1).flatten(3).flatten(0, 2).to(values.dtype),
        mode="sum",
    )
    return sampled.view(batch, queries, -1)


def sample_with_gradients(values: Tensor, offsets: Tensor, weights: Tensor, pyramid: Pyramid) -> Tensor:
    """The same sum as ``gather_bilinear``, from the same arguments, in a form whose backward pass is quick."""
    batch, heads = offsets.shape[0], offsets.shape[2]
    sizes = torch.stack((pyramid.widths, pyramid.heights), -1)  # (L, 2)
    places = torch.stack((pyramid.columns, pyramid.rows), -1) + 0.5  # (Q, L, 2), pixel corners are whole numbers
    locations = (offsets.float() + places[:, None, :, None]) / sizes[:, None]  # (B, Q, heads, L, P, 2) in 0..1
    grids = (locations * 2 - 1).permute(0, 2, 3, 1, 4, 5).flatten(0, 1)  # (B * heads, L, Q, P, 2)
    factors = weights.to(values.dtype).permute(3, 0, 2, 1, 4).flatten(1, 2)[:, :, None]  # (L, B * heads, 1, Q, P)
    maps = values.unflatten(-1, (heads, -1)).permute(0, 2, 3, 1).flatten(0, 1)  # (B * heads, dim / heads, S)
    levels = maps.split([height * width for height, width in pyramid.sizes], -1)
    sampled = torch.zeros((), device=values.device, dtype=values.dtype)
    for index, (size, level) in enumerate(zip(pyramid.sizes, levels, strict=True)):
        grid = grids[:, index].to(values.dtype)
        read = F.grid_sample(level.unflatten(-1, size), grid, align_corners=False)  # (B * heads, dim / heads, Q, P)
        sampled = sampled + (read * factors[index].to(read.dtype)).sum(-1)
    merged: Tensor = sampled.unflatten(0, (batch, heads)).permute(0, 3, 1, 2).flatten(2)
    return merged


def _corner_pair(lower: Tensor, fraction: Tensor, size: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The two whole coordinates around each place on one axis, each with its bilinear factor, zero outside the map."""
    upper = lower + 1
    inside_lower = (lower >= 0) & (lower < size)
    inside_upper = (upper >= 0) & (upper < size)
    last = size - 1
    zero = torch.zeros_like(size)
    return (
        (lower.clamp(zero, last), (1 - fraction) * inside_lower),
        (upper.clamp(zero, last), fraction * inside_upper),
    )
