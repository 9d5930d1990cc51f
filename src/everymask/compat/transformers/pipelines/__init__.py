"""``transformers.pipelines``: the same names."""

from everymask.compat.transformers.pipelines.depth_estimation import DepthEstimationPipeline
from everymask.compat.transformers.pipelines.image_segmentation import ImageSegmentationPipeline
from everymask.compat.transformers.pipelines.loading import pipeline

__all__ = ["DepthEstimationPipeline", "ImageSegmentationPipeline", "pipeline"]
