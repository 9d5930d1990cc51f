"""What tests compare networks with."""

from collections.abc import Mapping

from torch import Tensor


def relative_error(ours: Tensor, expected: Tensor) -> float:
    """The largest difference, as a part of the largest expected value."""
    assert ours.shape == expected.shape
    return ((ours - expected).abs().max() / expected.abs().max()).item()


def shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor by its name."""
    return {key: tuple(tensor.shape) for key, tensor in tensors.items()}
