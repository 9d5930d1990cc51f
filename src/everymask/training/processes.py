"""Sums over the processes that train one network together, so that their losses are that of one common batch."""

import torch
import torch.distributed
import torch.distributed.nn.functional
from torch import Tensor


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of a tensor over all processes, without a gradient; where one process trains alone, the tensor itself.

    Where several train together, all of them must call this the same number of times.
    """
    if not _together():
        return value.detach()
    total = value.detach().clone()
    torch.distributed.all_reduce(total)
    return total / torch.distributed.get_world_size()


def gathered(tensor: Tensor) -> Tensor:
    """The tensors (B, ...) of all W processes, (W B, ...), the first process's first; with gradients to all of them."""
    if not _together():
        return tensor
    parts = torch.distributed.nn.functional.all_gather(tensor.contiguous())
    return torch.cat(tuple(parts))


def _together() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
