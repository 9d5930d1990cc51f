"""torch as it is: every operation runs when it is reached."""

import torch
from torch import nn

from everymask.engines.engine import EngineName, Inputs, run_network
from everymask.engines.memory import keep_large_buffers
from everymask.engines.packing import can_pack, fold_norms, pack
from everymask.networks.outputs import Output


class EagerEngine:
    """Moves ``network`` to ``device`` and ``dtype``, in eval mode, and calls it.

    ``for_good``: the network will never learn again, so that its weights may be rearranged (see ``packing``) where that
    makes it faster here. It stays a module that gives the same outputs, but its state is no longer a checkpoint's.
    """

    name: EngineName = "eager"

    def __init__(self, network: nn.Module, device: torch.device, dtype: torch.dtype, *, for_good: bool = False) -> None:
        network.eval()
        if for_good and device.type == "cpu":
            keep_large_buffers()
        packs = for_good and can_pack(device, dtype)
        if packs:
            fold_norms(network)
        self.network = network.to(device, dtype)
        if packs:
            pack(network)
        self.device = device
        self.dtype = dtype

    def __call__(self, inputs: Inputs) -> Output:
        with torch.inference_mode():
            return run_network(self.network, inputs, self.device, self.dtype)
