"""Results as pictures, as ``modelscope.utils.cv.image_utils`` draws them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everymask.errors import OptionError
from everymask.labels import label_set


def semantic_seg_masks_to_image(masks: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    """Every mask in a colour of its own on black, (H, W, 3) float64 in 0..255; later masks lie on top.

    ``masks``: (H, W) each, of numbers (0 is outside) or bool. Mask i has colour i of COCO's 133 panoptic classes,
    whatever its label is, and masks beyond begin again. The channels are red, green and blue; ``cv2.imwrite``, with
    which ModelScope's examples save it, takes them for blue, green and red. Raises OptionError without masks, which
    alone tell the size.
    """
    if not len(masks):
        raise OptionError("there are no masks to draw, and so no size: draw results that have segments only")
    colors = label_set("coco-panoptic").colors
    image = np.zeros((*masks[0].shape, 3))
    for index, mask in enumerate(masks):
        image[mask.astype(bool)] = colors[index % len(colors)]
    return image


def panoptic_seg_masks_to_image(masks: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    """The same picture as ``semantic_seg_masks_to_image``: what ModelScope does more is for palettes that repeat."""
    return semantic_seg_masks_to_image(masks)
