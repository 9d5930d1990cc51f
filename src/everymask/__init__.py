"""Semantic, instance and panoptic masks with the published segmentation transformers."""

__version__ = "0.1.0"
