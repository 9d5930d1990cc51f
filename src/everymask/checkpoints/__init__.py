"""From a name to a built network: find, download, read the config and the weights, rename the keys, load strictly."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from everymask.checkpoints.load import Checkpoint, load_checkpoint

__all__ = ["Checkpoint", "load_checkpoint"]


def __getattr__(name: str) -> object:
    # Finding, downloading and the catalogue need no torch; only loading does.
    if name in __all__:
        from everymask.checkpoints import load

        return getattr(load, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
