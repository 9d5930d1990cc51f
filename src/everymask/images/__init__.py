"""Pixels from anywhere, safely: one reader for every kind of source."""

from everymask.images.reader import read_image

__all__ = ["read_image"]
