"""Loading weights strictly: every tensor has its place, and every place its tensor."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from everymask.checkpoints.layouts.rules import Layout
from everymask.errors import CheckpointError

LISTED = 10


def load_strictly(network: nn.Module, layout: Layout, published: Mapping[str, Tensor], *, share: bool = False) -> None:
    """Puts published tensors into a network: floating-point ones as float32, all copied, so that no file stays in use.

    ``share``: float32 tensors that fit as they are become the network's without a copy, for a network that is converted
    next; ``own_weights`` ends that.
    The network's own tensors are replaced and never read. Raises CheckpointError, listing the first ten keys of each
    kind in their published names, if keys are missing, have another shape than the network's, or are neither part of
    the network nor leftovers that the layout knows; and if integers stand where the network has floating-point numbers.
    Where the layout has alternatives, the one that fits best is meant.
    """
    layout = layout.fitting(network, published)
    published = {**layout.absent, **published}
    required = layout.published_shapes(network)
    faults = [
        _fault("missing", [key for key in required if key not in published]),
        _fault("unexpected", [key for key in published if key not in required and not layout.ignored(key)]),
        _fault(
            "of another shape",
            [
                f"{key} {tuple(published[key].shape)} instead of {shape}"
                for key, shape in required.items()
                if key in published and tuple(published[key].shape) != shape
            ],
        ),
    ]
    if any(faults):
        raise CheckpointError(
            f"the weights do not fit the network that the config describes ({'; '.join(filter(None, faults))}); "
            "check that config and weights belong together and are of a supported model"
        )
    ours = layout.to_ours(published, network)
    wanted = network.state_dict()
    quantised = [key for key, tensor in ours.items() if tensor.is_floating_point() != wanted[key].is_floating_point()]
    if quantised:
        raise CheckpointError(
            f"the weights have another kind of number than the network ({_fault('in all', quantised)}); quantised "
            "checkpoints are not supported, use the float32, float16 or bfloat16 one"
        )
    of_layout = {_storage(tensor) for tensor in layout.absent.values()}  # these belong to all networks of the layout
    state = {
        key: tensor.detach() if share and _fits(tensor) and _storage(tensor) not in of_layout else _own(tensor)
        for key, tensor in ours.items()
    }
    network.load_state_dict(state, strict=True, assign=True)


def own_weights(network: nn.Module) -> None:
    """Copies the float32 tensors of a network on the CPU, which may be views of a file or shared with others.

    Tensors in another layout than torch's own (packed ones) are no views, and stay; channels last stays channels last.
    """
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.dtype == torch.float32 and tensor.device.type == "cpu" and tensor.layout == torch.strided:
            tensor.data = tensor.data.clone()


@contextmanager
def no_random_initialisation() -> Iterator[None]:
    """Inside, the layers of torch leave their weights as they were allocated; everything else is as ever.

    Building a network only to load it needs no random numbers, and drawing them takes longer than reading a file.
    The meta device would do the same, but leaves buffers that no file holds without content. Outside, torch's random
    numbers go on as if nothing had been built.
    """
    with torch.random.fork_rng(devices=[]), _NoRandomInitialisation():
        yield


class _NoRandomInitialisation(TorchFunctionMode):
    # What torch's own layers call when they are made. Each only fills a tensor, so nothing can depend on the values.
    SKIPPED = frozenset({nn.init.uniform_, nn.init.normal_, nn.init.kaiming_uniform_})
    # The methods that all other initialisation ends in. Some of it samples until the values fit, which garbage may
    # never do; a zero is in every range that is in use.
    ZEROED = frozenset({Tensor.uniform_, Tensor.normal_})

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in self.SKIPPED:
            return kwargs["tensor"]
        return args[0].zero_() if func in self.ZEROED else func(*args, **kwargs)


def _fault(kind: str, keys: list[str]) -> str:
    if not keys:
        return ""
    rest = f" and {len(keys) - LISTED} more" if len(keys) > LISTED else ""
    return f"{len(keys)} {kind}: {', '.join(keys[:LISTED])}{rest}"


def _fits(tensor: Tensor) -> bool:
    return tensor.dtype == torch.float32 and tensor.is_contiguous()


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _own(tensor: Tensor) -> Tensor:
    """A contiguous copy; a tensor that is a view of a file is neither aligned nor safe from changes of the file."""
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return torch.empty(tensor.shape, dtype=dtype).copy_(tensor)
