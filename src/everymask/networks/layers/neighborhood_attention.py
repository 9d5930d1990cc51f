"""Dilated neighbourhood attention (NA, Hassani et al. 2023; DiNA, Hassani and Shi 2022) out of dense attention.

Every token attends to the K x K tokens around it, D apart; near a border the window is moved inwards, so that it always
has K x K members. Tokens whose coordinates agree modulo D never see any others: sorted by that residue, a map is D x D
maps without dilation. Such a map is cut into tiles of queries. All windows of a tile lie in a region K - 1 larger than
the tile, which is small enough for ordinary attention, with a mask that leaves every query its own window. Masks depend
on a tile's place only at the borders, so that the tiles between share theirs.

Memory grows with the number of tokens, not with its square: regions are copied a few rows of tiles at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# The side of a tile: smaller ones waste less on keys outside of windows, larger ones make better matrix products.
TILE = 8
# How many numbers of keys and values are copied at a time.
CHUNK = 1 << 23


class NeighborhoodAttention(nn.Module):
    """Multi-head neighbourhood self-attention with a relative position bias (NA, section 3.1, equations 2 to 4)."""

    def __init__(self, dim: int, heads: int, kernel: int, dilation: int, *, qkv_bias: bool) -> None:
        super().__init__()
        self.heads, self.kernel, self.dilation = heads, kernel, dilation
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.output = nn.Linear(dim, dim)
        self.relative_position_bias = nn.Parameter(torch.zeros(heads, 2 * kernel - 1, 2 * kernel - 1))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, h, w, dim) -> the same shape.

        A map smaller than kernel x dilation is attended to as if zeros filled it up at the bottom and right, as
        published.
        """
        height, width, dim = tokens.shape[1:]
        span = self.kernel * self.dilation
        query, key_value = self.qkv(tokens).split((dim, 2 * dim), -1)
        if height < span or width < span:
            key_value = self._filled_up(key_value, max(height, span), max(width, span))
        attended = neighborhood_attention(
            query.unflatten(-1, (self.heads, -1)),
            key_value.unflatten(-1, (2, self.heads, -1)),
            self.relative_position_bias,
            self.dilation,
        )
        out: Tensor = self.output(attended)
        return out

    def _filled_up(self, key_value: Tensor, height: int, width: int) -> Tensor:
        """Keys and values (B, h, w, 2 dim), and beyond them what the projection makes of zeros: its bias."""
        missing = (0, 0, 0, width - key_value.shape[2], 0, height - key_value.shape[1])
        filled = F.pad(key_value, missing)
        if self.qkv.bias is None:
            return filled
        outside = F.pad(key_value.new_zeros(key_value.shape[1:3]), missing[2:], value=1.0)  # (height, width)
        return filled + outside[:, :, None] * self.qkv.bias[-key_value.shape[-1] :]


def neighborhood_attention(query: Tensor, key_value: Tensor, bias: Tensor, dilation: int) -> Tensor:
    """Dilated neighbourhood attention, equal to NATTEN 0.17.5.

    ``query`` (B, h, w, heads, d); ``key_value`` (B, H, W, 2, heads, d), keys before values, with H >= h and W >= w: the
    map may go on beyond the queries at the bottom and right. H and W must be at least K times ``dilation``.
    ``bias`` (heads, 2 K - 1, 2 K - 1): added to the products, which are scaled by d^-0.5, by the offset of the key from
    the query. Returns (B, h, w, heads * d).
    """
    if dilation == 1:
        return _attend(query, key_value, bias)
    height, width = query.shape[1:3]
    queries = _by_residue(query, dilation)  # (B, D, D, my, mx, heads, d)
    keys_values = _by_residue(key_value, dilation)  # (B, D, D, ny, nx, 2, heads, d)
    rows, columns = (_residues(length, dilation) for length in key_value.shape[1:3])
    my, mx = queries.shape[3:5]
    strips = []
    for row_residues, ny in rows:
        strip = []
        for column_residues, nx in columns:
            part = queries[:, row_residues, column_residues, :ny, :nx]
            attended = _attend(
                part.flatten(0, 2), keys_values[:, row_residues, column_residues, :ny, :nx].flatten(0, 2), bias
            ).unflatten(0, part.shape[:3])  # (B, D, D, <= my, <= mx, dim)
            strip.append(F.pad(attended, (0, 0, 0, mx - attended.shape[4], 0, my - attended.shape[3])))
        strips.append(torch.cat(strip, 2))
    merged = torch.cat(strips, 1).permute(0, 3, 1, 4, 2, 5)  # (B, my, D, mx, D, dim)
    out: Tensor = merged.reshape(len(query), my * dilation, mx * dilation, -1)[:, :height, :width]
    return out


def _by_residue(tokens: Tensor, dilation: int) -> Tensor:
    """(B, h, w, ...) -> (B, D, D, ceil(h / D), ceil(w / D), ...): first the residues, then the members of each."""
    height, width = tokens.shape[1:3]
    rest = (0, 0) * (tokens.dim() - 3)
    padded = F.pad(tokens, (*rest, 0, -width % dilation, 0, -height % dilation))
    split: Tensor = padded.unflatten(2, (-1, dilation)).unflatten(1, (-1, dilation))  # (B, my, D, mx, D, ...)
    return split.movedim((2, 4), (1, 2))


def _residues(length: int, dilation: int) -> list[tuple[slice, int]]:
    """The residues of an axis that have equally many members, and how many."""
    members, larger = divmod(int(length), dilation)  # a traced length is a tensor
    groups = [(slice(0, larger), members + 1), (slice(larger, dilation), members)]
    return [group for group in groups if group[0].start < group[0].stop]


def _attend(query: Tensor, key_value: Tensor, bias: Tensor) -> Tensor:
    """Neighbourhood attention without dilation; the arguments of ``neighborhood_attention``, (B, h, w, heads * d)."""
    batch, height, width, heads, dim = query.shape
    kernel = (bias.shape[-1] + 1) // 2
    rows = Tiling.of(height, key_value.shape[1], kernel)
    columns = Tiling.of(width, key_value.shape[2], kernel)
    tiles = F.pad(query, (0, 0, 0, 0, 0, columns.padding, 0, rows.padding))
    tiles = tiles.unflatten(2, (-1, columns.tile)).unflatten(1, (-1, rows.tile)).transpose(2, 3)  # (B, r, c, T, T, ...)
    masked_bias = F.pad(bias, (0, 1, 0, 1), value=float("-inf")).to(query.dtype)  # (heads, 2 K, 2 K)
    row_numbers = CHUNK // (batch * columns.tiles * rows.region * columns.region * 2 * heads * dim)

    strips = []
    for row_group in rows.groups:
        by_row = masked_bias[:, row_group.offsets(rows, bias.device)]  # (heads, T, R, 2 K)
        masks = [
            by_row[..., group.offsets(columns, bias.device)].transpose(2, 3).flatten(3).flatten(1, 2)
            for group in columns.groups
        ]  # (heads, T * T, R * R) each
        for part in row_group.chunks(max(row_numbers, 1), rows.tile):
            strip = [
                _attend_tiles(
                    tiles[:, part.first : part.first + part.count, group.first : group.first + group.count],
                    _regions(key_value, part, group, rows, columns),
                    mask,
                )
                for group, mask in zip(columns.groups, masks, strict=True)
            ]
            strips.append(torch.cat(strip, 2))
    return torch.cat(strips, 1)[:, :height, :width]


def _regions(key_value: Tensor, row: "Tiles", column: "Tiles", rows: "Tiling", columns: "Tiling") -> Tensor:
    """The keys and values of tiles: (B, h, w, 2, heads, d) -> (B * r * c, R * R, 2, heads, d)."""
    part = key_value[
        :,
        row.keys : row.keys + (row.count - 1) * rows.tile + rows.region,
        column.keys : column.keys + (column.count - 1) * columns.tile + columns.region,
    ]
    windows = part.unfold(1, rows.region, rows.tile).unfold(2, columns.region, columns.tile)
    return windows.movedim((6, 7), (3, 4)).flatten(3, 4).flatten(0, 2)


def _attend_tiles(queries: Tensor, regions: Tensor, mask: Tensor) -> Tensor:
    """``queries`` (B, r, c, T, T, heads, d), ``regions`` (B * r * c, R * R, 2, heads, d) -> (B, r * T, c * T, dim).

    ``mask`` (heads, T * T, R * R) is added before the softmax.
    """
    places = queries.shape[:5]
    key, value = regions.transpose(1, 3).unbind(2)  # (B * r * c, heads, R * R, d) each
    query = queries.flatten(3, 4).flatten(0, 2).transpose(1, 2)  # (B * r * c, heads, T * T, d)
    attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[None])
    return attended.transpose(1, 2).reshape(*places, -1).transpose(2, 3).flatten(3, 4).flatten(1, 2)


@dataclass(frozen=True, slots=True)
class Tiles:
    """Consecutive tiles of an axis that share a mask, from number ``first``; its region starts at the key ``keys``.

    From tile to tile the region moves on as the tile does.
    """

    first: int
    count: int
    keys: int

    def chunks(self, size: int, tile: int) -> Iterator["Tiles"]:
        """The same tiles, ``size`` at most at a time."""
        for skipped in range(0, self.count, size):
            yield Tiles(self.first + skipped, min(size, self.count - skipped), self.keys + skipped * tile)

    def offsets(self, axis: "Tiling", device: torch.device) -> Tensor:
        """Where the bias of a query and a key lies, 0 to 2 K - 2; 2 K - 1 if the key is outside of the query's window.

        (tile, region) int64, the same for all tiles of the group.
        """
        query = torch.arange(self.first * axis.tile, (self.first + 1) * axis.tile, device=device)[:, None]
        key = torch.arange(self.keys, self.keys + axis.region, device=device)
        start = (query - axis.kernel // 2).clamp(0, axis.keys - axis.kernel)
        inside = (start <= key) & (key < start + axis.kernel)
        # Queries that only fill up the last tile may be further from their window; they are cut off later.
        offset = (key - query + axis.kernel - 1).clamp(min=0)
        return torch.where(inside, offset, 2 * axis.kernel - 1)


@dataclass(frozen=True, slots=True)
class Tiling:
    """One axis of a map, cut into ``tiles`` tiles of ``tile`` queries; ``padding`` queries fill up the last one.

    ``region``: how many keys a tile needs at most. ``keys``: how many there are. ``groups``: all tiles in order.
    """

    tile: int
    tiles: int
    padding: int
    region: int
    keys: int
    kernel: int
    groups: tuple[Tiles, ...]

    @classmethod
    @lru_cache(maxsize=256)
    def of(cls, queries: int, keys: int, kernel: int) -> "Tiling":
        """For the first ``queries`` of ``keys`` places, with windows of ``kernel``."""
        tiles = -(-queries // TILE)
        tile = -(-queries // tiles)
        region = min(tile + kernel - 1, keys)
        groups: list[Tiles] = []
        known = None
        for number in range(tiles):
            start = min(max(number * tile - kernel // 2, 0), keys - region)
            places = range(number * tile, (number + 1) * tile)
            shape = [start - places.start, *(min(max(p - kernel // 2, 0), keys - kernel) - start for p in places)]
            if shape == known:
                groups[-1] = Tiles(groups[-1].first, groups[-1].count + 1, groups[-1].keys)
            else:
                groups.append(Tiles(number, 1, start))
                known = shape
        return cls(tile, tiles, tiles * tile - queries, region, keys, kernel, tuple(groups))
