"""What is counted in label pictures, against counting pixel by pixel."""

import io

import numpy as np
import pytest
from clean_sets import blocks, id_colors
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from everymask.doctor.encoding import INTERPOLATED
from everymask.doctor.facts import look_at_labels
from everymask.doctor.panoptic import look_at_panoptic
from everymask.doctor.textures import border_steps, speck_share

maps = st.integers(0, 10**6).map(lambda seed: np.random.default_rng(seed).integers(0, 3, (seed % 9 + 1, seed % 7 + 1)))


def png(array):
    file = io.BytesIO()
    Image.fromarray(array.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


@settings(derandomize=True, deadline=None)
@given(maps)
def test_specks_are_pixels_unlike_their_neighbours(labels):
    height, width = labels.shape
    alone = 0
    for y, x in np.ndindex(height, width):
        around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        alone += all(labels[at] != labels[y, x] for at in around if 0 <= at[0] < height and 0 <= at[1] < width)
    assert speck_share(labels) == (alone / labels.size if labels.size > 1 else 0)


@settings(derandomize=True, deadline=None)
@given(maps)
def test_panoptic_areas_and_boxes(labels):
    ids = np.array([0, 7, 70000])[labels]
    segments = []
    for id_ in (7, 70000):
        y, x = np.nonzero(ids == id_)
        if len(y):
            box = [x.min(), y.min(), x.max() - x.min() + 1, y.max() - y.min() + 1]
            segments.append({"id": id_, "area": len(y), "bbox": [int(each) for each in box]})
    facts = look_at_panoptic(png(id_colors(ids)), segments)
    assert not isinstance(facts, str)
    assert facts.unlisted == facts.absent == facts.wrong_areas == facts.wrong_boxes == ()
    assert facts.file.histogram() == {int(each): int((ids == each).sum()) for each in np.unique(ids)}


@pytest.mark.parametrize("factor", [0.5, 0.75, 1.1, 2.0])
@pytest.mark.parametrize("resample", [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS])
def test_interpolated_borders_pass_over_values_between(factor, resample):
    drawn = Image.fromarray(blocks(1, (0, 3, 7, 12, 18, 40), 120, 160).astype(np.uint8))
    size = (round(160 * factor), round(120 * factor))
    assert border_steps(np.asarray(drawn.resize(size, resample), np.int32)) > INTERPOLATED
    assert border_steps(np.asarray(drawn.resize(size, Image.Resampling.NEAREST), np.int32)) < 0.06


def test_noise_has_many_values_and_is_still_read():
    rng = np.random.default_rng(0)
    facts = look_at_labels(png(rng.integers(0, 256, (90, 90, 3))))
    assert not isinstance(facts, str)
    assert (facts.channels, len(facts.values)) == (3, 4096)
