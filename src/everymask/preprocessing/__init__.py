"""From an image to the input of a network, as a checkpoint's preprocessor_config.json says."""

from everymask.preprocessing.pixels import Prepared, prepare
from everymask.preprocessing.recipe import Preprocessing
from everymask.preprocessing.resizing import FitOneSide, FixedSize, ResizeRule, ShortestEdge, WithinEdges

__all__ = [
    "FitOneSide",
    "FixedSize",
    "Prepared",
    "Preprocessing",
    "ResizeRule",
    "ShortestEdge",
    "WithinEdges",
    "prepare",
]
