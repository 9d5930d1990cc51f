"""A segmentation drawn over its image, with or without a legend."""

from PIL import Image

from everymask.drawing.colors import segment_colors
from everymask.drawing.legend import with_legend
from everymask.drawing.overlay import overlay
from everymask.errors import OptionError
from everymask.segmentation import Segmentation

__all__ = ["draw"]


def draw(result: Segmentation, *, legend: bool = False) -> Image.Image:
    """The image with every segment filled in its colour and outlined: RGB, the size of the original image.

    With ``legend`` the picture grows to the right or at the bottom by a panel that names the colours, so nothing of
    the image is hidden; the image itself stays at the top left, pixel for pixel.

    Raises OptionError when the result does not carry its image.
    """
    if result.image is None:
        raise OptionError(
            "this result has no image to draw on; keep it when building the result: "
            "dataclasses.replace(result, image=array) with the (H, W, 3) uint8 picture"
        )
    colors = segment_colors(result)
    picture = Image.fromarray(overlay(result, result.image, colors))
    return with_legend(picture, result, colors) if legend else picture
