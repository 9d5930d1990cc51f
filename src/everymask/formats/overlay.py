"""The picture with its segments and legend, or depth in colour, as PNG."""

import io

from everymask.atomic import Content
from everymask.drawing import draw
from everymask.segmentation import Segmentation


def encode(result: Segmentation, stem: str) -> dict[str, Content]:
    """``{stem}.overlay.png``: ``draw(legend=True)``, which shows depth only where there is nothing else.

    Raises OptionError when the result does not carry its image, unless it is depth alone.
    """
    data = io.BytesIO()
    # Photographs hardly get smaller by zlib's higher levels, and level 1 is several times faster than the default.
    draw(result, legend=True).save(data, "PNG", compress_level=1)
    return {f"{stem}.overlay.png": data.getvalue()}
