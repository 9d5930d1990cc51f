"""Outputs as named tensors: runtimes outside torch know nothing else."""

from collections.abc import Mapping

from torch import Tensor, nn

from everymask.networks.outputs import DepthMap, MaskQueries, Output, PixelLogits, PixelsAndDepth


def flatten(output: Output) -> dict[str, Tensor]:
    """The tensors of an output that decoding reads, by name; what only training reads is left out."""
    match output:
        case MaskQueries():
            return {"class_logits": output.class_logits, "mask_logits": output.mask_logits}
        case PixelLogits():
            return {"logits": output.logits}
        case DepthMap():
            return {"depth": output.depth}
        case PixelsAndDepth():
            return flatten(output.pixels) | flatten(output.depth)


def unflatten(tensors: Mapping[str, Tensor]) -> Output:
    """The output whose tensors ``flatten`` gave."""
    if "class_logits" in tensors:
        return MaskQueries(tensors["class_logits"], tensors["mask_logits"])
    if "logits" not in tensors:
        return DepthMap(tensors["depth"])
    pixels = PixelLogits(tensors["logits"])
    return PixelsAndDepth(pixels, DepthMap(tensors["depth"])) if "depth" in tensors else pixels


class Flat(nn.Module):
    """A network that takes and returns nothing but tensors; ``names`` are those of the last output."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.names: tuple[str, ...] = ()

    def forward(self, *arguments: Tensor) -> tuple[Tensor, ...]:
        """``arguments``: pixel values (B, 3, h, w) and, for a network that is told its task, its tokens."""
        tensors = flatten(self.network(*arguments))
        self.names = tuple(tensors)
        return tuple(tensors.values())
