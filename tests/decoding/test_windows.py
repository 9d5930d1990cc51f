"""The class scores of windows are averaged, then resized: equal to a dense reference and to transformers."""

import types
import weakref
from collections.abc import Iterator
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

from everymask.decoding import decode, decode_windows, decoding_options
from everymask.errors import OptionError
from everymask.geometry import Geometry, Size
from everymask.labels import LabelSet
from everymask.networks.outputs import MaskQueries, PixelLogits
from everymask.preprocessing import Preprocessing
from everymask.segmentation import Segmentation
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


def random_pixels(windows: int, side: int, seed: int) -> PixelLogits:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(windows, CLASSES, 3, 3, generator=generator) * 6
    return PixelLogits(F.interpolate(coarse, size=(side, side), mode="bicubic"))


def in_batches(output: MaskQueries | PixelLogits, size: int) -> Iterator[MaskQueries | PixelLogits]:
    tensors = tensors_of(output)
    for parts in zip(*(each.split(size) for each in tensors), strict=True):
        yield type(output)(*parts)


def tensors_of(output: MaskQueries | PixelLogits) -> tuple[Tensor, ...]:
    return (output.logits,) if isinstance(output, PixelLogits) else (output.class_logits, output.mask_logits)


def decode_all(output: MaskQueries | PixelLogits, geometry: Geometry, batch: int = 2) -> Segmentation:
    return decode_windows(in_batches(output, batch), geometry, LABELS, SEMANTIC, None)


def dense(output: MaskQueries | PixelLogits, geometry: Geometry) -> Tensor:
    """The scores at the original pixels, (C, H, W), by the book."""
    if isinstance(output, PixelLogits):
        scores = F.interpolate(output.logits, size=geometry.padded, mode="bilinear")
    else:
        probabilities = output.class_logits.softmax(-1)[..., :-1]
        masks = F.interpolate(output.mask_logits, size=geometry.padded, mode="bilinear").sigmoid()
        scores = torch.einsum("nqc,nqhw->nchw", probabilities, masks)
    height, width = geometry.padded
    weight = torch.ones(height, width)
    if geometry.smooth:
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        weight = torch.minimum(rows + 0.5, height - 0.5 - rows) / height
        weight = weight * torch.minimum(columns + 0.5, width - 0.5 - columns) / width
    total = torch.zeros(CLASSES, *geometry.resized)
    count = torch.zeros(*geometry.resized)
    for window, (top, left) in zip(scores, geometry.windows, strict=True):
        rows, columns = (
            slice(start, min(start + step, end))
            for start, step, end in zip((top, left), geometry.padded, geometry.resized, strict=True)
        )
        inside = (slice(rows.stop - rows.start), slice(columns.stop - columns.start))
        total[:, rows, columns] += (window * weight)[:, *inside]
        count[rows, columns] += weight[inside]
    return F.interpolate((total / count)[None], size=geometry.original, mode="bilinear")[0]


def assert_wins(label_map: np.ndarray, scores: Tensor) -> None:
    """Every pixel has the class with the largest score, or one that is within float rounding of it."""
    chosen = scores.gather(0, torch.from_numpy(label_map).long()[None])[0]
    assert (chosen >= scores.amax(0) - 1e-5).all()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    original=st.tuples(st.integers(1, 120), st.integers(1, 120)),
    resized=st.tuples(st.integers(5, 90), st.integers(5, 90)),
    window=st.integers(16, 50),
    stride=st.sampled_from([None, (11, 16), (16, 5), (13, 13)]),
    smooth=st.booleans(),
    network_stride=st.sampled_from([1, 2, 4]),
    random_output=st.sampled_from([random_queries, random_pixels]),
)
def test_equal_to_a_dense_reference(
    original: tuple[int, int],
    resized: tuple[int, int],
    window: int,
    stride: tuple[int, int] | None,
    smooth: bool,
    network_stride: int,
    random_output: Any,
) -> None:
    """Windows along both axes, images smaller than a window, larger and smaller than what goes in."""
    side = Size(window, window)
    corners = Tiling(side, None if stride is None else Size(*stride)).corners(Size(*resized))
    geometry = Geometry(Size(*original), Size(*resized), side, corners, smooth=smooth)
    output = random_output(len(geometry.windows), -(-window // network_stride), window + network_stride)
    result = decode_all(output, geometry)
    assert result.size == geometry.original
    assert_wins(result.label_map, dense(output, geometry))


@pytest.mark.parametrize("random_output", [random_queries, random_pixels])
@pytest.mark.parametrize("smooth", [False, True])
def test_one_window_that_covers_the_image_gives_the_dense_result(random_output: Any, smooth: bool) -> None:
    size = Size(60, 84)
    output = random_output(1, 21, 0)
    expected = decode(output, 0, Geometry(size, size, size), LABELS, SEMANTIC, None)
    result = decode_all(output, Geometry(size, size, size, ((0, 0),), smooth=smooth))
    assert (result.label_map == expected.label_map).mean() >= 0.9999


@pytest.mark.parametrize("shape", [(20, 600), (600, 20), (50, 400)])
def test_few_windows_are_open_at_any_time(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """However many windows cover the image, only those of the lines that meet at a pixel are held."""
    monkeypatch.setattr("everymask.decoding.resizing.Grid.budget", 2**8)
    size, tiling = Size(*shape), Tiling(Size(20, 20), Size(10, 10))
    geometry = Geometry(size, size, tiling.window, tiling.corners(size))
    held: weakref.WeakSet[Tensor] = weakref.WeakSet()
    most = 0

    def outputs() -> Iterator[PixelLogits]:
        nonlocal most
        for place in range(len(geometry.windows)):
            logits = random_pixels(1, 10, place).logits
            held.add(logits)
            most = max(most, len(held))
            yield PixelLogits(logits)

    decode_windows(outputs(), geometry, LABELS, SEMANTIC, None)
    across = min(len(set(places)) for places in zip(*geometry.windows, strict=True))
    assert len(geometry.windows) >= 59
    assert most <= 3 * across + 1  # two lines overlap, a third begins; and the one being made


@pytest.mark.parametrize("random_output", [random_queries, random_pixels])
def test_bands_meet_without_a_seam(random_output: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    geometry = Geometry(Size(150, 211), Size(64, 90), Size(64, 64), ((0, 0), (0, 26)))
    output = random_output(2, 16, 0)
    expected = decode_all(output, geometry).label_map
    monkeypatch.setattr("everymask.decoding.resizing.Grid.budget", 100)
    assert (decode_all(output, geometry).label_map == expected).all()


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
    result = decode_all(queries, geometry)
    assert (result.label_map == expected.numpy()).mean() >= 0.999


def test_the_windows_batches_do_not_matter() -> None:
    geometry = Geometry(Size(64, 130), Size(64, 130), Size(64, 64), ((0, 0), (0, 26), (0, 66)))
    queries = random_queries(3, 16, 3)
    results = [decode_all(queries, geometry, batch).label_map for batch in (1, 2, 3)]
    assert (results[0] == results[1]).all()
    assert (results[0] == results[2]).all()


@pytest.mark.parametrize("task", ["panoptic", "instance"])
def test_queries_of_several_windows_cannot_be_joined(task: Any) -> None:
    geometry = Geometry(Size(64, 90), Size(64, 90), Size(64, 64), ((0, 0), (0, 26)))
    with pytest.raises(OptionError, match=f"2 windows.*cannot be joined into {task} segments.*task semantic"):
        decode_windows([random_queries(2, 16, 0)], geometry, LABELS, decoding_options(task), None)
