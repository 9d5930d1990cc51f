"""Less memory in training for more time (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost")."""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recomputed(module: nn.Module, *inputs: object) -> Tensor:
    """What ``module``, which gives one tensor and draws no random numbers, makes of its inputs.

    In training mode only the inputs are remembered for the backward pass, which computes all the rest a second time.
    """
    out: Tensor
    if module.training and torch.is_grad_enabled():
        out = checkpoint(module, *inputs, use_reentrant=False, preserve_rng_state=False)
    else:
        out = module(*inputs)
    return out
