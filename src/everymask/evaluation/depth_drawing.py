"""The depth that a model predicted, drawn beside the true one."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from everymask.drawing.comparison import side_by_side
from everymask.drawing.depth import brightness, depth_colors, depth_scale
from everymask.drawing.depth_bar import with_depth_bar
from everymask.labels import Color
from everymask.segmentation import Segmentation

UNKNOWN: Color = (128, 128, 128)  # no colour of depths is grey


def compare_depths(
    prediction: Segmentation, metres: NDArray[np.float32] | None, truth: NDArray[np.float32], title: str
) -> Image.Image:
    """Photo, prediction and truth side by side, in the same colours, which a bar beside them explains.

    ``prediction`` carries its image; ``metres`` (H, W) are its depths as they are measured. ``truth`` (H, W) in metres
    gives the range of colours; where it is 0, it is not known. ``metres`` is None where it is so everywhere: then the
    prediction has colours of its own.
    """
    assert prediction.image is not None
    known = truth > 0
    photo = Image.fromarray(prediction.image)
    legend = [] if known.all() else [("unknown", UNKNOWN)]
    if metres is None:
        panels = [("photo", photo), ("prediction", prediction.draw(depth="map")), ("truth", _flat(photo))]
        return side_by_side(panels, title=title, legend=legend)
    scale, colors = depth_scale(truth[known][None], "metric"), depth_colors()
    drawn = colors[brightness(truth, scale)]  # (H, W, 3)
    drawn[~known] = UNKNOWN
    caption = "prediction" if prediction.depth_kind == "metric" else "prediction, fitted to the truth"
    predicted = Image.fromarray(colors[brightness(metres, scale)])
    panels = [("photo", photo), (caption, predicted), ("truth", Image.fromarray(drawn))]
    return with_depth_bar(side_by_side(panels, title=title, legend=legend), scale, colors)


def _flat(photo: Image.Image) -> Image.Image:
    return Image.new("RGB", photo.size, UNKNOWN)
