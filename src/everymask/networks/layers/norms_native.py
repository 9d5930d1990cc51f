"""Norms and the sums beside them on a CPU by compiled C: the source beside this file (see ``everymask.native``)."""

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from everymask.native import compiled

SOURCE = Path(__file__).with_suffix(".c")
MOST_CHANNELS = 4096  # as in the C source
BLOCK = 128  # as in the C source
TYPES = (torch.float32, torch.bfloat16)


class _Map(ctypes.Structure):
    """``Map`` in the C source."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("map", "coarser", "weight", "bias", "out", "statistics", "scales")),
        *((name, ctypes.c_int64) for name in ("images", "height", "width", "channels", "groups", "rows", "columns")),
        *((name, ctypes.c_int64) for name in ("nearest", "relu", "half", "half_parameters")),
        ("eps", ctypes.c_float),
    )


class Kernels(NamedTuple):
    """The compiled functions."""

    add_and_norm: Callable[..., None]
    norm_map: Callable[["ctypes._CArgObject", int], None]


# A network has hundreds of norms of some hundred microseconds each, and Python between them takes some tens: hence the
# plain arguments, and checks that ask no more than they must.
def add_and_norm(
    norm: nn.LayerNorm,
    tokens: Tensor,
    branch: Tensor | None = None,
    scale: Tensor | None = None,
    *,
    out: Tensor | None = None,
    keep: bool = False,
) -> tuple[Tensor, Tensor] | None:
    """tokens + scale * branch and the norm of that, without gradients; None where the kernel cannot do it.

    ``tokens`` and ``branch`` (..., dim), contiguous and not empty, float32 or bfloat16; ``scale`` (dim,). The norm goes
    to ``out``, if given: a tensor like ``tokens``, maybe ``tokens`` itself. The sum is made only to ``keep`` it; else
    ``tokens`` stand for it. The first call that gets that far compiles the kernel, or finds it in the cache.
    """
    weight, bias, dtype, channels = norm.weight, norm.bias, tokens.dtype, tokens.shape[-1]
    parameters = [each for each in (weight, bias, scale) if each is not None]
    of_parameters = parameters[0].dtype if parameters else torch.float32
    if not (
        _known(tokens)
        and len(norm.normalized_shape) == 1
        and tokens.is_contiguous()
        and (branch is None or (_like(branch, tokens) and branch.is_contiguous()))
        and (out is None or (_like(out, tokens) and out.is_contiguous()))
        and _known_parameters(parameters, channels)
    ):
        return None
    kernel = kernels()
    if kernel is None:
        return None
    normed = torch.empty_like(tokens) if out is None else out
    added = torch.empty_like(tokens) if keep else None
    kernel.add_and_norm(
        tokens.data_ptr(),
        None if branch is None else branch.data_ptr(),
        None if scale is None else scale.data_ptr(),
        None if weight is None else weight.data_ptr(),
        None if bias is None else bias.data_ptr(),
        None if added is None else added.data_ptr(),
        normed.data_ptr(),
        tokens.numel() // channels,
        channels,
        dtype == torch.bfloat16,
        of_parameters == torch.bfloat16,
        norm.eps,
        torch.get_num_threads(),
    )
    return tokens if added is None else added, normed


def norm_map(
    norm: nn.GroupNorm,
    features: Tensor,
    coarser: Tensor | None = None,
    mode: Literal["bilinear", "nearest"] = "bilinear",
    *,
    relu: bool = False,
) -> bool:
    """Makes ``features`` (B, dim, H, W) their group norm, in place; False, and nothing done, where the kernel cannot.

    ``coarser`` (B, dim, h, w) is enlarged and added; ``relu`` comes last. Both maps have channels last in memory.
    """
    if not (_known(features) and _channels_last(features)):
        return False
    images, channels, height, width = features.shape
    parameters = [each for each in (norm.weight, norm.bias) if each is not None]
    if not (
        _known_parameters(parameters, channels)
        and (
            coarser is None
            or (
                _known(coarser)
                and coarser.dtype == features.dtype
                and coarser.shape[:2] == features.shape[:2]
                and _channels_last(coarser)
            )
        )
    ):
        return False
    kernel = kernels()
    if kernel is None:
        return False
    statistics = torch.empty(images, -(-height * width // BLOCK), 2, channels)
    scales = torch.empty(images, 2, channels)
    tensors = (features, coarser, norm.weight, norm.bias, features, statistics, scales)
    problem = _Map(
        *(None if each is None else each.data_ptr() for each in tensors),
        *(images, height, width, channels, norm.num_groups),
        *((0, 0) if coarser is None else coarser.shape[2:]),
        *(mode == "nearest", relu, features.dtype == torch.bfloat16),
        bool(parameters) and parameters[0].dtype == torch.bfloat16,
        norm.eps,
    )
    kernel.norm_map(ctypes.byref(problem), torch.get_num_threads())
    return True


@cache
def kernels() -> Kernels | None:
    """The compiled functions; None where they are not to be had, or could not use more than one of torch's threads.

    Asked once a process.
    """
    library = compiled(SOURCE)
    if library is None or not (library.can_share() or torch.get_num_threads() == 1):
        return None
    library.add_and_norm.argtypes = (*7 * (ctypes.c_void_p,), *4 * (ctypes.c_int64,), ctypes.c_float, ctypes.c_int64)
    library.norm_map.argtypes = (ctypes.POINTER(_Map), ctypes.c_int64)
    library.add_and_norm.restype = library.norm_map.restype = None
    return Kernels(library.add_and_norm, library.norm_map)


def _known(tensor: Tensor) -> bool:
    # Not a stand-in without memory, as torch.export uses.
    return type(tensor) is Tensor and tensor.is_cpu and tensor.dtype in TYPES and tensor.numel() > 0


def _like(tensor: Tensor, other: Tensor) -> bool:
    return type(tensor) is Tensor and tensor.is_cpu and tensor.dtype == other.dtype and tensor.shape == other.shape


def _known_parameters(parameters: Sequence[Tensor], channels: int) -> bool:
    """Whether all are of one known type, and (channels,)."""
    if channels > MOST_CHANNELS:
        return False
    for each in parameters:
        dtype = each.dtype
        if dtype not in TYPES or dtype != parameters[0].dtype or not each.is_cpu:
            return False
        if each.ndim != 1 or each.numel() != channels or not each.is_contiguous():
            return False
    return True


def _channels_last(features: Tensor) -> bool:
    return features.ndim == 4 and features.permute(0, 2, 3, 1).is_contiguous()
