"""Semantic, instance and panoptic masks with the published segmentation transformers.

The public names are imported when they are first used, so that ``import everymask`` loads neither torch nor numpy.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from everymask.errors import (
    CheckpointError,
    DataError,
    EverymaskError,
    ImageError,
    MissingExtraError,
    OptionError,
)

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

_HOME = {
    "Failure": "everymask.segmenter",
    "Report": "everymask.evaluation",
    "Segment": "everymask.segmentation",
    "Segmentation": "everymask.segmentation",
    "Segmenter": "everymask.segmenter",
    "evaluate": "everymask.evaluation",
    "load": "everymask.loading",
    "open_dataset": "everymask.datasets.opening",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'everymask' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
