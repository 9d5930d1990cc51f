"""Neighbourhood attention as NATTEN 0.17.5 defines it, query by query."""

import torch
from torch import Tensor


def windows(length: int, kernel: int, dilation: int) -> tuple[Tensor, Tensor]:
    """For every place of an axis the places of its window and their offsets in the bias: (length, kernel) int64 each.

    Place i is member p = i // D of the residue class r = i mod D, which has n = ceil((length - r) / D) members. Its
    window is the members s to s + K - 1, s = min(max(p - K // 2, 0), n - K), and member s + a has the offset
    s + a - p + K - 1.
    """
    places, offsets = [], []
    for place in range(length):
        member, residue = divmod(place, dilation)
        members = -(-(length - residue) // dilation)
        start = min(max(member - kernel // 2, 0), members - kernel)
        places.append([residue + dilation * (start + each) for each in range(kernel)])
        offsets.append([start + each - member + kernel - 1 for each in range(kernel)])
    return torch.tensor(places), torch.tensor(offsets)


def products(query: Tensor, key: Tensor, bias: Tensor, kernel: int, dilation: int) -> Tensor:
    """``query`` and ``key`` (B, heads, H, W, d), ``bias`` (heads, 2 K - 1, 2 K - 1) -> (B, heads, H, W, K * K).

    As in NATTEN, queries come scaled.
    """
    rows, row_offsets = windows(query.shape[2], kernel, dilation)
    columns, column_offsets = windows(query.shape[3], kernel, dilation)
    keys = key[:, :, rows[:, None, :, None], columns[None, :, None, :]]  # (B, heads, H, W, K, K, d)
    biases = bias[:, row_offsets[:, None, :, None], column_offsets[None, :, None, :]]  # (heads, H, W, K, K)
    return (torch.einsum("bhyxd,bhyxrcd->bhyxrc", query, keys) + biases).flatten(-2)


def weighted(weights: Tensor, value: Tensor, kernel: int, dilation: int) -> Tensor:
    """``weights`` (B, heads, H, W, K * K), ``value`` (B, heads, H, W, d) -> (B, heads, H, W, d)."""
    rows, _ = windows(value.shape[2], kernel, dilation)
    columns, _ = windows(value.shape[3], kernel, dilation)
    values = value[:, :, rows[:, None, :, None], columns[None, :, None, :]].flatten(4, 5)
    return torch.einsum("bhyxn,bhyxnd->bhyxd", weights, values)


def reference_attention(query: Tensor, key_value: Tensor, bias: Tensor, dilation: int) -> Tensor:
    """The arguments and the result of ``neighborhood_attention``."""
    height, width = query.shape[1:3]
    kernel = (bias.shape[-1] + 1) // 2
    key, value = key_value.permute(3, 0, 4, 1, 2, 5).unbind()  # (B, heads, H, W, d) each
    filled = query.new_zeros(*key_value.shape[:3], *query.shape[3:])
    filled[:, :height, :width] = query * query.shape[-1] ** -0.5
    scores = products(filled.permute(0, 3, 1, 2, 4), key, bias, kernel, dilation)
    attended = weighted(scores.softmax(-1), value, kernel, dilation)  # (B, heads, H, W, d)
    return attended.permute(0, 2, 3, 1, 4).flatten(3)[:, :height, :width]
