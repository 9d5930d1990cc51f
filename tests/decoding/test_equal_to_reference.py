"""All three decoders against the dense reference, over sizes, paddings, queries, classes and thresholds."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from everymask.decoding import DecodingOptions, decode, decoding_options
from everymask.geometry import Geometry, Size
from everymask.labels import LabelSet
from everymask.networks.outputs import MaskQueries
from everymask.runs import Runs
from everymask.segmentation import Segmentation

from . import reference


@dataclass
class Case:
    class_logits: Tensor  # (Q, C + 1)
    mask_logits: Tensor  # (Q, h, w)
    geometry: Geometry
    labels: LabelSet
    options: DecodingOptions

    def decode(self) -> Segmentation:
        queries = MaskQueries(self.class_logits[None], self.mask_logits[None])
        return decode(queries, 0, self.geometry, self.labels, self.options, None)

    def reference(self) -> reference.Reference:
        return reference.decode(self.class_logits, self.mask_logits, self.geometry, self.labels, self.options)


def label_set(things: list[bool]) -> LabelSet:
    return LabelSet(tuple(f"class {index}" for index in range(len(things))), tuple(things), (None,) * len(things))


@st.composite
def options(draw: st.DrawFn, task: str) -> DecodingOptions:
    chosen = {}
    if task != "semantic":
        chosen["threshold"] = draw(st.sampled_from([0.0, 0.3, 0.5, None]))
        chosen["mask_threshold"] = draw(st.sampled_from([0.0, 0.2, 0.5, 0.8, 1.0, None]))
        chosen["explain"] = True
    if task == "panoptic":
        chosen["overlap_threshold"] = draw(st.sampled_from([0.0, 0.5, 1.0, None]))
    return decoding_options(task, **chosen)


@st.composite
def cases(draw: st.DrawFn, task: str) -> Case:
    queries, height, width = draw(st.integers(1, 7)), draw(st.integers(1, 12)), draw(st.integers(1, 12))
    stride = draw(st.sampled_from([1, 2, 4]))
    padded = Size(height * stride, width * stride)
    whole = draw(st.booleans())
    resized = padded if whole else Size(draw(st.integers(1, padded.height)), draw(st.integers(1, padded.width)))
    original = Size(draw(st.integers(1, 50)), draw(st.integers(1, 50)))
    labels = label_set(draw(st.lists(st.booleans(), min_size=1, max_size=6)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    contrast, level = draw(st.sampled_from([0.5, 3.0, 10.0])), draw(st.sampled_from([-3.0, 0.0, 3.0]))
    return Case(
        torch.randn(queries, len(labels) + 1, generator=generator) * draw(st.sampled_from([1.0, 4.0])),
        torch.randn(queries, height, width, generator=generator) * contrast + level,
        Geometry(original, resized, padded),
        labels,
        draw(options(task)),
    )


def check_against_reference(case: Case) -> None:
    expected = case.reference()
    assume(not expected.ties)
    result = case.decode()
    assert [segment.label_id for segment in result.segments] == [label for label, _, _ in expected.segments]
    assert [segment.id for segment in result.segments] == list(range(1, len(expected.segments) + 1))
    id_map = np.zeros(case.geometry.original, np.int32)
    for segment, (label, score, mask) in zip(result.segments, expected.segments, strict=True):
        assert np.array_equal(segment.mask, mask)
        assert segment.score == (None if score is None else pytest.approx(score, abs=1e-5))
        assert segment.area == mask.sum()
        y, x = np.nonzero(mask)
        assert segment.box == (x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1)
        assert (segment.label, segment.is_thing) == (case.labels.names[label], case.labels.things[label])
        id_map[mask] = segment.id
    if result.task == "instance":
        assert result.id_map is None
        assert [segment.pixels for segment in result.segments] == [Runs.from_mask(m) for _, _, m in expected.segments]
    else:
        assert result.id_map is not None
        assert result.id_map.dtype == np.int32
        assert np.array_equal(result.id_map, id_map)
    if result.task == "semantic":
        assert result.dropped is None
    else:
        assert result.dropped is not None
        assert [dropped.query for dropped in result.dropped] == sorted(expected.dropped)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(cases("panoptic"))
def test_panoptic(case: Case) -> None:
    check_against_reference(case)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(cases("instance"))
def test_instance(case: Case) -> None:
    check_against_reference(case)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(cases("semantic"))
def test_semantic(case: Case) -> None:
    check_against_reference(case)


def large_case(task: str, logits: Size, original: Size, seed: int) -> Case:
    """Smooth masks on an image of several bands and pieces, with padding that cuts through a logit."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, 12, 5, 6, generator=generator) * 8
    masks = torch.nn.functional.interpolate(coarse, size=logits, mode="bicubic", align_corners=False)[0]
    padded = Size(4 * logits.height, 4 * logits.width)
    chosen = {
        "panoptic": decoding_options("panoptic", threshold=0.3, overlap_threshold=0.1),
        "instance": decoding_options("instance", threshold=0.3),
        "semantic": decoding_options("semantic"),
    }
    return Case(
        torch.randn(12, 9, generator=generator) * 4,
        masks,
        Geometry(original, Size(padded.height - 3, padded.width - 9), padded),
        label_set([True] * 5 + [False] * 3),
        chosen[task],
    )


# The second has cells larger than the working memory of a decoder, the third more logits than pixels.
@pytest.mark.parametrize(
    ("logits", "original"),
    [(Size(40, 56), Size(601, 799)), (Size(2, 3), Size(900, 1100)), (Size(60, 70), Size(31, 23))],
    ids=["many cells", "huge cells", "fewer pixels than logits"],
)
@pytest.mark.parametrize("task", ["panoptic", "instance", "semantic", "panoptic by torch", "semantic by torch"])
def test_large_images(task: str, logits: Size, original: Size, monkeypatch: pytest.MonkeyPatch) -> None:
    if task.endswith("torch"):  # as where there is no compiler
        monkeypatch.setattr("everymask.decoding.queries_native.compiled", lambda source: None)
        task = task.split()[0]
    case = large_case(task, logits, original, seed=1)
    expected, result = case.reference(), case.decode()
    assert len(expected.segments) > 1
    assert len(result.segments) == len(expected.segments)
    for segment, (label, score, mask) in zip(result.segments, expected.segments, strict=True):
        assert segment.label_id == label
        assert segment.score == (None if score is None else pytest.approx(score, abs=1e-4))
        # Hundreds of thousands of pixels: a few lie so near a border that float32 decides otherwise.
        assert (segment.mask != mask).sum() <= 1e-5 * mask.size
