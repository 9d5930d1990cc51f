"""The class scores of windows are averaged, then resized: equal to a dense reference and to transformers."""

import types
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.image_transforms import get_size_with_aspect_ratio
from transformers.models.eomt.image_processing_pil_eomt import EomtImageProcessorPil

from everymask.decoding import decode, decoding_options
from everymask.errors import OptionError
from everymask.geometry import Geometry, Size
from everymask.labels import LabelSet
from everymask.networks.outputs import MaskQueries
from everymask.preprocessing import Preprocessing
from everymask.tiling import Tiling

CLASSES, QUERIES = 7, 9
LABELS = LabelSet(tuple("abcdefg"), (True,) * CLASSES, (None,) * CLASSES)
SEMANTIC = decoding_options("semantic")


def random_queries(windows: int, side: int, seed: int) -> MaskQueries:
    """Smooth masks: noise would leave nothing to interpolate."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(windows, QUERIES, 3, 3, generator=generator) * 6
    masks = F.interpolate(coarse, size=(side, side), mode="bicubic")
    return MaskQueries(torch.randn(windows, QUERIES, CLASSES + 1, generator=generator) * 2, masks)


def dense(queries: MaskQueries, geometry: Geometry) -> Tensor:
    """The scores at the original pixels, (C, H, W), by the book."""
    probabilities = queries.class_logits.softmax(-1)[..., :-1]
    masks = F.interpolate(queries.mask_logits, size=geometry.padded, mode="bilinear").sigmoid()
    scores = torch.einsum("nqc,nqhw->nchw", probabilities, masks)
    total = torch.zeros(CLASSES, *geometry.resized)
    count = torch.zeros(*geometry.resized)
    for window, (top, left) in zip(scores, geometry.windows, strict=True):
        rows, columns = (
            slice(start, min(start + step, end))
            for start, step, end in zip((top, left), geometry.padded, geometry.resized, strict=True)
        )
        part = window[:, : rows.stop - rows.start, : columns.stop - columns.start]
        total[:, rows, columns] += part
        count[rows, columns] += 1
    return F.interpolate((total / count)[None], size=geometry.original, mode="bilinear")[0]


def assert_wins(label_map: np.ndarray, scores: Tensor) -> None:
    """Every pixel has the class with the largest score, or one that is within float rounding of it."""
    chosen = scores.gather(0, torch.from_numpy(label_map).long()[None])[0]
    assert (chosen >= scores.amax(0) - 1e-5).all()


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    original=st.tuples(st.integers(1, 120), st.integers(1, 120)),
    resized=st.tuples(st.integers(5, 90), st.integers(5, 90)),
    window=st.integers(16, 50),
    stride=st.sampled_from([1, 2, 4]),
)
def test_equal_to_a_dense_reference(
    original: tuple[int, int], resized: tuple[int, int], window: int, stride: int
) -> None:
    """Windows along both axes, images smaller than a window, larger and smaller than what goes in."""
    side = Size(window, window)
    geometry = Geometry(Size(*original), Size(*resized), side, Tiling(side).corners(Size(*resized)))
    if len(geometry.windows) == 1:
        geometry = Geometry(geometry.original, geometry.resized, side, ((0, 0), (0, 0)))
    queries = random_queries(len(geometry.windows), -(-window // stride), window + stride)
    result = decode(queries, 0, geometry, LABELS, SEMANTIC, None)
    assert result.size == geometry.original
    assert_wins(result.label_map, dense(queries, geometry))


def test_bands_meet_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    geometry = Geometry(Size(150, 211), Size(64, 90), Size(64, 64), ((0, 0), (0, 26)))
    queries = random_queries(2, 16, 0)
    expected = decode(queries, 0, geometry, LABELS, SEMANTIC, None).label_map
    monkeypatch.setattr("everymask.decoding.resizing.Grid.budget", 100)
    assert (decode(queries, 0, geometry, LABELS, SEMANTIC, None).label_map == expected).all()


@settings(max_examples=12, deadline=None, derandomize=True)
@given(height=st.integers(40, 200), width=st.integers(40, 200))
def test_equal_to_transformers(height: int, width: int) -> None:
    config: dict[str, Any] = {"size": {"shortest_edge": 64, "longest_edge": None}, "do_split_image": True}
    geometry = Preprocessing.from_config({**config, "image_processor_type": "EomtImageProcessor"}).geometry(
        Size(height, width)
    )
    # transformers 5.23 rounds the longer side downwards.
    assume(geometry.resized == get_size_with_aspect_ratio((height, width), 64))
    assume(len(geometry.windows) > 1)
    queries = random_queries(len(geometry.windows), 16, height * width)
    outputs = types.SimpleNamespace(
        class_queries_logits=queries.class_logits,
        masks_queries_logits=queries.mask_logits,
        patch_offsets=[(0, max(corner), max(corner) + 64) for corner in geometry.windows],
    )
    processor = EomtImageProcessorPil(**config)
    [expected] = processor.post_process_semantic_segmentation(
        outputs, [(height, width)], size={"shortest_edge": 64, "longest_edge": None}
    )
    result = decode(queries, 0, geometry, LABELS, SEMANTIC, None)
    assert (result.label_map == expected.numpy()).mean() >= 0.999


def test_an_image_takes_as_many_places_of_the_batch_as_it_has_windows() -> None:
    geometry = Geometry(Size(64, 90), Size(64, 90), Size(64, 64), ((0, 0), (0, 26)))
    queries = random_queries(5, 16, 3)
    for place in (0, 2, 3):
        part = MaskQueries(queries.class_logits[place : place + 2], queries.mask_logits[place : place + 2])
        expected = decode(part, 0, geometry, LABELS, SEMANTIC, None)
        assert (decode(queries, place, geometry, LABELS, SEMANTIC, None).label_map == expected.label_map).all()


@pytest.mark.parametrize("task", ["panoptic", "instance"])
def test_queries_of_several_windows_cannot_be_joined(task: Any) -> None:
    geometry = Geometry(Size(64, 90), Size(64, 90), Size(64, 64), ((0, 0), (0, 26)))
    with pytest.raises(OptionError, match=f"2 windows.*cannot be joined into {task} segments.*task semantic"):
        decode(random_queries(2, 16, 0), 0, geometry, LABELS, decoding_options(task), None)
