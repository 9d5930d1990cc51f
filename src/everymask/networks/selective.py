"""Networks that make masks only for the queries that are asked for."""

from collections.abc import Callable

from torch import Tensor, nn

from everymask.networks.outputs import MaskQueries

Keep = Callable[[Tensor], Tensor]
"""From class logits (B, Q, C + 1) to a bool tensor (B, Q): the queries whose masks are wanted."""


class SelectiveNetwork(nn.Module):
    """A network each of whose masks costs a pass of its own, so that it can leave out those that nobody reads."""

    def forward(self, pixel_values: Tensor, keep: Keep | None = None) -> MaskQueries:
        """Like any network of mask classification; the masks of queries not kept are empty. None keeps all."""
        raise NotImplementedError
