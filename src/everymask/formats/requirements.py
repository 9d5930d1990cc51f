"""What a format needs of a result."""

from everymask.errors import OptionError
from everymask.segmentation import Segmentation


def require_segments(result: Segmentation, format: str) -> None:
    """Raises OptionError when ``result`` is depth alone, which ``format`` cannot hold."""
    if result.task == "depth":
        raise OptionError(
            f"{format} holds segments, and this result is depth alone: save it as depth-png, depth-tiff, depth-npz, "
            "json or overlay"
        )
