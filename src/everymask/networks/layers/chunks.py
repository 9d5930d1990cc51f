"""Work on some tokens at a time, so that what lies between its steps stays in a processor's cache."""

from collections.abc import Callable

import torch
from torch import Tensor

# What a step makes of the tokens of one chunk: 4 MB in float32. The product with fewer tokens than these takes longer
# for each of them, since it reads all weights.
UNITS_AT_ONCE = 2**20
LEAST_TOKENS = 1024


def may_overwrite(tensor: Tensor) -> bool:
    """Whether a network may change ``tensor``, which it has made itself, in place and piece by piece.

    True on a CPU where operations run when they are reached and no gradient is wanted. A GPU runs large operations
    best, and a compiler or a tracer fuses what it is shown whole.
    """
    wanted = torch.is_grad_enabled() or tensor.requires_grad
    return tensor.device.type == "cpu" and not (wanted or torch.compiler.is_compiling() or torch._C._is_tracing())


def tokens_at_once(hidden: int) -> int:
    """How many tokens to work on at a time when each takes ``hidden`` numbers on the way."""
    return max(LEAST_TOKENS, UNITS_AT_ONCE // hidden)


def add_in_chunks(tokens: Tensor, branch: Callable[[Tensor], Tensor], hidden: int) -> None:
    """Adds ``branch(tokens)`` to ``tokens`` (..., dim), contiguous, in place.

    ``branch`` takes (T, dim) to (T, dim), each token by itself, by way of ``hidden`` numbers a token.
    """
    for chunk in tokens.view(-1, tokens.shape[-1]).split(tokens_at_once(hidden)):
        chunk += branch(chunk)
