"""Fixed position embeddings."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


def sine_positions(
    height: int, width: int, dim: int, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """The 2-D sine embedding of DETR (appendix A.4), for a map without padding.

    Rows and columns are counted from 1 and scaled to (0, 2 pi]; the first half of the channels encodes the row, the
    second the column, each as interleaved sine and cosine of falling frequency (temperature 10000).

    Returns (height * width, dim); ``dim`` is a multiple of 4. Computed in float32 whatever ``dtype`` it is returned in.
    """
    half = dim // 2
    exponents = torch.arange(half // 2, device=device, dtype=torch.float32) * (2.0 / half)
    frequencies = torch.pow(10000.0, -exponents)  # (half / 2,)

    def axis(length: int) -> Tensor:
        steps = torch.arange(1, length + 1, device=device, dtype=torch.float32)
        angles = (steps / (length + 1e-6) * (2 * math.pi))[:, None] * frequencies  # (length, half / 2)
        return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1).to(dtype)  # (length, half)

    rows = axis(height)[:, None, :].expand(height, width, half)
    columns = axis(width)[None, :, :].expand(height, width, half)
    return torch.cat((rows, columns), dim=-1).view(height * width, dim)


class Rotary(NamedTuple):
    """Rotary positions of N tokens (RoFormer, Su et al. 2021): ``cosine`` and ``sine`` (N, head_dim / 2)."""

    cosine: Tensor
    sine: Tensor

    def after(self, tokens: int) -> "Rotary":
        """The same with ``tokens`` tokens before them that have no position, and are not rotated."""
        return Rotary(F.pad(self.cosine, (0, 0, tokens, 0), value=1.0), F.pad(self.sine, (0, 0, tokens, 0)))


def rotary_positions(
    height: int,
    width: int,
    head_dim: int,
    *,
    base: float,
    scale: Tensor | None = None,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Rotary:
    """The axial rotary positions of DINOv3 (Simeoni et al. 2025, section 3.2) for a map of height x width patches.

    The centres of the patches lie in -1..1 along both axes whatever the map's size; ``scale``, one number, stretches
    them. Half of the frequencies belongs to the row, half to the column. ``head_dim`` is a multiple of 4. Computed in
    float32 whatever ``dtype`` it is returned in.
    """
    frequencies = 2 * math.pi / base ** torch.arange(0, 1, 4 / head_dim, device=device)  # (head_dim / 4,)

    def centres(length: int) -> Tensor:
        middle = 2 * (torch.arange(length, device=device, dtype=torch.float32) + 0.5) / length - 1
        return middle if scale is None else middle * scale

    rows = (centres(height)[:, None] * frequencies)[:, None].expand(height, width, -1)
    columns = (centres(width)[:, None] * frequencies)[None].expand(height, width, -1)
    angles = torch.cat((rows, columns), -1).flatten(0, 1)  # (height * width, head_dim / 2)
    return Rotary(angles.cos().to(dtype), angles.sin().to(dtype))


def rotate(tokens: Tensor, rotary: Rotary) -> Tensor:
    """Rotates every pair of channels i and i + head_dim / 2 by its angle: (B, heads, N, head_dim) -> same shape."""
    first, second = tokens.chunk(2, -1)
    cosine, sine = rotary
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), -1)
