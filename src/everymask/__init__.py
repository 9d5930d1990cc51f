"""Semantic, instance and panoptic masks with the published segmentation transformers.

The public names are imported when they are first used, so that ``import everymask`` loads neither torch nor numpy.
"""

from typing import TYPE_CHECKING

from everymask.errors import (
    CheckpointError,
    DataError,
    EverymaskError,
    ImageError,
    MissingExtraError,
    OptionError,
)
from everymask.lazy import imported_when_used

if TYPE_CHECKING:
    from everymask.datasets.opening import open_dataset
    from everymask.evaluation import Report, evaluate
    from everymask.loading import load
    from everymask.segmentation import Segment, Segmentation
    from everymask.segmenter import Failure, Segmenter

__version__ = "0.1.0"

__all__ = [
    "CheckpointError",
    "DataError",
    "EverymaskError",
    "Failure",
    "ImageError",
    "MissingExtraError",
    "OptionError",
    "Report",
    "Segment",
    "Segmentation",
    "Segmenter",
    "evaluate",
    "load",
    "open_dataset",
]

__getattr__ = imported_when_used(
    __name__,
    {
        "Failure": "segmenter",
        "Report": "evaluation",
        "Segment": "segmentation",
        "Segmentation": "segmentation",
        "Segmenter": "segmenter",
        "evaluate": "evaluation",
        "load": "loading",
        "open_dataset": "datasets.opening",
    },
)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
