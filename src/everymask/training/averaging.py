"""An exponential moving average of a network's weights."""

import copy

import torch
from torch import Tensor, nn


class AveragedNetwork:
    """Keeps ``network``, a copy whose weights follow a trained network's slowly.

    After step t the decay is min(``decay``, (1 + t) / (10 + t)), so that the random start is forgotten soon. Batch norm
    statistics are averaged like weights; integer buffers are copied.
    """

    def __init__(self, trained: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(trained).eval().requires_grad_(False)
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self, trained: nn.Module) -> None:
        """Takes one step towards the trained network's weights."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        floats: tuple[list[Tensor], list[Tensor]] = ([], [])
        for mine, theirs in zip(self.network.state_dict().values(), trained.state_dict().values(), strict=True):
            if mine.is_floating_point():
                floats[0].append(mine)
                floats[1].append(theirs)
            else:
                mine.copy_(theirs)
        torch._foreach_lerp_(*floats, 1 - decay)
