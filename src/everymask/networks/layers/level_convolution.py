"""A convolution of maps of several resolutions, without ever enlarging them."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LevelConvolution(nn.Module):
    """A 3x3 convolution without bias of several maps, resized bilinearly to the first one's size and laid side by side.

    A convolution is a sum over its nine taps, each a linear map of the channels and a shift; resizing is linear and
    works on each channel by itself. So each tap is applied to a coarse map at its own resolution, and what is resized
    and shifted is the result: in the head of UPerNet this is a third of the arithmetic. With gradients the maps are
    enlarged and convolved, which keeps less for the backward pass.
    """

    def __init__(self, dim: int, levels: int, outputs: int) -> None:
        """``dim``: channels of each of ``levels`` maps; ``outputs``: of the result."""
        super().__init__()
        self.weight = nn.Conv2d(levels * dim, outputs, 3, bias=False).weight

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Maps (B, dim, h_i, w_i), the finest first -> (B, outputs, h_0, w_0)."""
        finest, *coarser = levels
        size = (int(finest.shape[-2]), int(finest.shape[-1]))
        if torch.is_grad_enabled() or not coarser:
            resized = [F.interpolate(each, size=size, mode="bilinear", align_corners=False) for each in coarser]
            return F.conv2d(torch.cat((finest, *resized), 1), self.weight, padding=1)
        of_finest, *of_coarser = self.weight.split(finest.shape[1], 1)  # (outputs, dim, 3, 3) each
        # Channels lie last from here on.
        base = F.conv2d(finest, of_finest, padding=1).permute(0, 2, 3, 1)  # (B, H, W, outputs)
        across, down = [], []
        for features, weight in zip(coarser, of_coarser, strict=True):
            features = features.contiguous(memory_format=torch.channels_last)
            height, width = (int(side) for side in features.shape[-2:])
            to_columns = _taps(width, size[1], features).flatten(1)  # (W, w * 3)
            to_rows = _taps(height, size[0], features)  # (H, h, 3)
            for row in range(3):
                row_of_taps = weight[:, :, row].permute(2, 0, 1).flatten(0, 1)  # (3 * outputs, dim)
                tapped = F.conv2d(features, row_of_taps[..., None, None]).permute(0, 2, 3, 1)  # (B, h, w, 3 * outputs)
                places = tapped.unflatten(-1, (3, -1)).flatten(2, 3)  # (B, h, w * 3, outputs)
                across.append(torch.matmul(to_columns, places).flatten(2))  # (B, h, W * outputs)
                down.append(to_rows[..., row])
        summed = torch.matmul(torch.cat(down, 1), torch.cat(across, 1))  # (B, H, W * outputs)
        return (base + summed.view(base.shape)).permute(0, 3, 1, 2)


def _taps(inputs: int, outputs: int, like: Tensor) -> Tensor:
    """What ``inputs`` numbers give when they are resized to ``outputs`` and shifted by -1, 0 and 1, zeros beyond.

    (outputs, inputs, 3), in the type and place of ``like``.
    """
    each = torch.eye(inputs, device=like.device)[None]  # (1, inputs, inputs): every number by itself
    resized = F.interpolate(each, size=outputs, mode="linear", align_corners=False)[0]  # (inputs, outputs)
    return F.pad(resized, (1, 1)).unfold(1, outputs, 1).permute(2, 0, 1).to(like.dtype)  # windows 0, 1, 2
