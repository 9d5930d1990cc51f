"""What tests compare networks with."""

from collections.abc import Mapping

from torch import Tensor, nn


def relative_error(ours: Tensor, expected: Tensor) -> float:
    """The largest difference, as a part of the largest expected value."""
    assert ours.shape == expected.shape
    return ((ours - expected).abs().max() / expected.abs().max()).item()


def shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor by its name."""
    return {key: tuple(tensor.shape) for key, tensor in tensors.items()}


def randomise(network: nn.Module) -> None:
    """Gives every tensor random values, so that no path is silent."""
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif name.endswith("sampling_offsets.bias"):
            tensor.normal_(std=2.0)
        elif tensor.is_floating_point() and tensor.dim() > 0:
            tensor.normal_(mean=1.0 if "norm" in name and name.endswith("weight") else 0.0, std=0.2)
