"""Multi-scale deformable attention in one Triton kernel: place, softmax, bilinear gather and sum in one pass.

Without it a layer writes and reads its sampling places, corner indices and weights several times over: on a GPU that
traffic, not the arithmetic, is what the layer costs. The kernel reads values, offsets and logits once and writes the
result. It is for inference: it has no backward pass. Importing this module imports triton, which CUDA builds of torch
bring along; on the CPU it runs in triton's interpreter (TRITON_INTERPRET=1), for tests.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from everymask.networks.layers.deformable_attention import Pyramid

# What a program holds at once, queries x channels of one head: 128 threads of 16 bytes each. With more, a thread would
# have several queries, and places and weights would have to go from thread to thread.
_TILE_BYTES = 2048


def read_pyramid_triton(values: Tensor, offsets: Tensor, logits: Tensor, pyramid: Pyramid) -> Tensor:
    """What the queries read: the sum over all points of softmax(logits) times the value there, read bilinearly.

    ``values`` (B, S, dim) of any floating dtype; ``offsets`` (B, Q, heads, L, P, 2) in pixels of each level, x before
    y, from the query's own place; ``logits`` (B, Q, heads, L, P), before the softmax over the L * P points of a head.
    Outside a level values are zero; a point that is not a number reads nothing. Returns (B, Q, dim) in the dtype of
    ``values``: head i reads and writes the i-th part of the channels. Everything is computed in float32.
    """
    batch, queries, heads, levels, points = logits.shape
    dim = values.shape[-1]
    values = _with_dense_rows(values)
    offsets, logits = _with_dense_rows(offsets.flatten(2)), _with_dense_rows(logits.flatten(2))  # (B, Q, heads * ...)
    out = torch.empty(batch, queries, dim, device=values.device, dtype=values.dtype)
    constants = kernel_constants(heads, levels, points, dim // heads, values.dtype)
    # Heads come first, so that programs that run together read the same rows.
    grid = (heads, triton.cdiv(queries, constants["QUERY_SLOTS"]), batch)
    _read_pyramid[grid](
        *(values, *values.stride()[:2]),
        *(offsets, *offsets.stride()[:2]),
        *(logits, *logits.stride()[:2]),
        *(out, pyramid.columns, pyramid.rows, pyramid.widths, pyramid.heights, pyramid.starts),
        queries,
        **constants,
    )
    return out


def kernel_constants(heads: int, levels: int, points: int, channels: int, dtype: torch.dtype) -> dict[str, int]:
    """What the kernel is compiled for; ``channels`` of one head, ``dtype`` of the values."""
    channel_slots = triton.next_power_of_2(channels)
    return {
        "HEADS": heads,
        "LEVELS": levels,
        "POINTS": points,
        "CHANNELS": channels,
        "POINT_SLOTS": triton.next_power_of_2(levels * points),
        "CHANNEL_SLOTS": channel_slots,
        "QUERY_SLOTS": max(1, _TILE_BYTES // (channel_slots * dtype.itemsize)),
    }


def _with_dense_rows(tensor: Tensor) -> Tensor:
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


@triton.jit
def _read_pyramid(
    values,  # (B, S, HEADS * CHANNELS)
    values_image,  # strides
    values_token,
    offsets,  # (B, Q, HEADS * LEVELS * POINTS * 2)
    offsets_image,
    offsets_query,
    logits,  # (B, Q, HEADS * LEVELS * POINTS)
    logits_image,
    logits_query,
    out,  # (B, Q, HEADS * CHANNELS), contiguous
    columns,  # (Q, LEVELS) float32, contiguous
    rows,
    widths,  # (LEVELS,) int64
    heights,
    starts,
    queries,
    HEADS: tl.constexpr,
    LEVELS: tl.constexpr,
    POINTS: tl.constexpr,
    CHANNELS: tl.constexpr,
    POINT_SLOTS: tl.constexpr,
    CHANNEL_SLOTS: tl.constexpr,
    QUERY_SLOTS: tl.constexpr,
):
    """One head of QUERY_SLOTS queries of one image."""
    head = tl.program_id(0)
    image = tl.program_id(2).to(tl.int64)  # a large batch has more values than int32 counts
    query = (tl.program_id(1) * QUERY_SLOTS + tl.arange(0, QUERY_SLOTS)).to(tl.int64)  # (N,)
    exists = query < queries
    channel = tl.arange(0, CHANNEL_SLOTS)  # (D,)
    used = channel < CHANNELS

    # The softmax over the points: its largest logit and its sum, before the weights are asked for one by one.
    logit_row = logits + image * logits_image + query * logits_query + head * (LEVELS * POINTS)  # (N,)
    slot = tl.arange(0, POINT_SLOTS)
    mask = exists[:, None] & (slot < LEVELS * POINTS)[None, :]
    each = tl.load(logit_row[:, None] + slot[None, :], mask=mask, other=float("-inf")).to(tl.float32)
    each = tl.where(exists[:, None], each, 0.0)  # no row of -inf alone, which would be NaN
    largest = tl.max(each, 1)
    total = tl.sum(tl.exp(each - largest[:, None]), 1)

    offset_row = offsets + image * offsets_image + query * offsets_query + head * (LEVELS * POINTS * 2)
    value_row = values + image * values_image + head * CHANNELS + channel[None, :]  # (1, D)
    summed = tl.zeros((QUERY_SLOTS, CHANNEL_SLOTS), tl.float32)
    for level in tl.static_range(LEVELS):
        width, height, start = tl.load(widths + level), tl.load(heights + level), tl.load(starts + level)
        centre_x = tl.load(columns + query * LEVELS + level, mask=exists, other=0.0)
        centre_y = tl.load(rows + query * LEVELS + level, mask=exists, other=0.0)
        for point in tl.static_range(POINTS):
            place = level * POINTS + point
            weight = tl.exp(tl.load(logit_row + place, mask=exists, other=0.0).to(tl.float32) - largest) / total
            x = centre_x + tl.load(offset_row + 2 * place, mask=exists, other=0.0).to(tl.float32)
            y = centre_y + tl.load(offset_row + 2 * place + 1, mask=exists, other=0.0).to(tl.float32)
            # Far outside is outside: what is left fits into an integer. A NaN compares as False and lies outside, too.
            x = tl.where((x > -1) & (x < width.to(tl.float32)), x, -2.0)
            y = tl.where((y > -1) & (y < height.to(tl.float32)), y, -2.0)
            for down in tl.static_range(2):
                row = tl.floor(y) + down  # (N,) float32, a whole number, as is column
                row_weight = weight * (1 - tl.abs(y - row))
                for across in tl.static_range(2):
                    column = tl.floor(x) + across
                    inside = exists & (row >= 0) & (row < height) & (column >= 0) & (column < width)
                    token = start + row.to(tl.int64) * width + column.to(tl.int64)
                    corner = tl.load(
                        value_row + token[:, None] * values_token, mask=inside[:, None] & used[None, :], other=0.0
                    )  # (N, D)
                    summed += corner.to(tl.float32) * (row_weight * (1 - tl.abs(x - column)))[:, None]
    place = (image * queries + query) * (HEADS * CHANNELS) + head * CHANNELS  # (N,)
    tl.store(out + place[:, None] + channel[None, :], summed, mask=exists[:, None] & used[None, :])
