"""Pictures of masks, as ModelScope draws them. What is expected came from modelscope 1.40.2 with mmdet 2.28.2."""

from typing import Any

import numpy as np
import pytest

from everymask.compat.modelscope.utils.cv.image_utils import panoptic_seg_masks_to_image, semantic_seg_masks_to_image
from everymask.errors import OptionError
from everymask.labels import label_set

DRAWERS = (semantic_seg_masks_to_image, panoptic_seg_masks_to_image)


@pytest.mark.parametrize("draw", DRAWERS)
@pytest.mark.parametrize("dtype", [int, np.int32, bool, float])
def test_masks_have_the_published_colours_by_place_and_the_last_is_on_top(draw: Any, dtype: type) -> None:
    masks = [np.array([[1, 0, 0], [0, 1, 0]], dtype), np.array([[0, 0, 0], [1, 1, 0]], dtype)]
    image = draw(masks)
    assert image.dtype == np.float64
    assert image.tolist() == [[[220, 20, 60], [0, 0, 0], [0, 0, 0]], [[119, 11, 32], [119, 11, 32], [0, 0, 0]]]


@pytest.mark.parametrize("draw", DRAWERS)
def test_the_colours_do_not_run_out(draw: Any) -> None:
    colors = label_set("coco-panoptic").colors
    assert len(set(colors)) == 133  # so that no colour needs to be varied
    image = draw([np.eye(1, 200, place, dtype=int) for place in range(200)])
    assert list(map(tuple, image[0].tolist())) == [*colors, *colors[:67]]


@pytest.mark.parametrize("draw", DRAWERS)
def test_no_masks_have_no_size(draw: Any) -> None:
    with pytest.raises(OptionError, match="draw results that have segments only"):
        draw([])
