"""transformers' pipelines."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from everymask.compat.transformers.pipelines import DepthEstimationPipeline, ImageSegmentationPipeline, pipeline
    from everymask.compat.transformers.post_process import (
        post_process_instance_segmentation,
        post_process_panoptic_segmentation,
        post_process_semantic_segmentation,
    )

__all__ = [
    "DepthEstimationPipeline",
    "ImageSegmentationPipeline",
    "pipeline",
    "post_process_instance_segmentation",
    "post_process_panoptic_segmentation",
    "post_process_semantic_segmentation",
]

_HOME = {
    "DepthEstimationPipeline": "pipelines",
    "ImageSegmentationPipeline": "pipelines",
    "pipeline": "pipelines",
    "post_process_instance_segmentation": "post_process",
    "post_process_panoptic_segmentation": "post_process",
    "post_process_semantic_segmentation": "post_process",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
