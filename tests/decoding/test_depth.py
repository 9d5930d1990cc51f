"""Depth: equal to transformers' post-processing and to a plain reference, within memory, and measured per segment."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers.modeling_outputs import DepthEstimatorOutput
from transformers.models.dpt.image_processing_pil_dpt import DPTImageProcessorPil

from everymask.decoding.depth import decode_depth, with_depth
from everymask.errors import CheckpointError, OptionError
from everymask.geometry import Geometry, Size
from everymask.labels import LabelSet
from everymask.runs import Runs
from everymask.segmentation import Region, Segment, Segmentation

LABELS = LabelSet(("car",), (True,), (None,))


def random_depth(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(height, width, generator=torch.Generator().manual_seed(seed))


def whole(original: tuple[int, int], size: tuple[int, int] = (64, 64)) -> Geometry:
    return Geometry(Size(*original), Size(*size), Size(*size))


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.tuples(*[st.integers(1, 40)] * 2), st.tuples(*[st.integers(1, 90)] * 2))
def test_without_padding_it_is_bicubic_interpolate(size: tuple[int, int], original: tuple[int, int]) -> None:
    depth = random_depth(*size)
    expected = F.interpolate(depth[None, None].double(), original, mode="bicubic", align_corners=False)[0, 0]
    decoded = decode_depth(depth, whole(original))
    assert decoded.dtype == np.float32
    np.testing.assert_allclose(decoded, expected.numpy(), atol=2e-6)


def test_it_is_what_transformers_makes_of_the_depth() -> None:
    depth = random_depth(24, 31)
    output = DepthEstimatorOutput(predicted_depth=depth[None])
    (expected,) = DPTImageProcessorPil().post_process_depth_estimation(output, [(111, 77)])
    np.testing.assert_allclose(decode_depth(depth, whole((111, 77))), expected["predicted_depth"].numpy(), atol=2e-5)


def test_padding_on_all_sides_of_whole_values_is_cropped_exactly() -> None:
    depth = random_depth(10, 12)
    geometry = Geometry(Size(63, 41), Size(24, 36), Size(40, 48), offset=(8, 4))
    expected = F.interpolate(depth[None, None, 2:8, 1:10].double(), (63, 41), mode="bicubic", align_corners=False)
    np.testing.assert_allclose(decode_depth(depth, geometry), expected[0, 0].numpy(), atol=2e-6)


def test_what_lies_in_the_padding_does_not_matter() -> None:
    geometry = Geometry(Size(20, 20), Size(20, 20), Size(28, 28), offset=(4, 4))
    depth = random_depth(32, 32)  # 16 / 14 of the input, as of a network with patches of 14 pixels
    other = torch.full((32, 32), 1e6)
    other[4:28, 4:28] = depth[4:28, 4:28]  # the image is from 4.57 to 27.43
    np.testing.assert_array_equal(decode_depth(depth, geometry), decode_depth(other, geometry))


def cubic(distance: float) -> float:
    """Keys' kernel with a = -0.75."""
    x, a = abs(distance), -0.75
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def reference_axis(values: NDArray[np.float64], original: int, resized: int, padded: int, offset: int) -> object:
    """One axis of the resize, (n, m) -> (original, m), value by value."""
    scale = len(values) / padded  # values in a pixel of the input
    first, last = int(np.floor(offset * scale)), int(np.ceil((offset + resized) * scale)) - 1
    rows = []
    for pixel in range(original):
        center = (offset + (pixel + 0.5) * resized / original) * scale - 0.5
        near = range(int(np.floor(center)) - 1, int(np.floor(center)) + 3)
        rows.append(sum(cubic(center - i) * values[min(max(i, first), last)] for i in near))
    return np.array(rows)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.data())
def test_fractional_crops_equal_a_plain_reference(data: st.DataObject) -> None:
    axes = []
    for _ in range(2):
        padded = 14 * data.draw(st.integers(1, 4))
        resized = data.draw(st.integers(1, padded))
        offset = data.draw(st.integers(0, padded - resized))
        values = padded // 14 * data.draw(st.sampled_from([1, 8, 16]))
        axes.append((data.draw(st.integers(1, 50)), resized, padded, offset, values))
    (H, H1, H2, top, h), (W, W1, W2, left, w) = axes
    depth = random_depth(h, w, seed=h * w)
    rows = reference_axis(depth.double().numpy(), H, H1, H2, top)
    expected = reference_axis(rows.T, W, W1, W2, left).T  # type: ignore[attr-defined]
    geometry = Geometry(Size(H, W), Size(H1, W1), Size(H2, W2), offset=(top, left))
    np.testing.assert_allclose(decode_depth(depth, geometry), expected, atol=3e-6)


def test_half_precision_is_computed_in_float32() -> None:
    depth = random_depth(9, 9).half()
    np.testing.assert_array_equal(decode_depth(depth, whole((30, 30))), decode_depth(depth.float(), whole((30, 30))))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_depth_that_is_not_finite_is_refused_with_the_cure(value: float) -> None:
    depth = random_depth(5, 5)
    depth[2, 3] = value
    with pytest.raises(CheckpointError, match=r'1 depths of 25 .* load it with dtype="float32"'):
        decode_depth(depth, whole((9, 9)))


MEASURE = """
import json
import numpy as np
import torch
from everymask.decoding.depth import decode_depth, with_depth
from everymask.geometry import Geometry, Size
from everymask.labels import LabelSet
from everymask.segmentation import Region, Segment, Segmentation

def resident(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))

def peak(work):
    with open("/proc/self/clear_refs", "w") as clear:
        clear.write("5")  # the peak counts from here
    before = resident("VmRSS")
    result = work()
    return result, resident("VmHWM") - before

torch.set_num_threads(1)
size, labels = Size(3000, 4000), LabelSet(("x",), (False,), (None,))
values = torch.rand(1344, 1792)
decode_depth(values[:9, :9], Geometry(Size(9, 9), Size(9, 9), Size(9, 9)))  # what is loaded once does not count
depth, decoding = peak(lambda: decode_depth(values, Geometry(size, Size(1344, 1792), Size(1344, 1792))))
id_map = np.arange(1, 31, dtype=np.int32).reshape(5, 6).repeat(600, axis=0).repeat(667, axis=1)[:, :4000]
segments = tuple(
    Segment(id, "x", 0, None, int((id_map == id).sum()), (0, 0, 4000, 3000), False, Region(id_map, id))
    for id in range(1, 31)
)
result, measuring = peak(
    lambda: with_depth(Segmentation("semantic", size, segments, id_map, labels), depth, "metric")
)
print(json.dumps({"decoding": decoding, "measuring": measuring, "segments": len(result.segments)}))
"""


def test_twelve_megapixels_take_at_most_300_megabytes() -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the peak of the resident memory can only be reset on Linux")
    run = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    measured = json.loads(run.stdout)
    assert measured["segments"] == 30
    assert 40e6 < measured["decoding"] <= 300e6  # the result alone takes 48 MB
    assert measured["measuring"] <= 100e6


def result_of(masks: list[NDArray[np.bool_]], id_map: NDArray[np.int32] | None, size: Size) -> Segmentation:
    segments = []
    for id, mask in enumerate(masks, 1):
        runs = Runs.from_mask(mask)
        pixels = runs if id_map is None else Region(id_map, id)
        segments.append(Segment(id, "car", 0, 0.5, runs.area, runs.box, True, pixels))
    task = "instance" if id_map is None else "panoptic"
    return Segmentation(task, size, tuple(segments), id_map, LABELS)


def assert_ranges_are_those_of_the_masks(result: Segmentation, depth: NDArray[np.float32]) -> None:
    for segment in result.segments:
        inside = depth[segment.mask]
        assert segment.depth is not None
        assert segment.depth.median == np.median(inside)
        assert segment.depth.minimum == inside.min()
        assert segment.depth.maximum == inside.max()


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.integers(1, 14), st.integers(1, 14), st.integers(1, 5), st.integers(0, 9999))
def test_every_segment_gets_the_median_and_range_of_its_mask(height: int, width: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = Size(height, width)
    depth = (80 * rng.random(size)).astype(np.float32)
    before = depth.copy()

    ids = rng.integers(0, count + 1, size).astype(np.int32)
    present = [id for id in range(1, count + 1) if (ids == id).any()]
    id_map = np.zeros(size, np.int32)
    for new, id in enumerate(present, 1):
        id_map[ids == id] = new
    masks = [id_map == id for id in range(1, len(present) + 1)]
    mapped = with_depth(result_of(masks, id_map, size), depth, "metric")
    assert_ranges_are_those_of_the_masks(mapped, depth)

    overlapping = list(rng.random((count, *size)) < 0.4)
    for mask in overlapping:
        mask[rng.integers(height), rng.integers(width)] = True
    assert_ranges_are_those_of_the_masks(with_depth(result_of(overlapping, None, size), depth, "relative"), depth)
    assert np.array_equal(depth, before)


def test_the_rest_of_the_result_stays_as_it_was() -> None:
    id_map = np.ones((4, 6), np.int32)
    result = result_of([id_map == 1], id_map, Size(4, 6))
    depth = np.arange(24, dtype=np.float32).reshape(4, 6)
    both = with_depth(result, depth, "relative")
    assert both.depth is depth
    assert both.depth_kind == "relative"
    assert both.id_map is id_map
    assert (result.depth, result.segments[0].depth) == (None, None)
    assert both.segments[0].label == "car"


def test_a_result_of_depth_alone_is_made_the_same_way() -> None:
    empty = Segmentation("depth", Size(4, 6), (), None, LabelSet((), (), ()))
    result = with_depth(empty, np.ones((4, 6), np.float32), "metric")
    assert (result.task, result.segments, result.depth_kind) == ("depth", (), "metric")
    assert (result.label_map == -1).all()
    assert result.label_map.shape == (4, 6)


def test_depth_of_another_size_or_not_finite_is_refused() -> None:
    result = result_of([], np.zeros((4, 6), np.int32), Size(4, 6))
    with pytest.raises(OptionError, match="depth is 4x6 and the result 6x4 pixels: resize"):
        with_depth(result, np.ones((6, 4), np.float32), "metric")
    with pytest.raises(OptionError, match="not finite"):
        with_depth(result, np.full((4, 6), np.nan, np.float32), "metric")
