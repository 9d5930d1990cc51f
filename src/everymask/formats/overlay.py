"""Pictures as PNG: the image with its segments and legend, or depth in colour."""

import io

from everymask.atomic import Content
from everymask.drawing import draw
from everymask.segmentation import DepthDrawing, Segmentation


def encode(result: Segmentation, stem: str) -> dict[str, Content]:
    """``{stem}.overlay.png``: ``draw(legend=True)``, which shows depth only where there is nothing else.

    Raises OptionError when the result does not carry its image, unless it is depth alone.
    """
    return {f"{stem}.overlay.png": _png(result, None)}


def encode_map(result: Segmentation, stem: str) -> dict[str, Content]:
    """``{stem}.depth-map.png``: ``draw(legend=True, depth="map")``. Raises OptionError without depth."""
    return {f"{stem}.depth-map.png": _png(result, "map")}


def encode_shade(result: Segmentation, stem: str) -> dict[str, Content]:
    """``{stem}.depth-shade.png``: ``draw(legend=True, depth="shade")``; raises OptionError as it does."""
    return {f"{stem}.depth-shade.png": _png(result, "shade")}


def encode_order(result: Segmentation, stem: str) -> dict[str, Content]:
    """``{stem}.depth-order.png``: ``draw(legend=True, depth="order")``; raises OptionError as it does."""
    return {f"{stem}.depth-order.png": _png(result, "order")}


def _png(result: Segmentation, depth: DepthDrawing | None) -> bytes:
    data = io.BytesIO()
    # Photographs hardly get smaller by zlib's higher levels, and level 1 is several times faster than the default.
    draw(result, legend=True, depth=depth).save(data, "PNG", compress_level=1)
    return data.getvalue()
