"""Fixed position embeddings."""

import math

import torch
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
        return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)  # (length, half)

    rows = axis(height)[:, None, :].expand(height, width, half)
    columns = axis(width)[None, :, :].expand(height, width, half)
    return torch.cat((rows, columns), dim=-1).reshape(height * width, dim).to(dtype)
