"""The class of every pixel from a network that scores pixels: equal to resizing all logits and taking the largest."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.models.segformer.image_processing_pil_segformer import SegformerImageProcessorPil
from transformers.models.segformer.modeling_segformer import SemanticSegmenterOutput

from everymask.decoding import class_scores, decode, decoding_options
from everymask.errors import CheckpointError
from everymask.geometry import Geometry, Size
from everymask.labels import LabelSet
from everymask.networks.outputs import MaskQueries, PixelLogits

CLASSES = 9
LABELS = LabelSet(tuple("abcdefghi"), (True,) * CLASSES, (None,) * CLASSES)
SEMANTIC = decoding_options("semantic")

sides = st.integers(1, 90)
sizes = st.tuples(sides, sides)


@pytest.fixture(autouse=True, scope="module", params=["compiled", "by cells"])
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Looking into every pixel where there are few of them in a cell, or, as without a compiler, into cells alone."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "by cells":
            patch.setattr("everymask.decoding.semantic.best_classes_natively", lambda scores, grid: None)
        yield


def random_logits(size: tuple[int, int], coarse: int | None, shift: float, seed: int) -> Tensor:
    """Logits (2, C, h, w), smooth from a grid of ``coarse`` points a side or (None) noise, around ``shift``."""
    generator = torch.Generator().manual_seed(seed)
    start = size if coarse is None else (coarse, coarse)
    values = torch.randn(2, CLASSES, *start, generator=generator) * 5 + shift
    return F.interpolate(values, size=size, mode="bicubic")


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    logits_size=sizes,
    original=sizes,
    coarse=st.sampled_from([None, 2, 5]),
    shift=st.sampled_from([0.0, -1000.0, 30.0]),
    seed=st.integers(0, 1000),
)
def test_equal_to_resizing_everything(
    logits_size: tuple[int, int], original: tuple[int, int], coarse: int | None, shift: float, seed: int
) -> None:
    logits = random_logits(logits_size, coarse, shift, seed)
    geometry = Geometry(Size(*original), Size(96, 96), Size(96, 96))
    dense = F.interpolate(logits[1:], size=original, mode="bilinear")[0]
    label_map = decode(PixelLogits(logits), 1, geometry, LABELS, SEMANTIC, None).label_map
    chosen = dense.gather(0, torch.from_numpy(label_map).long()[None])[0]
    assert (chosen >= dense.amax(0) - 1e-6 * dense.abs().amax()).all()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    original=sizes,
    resized=st.tuples(st.integers(8, 40), st.integers(8, 40)),
    before=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    after=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    seed=st.integers(0, 1000),
)
def test_padding_on_all_sides_is_cropped_away(
    original: tuple[int, int],
    resized: tuple[int, int],
    before: tuple[int, int],
    after: tuple[int, int],
    seed: int,
) -> None:
    padded = tuple(sum(parts) for parts in zip(before, resized, after, strict=True))
    logits = random_logits(padded, 4, 0.0, seed)
    geometry = Geometry(Size(*original), Size(*resized), Size(*padded), offset=before)
    inside = logits[:1, :, before[0] : before[0] + resized[0], before[1] : before[1] + resized[1]]
    dense = F.interpolate(inside, size=original, mode="bilinear")[0]
    label_map = decode(PixelLogits(logits), 0, geometry, LABELS, SEMANTIC, None).label_map
    chosen = dense.gather(0, torch.from_numpy(label_map).long()[None])[0]
    assert (chosen >= dense.amax(0) - 1e-5).all()


@pytest.mark.parametrize("original", [(60, 80), (333, 500), (17, 400)])
def test_equal_to_transformers(original: tuple[int, int]) -> None:
    logits = random_logits((32, 32), 6, 0.0, 0)
    [expected, _] = SegformerImageProcessorPil().post_process_semantic_segmentation(
        SemanticSegmenterOutput(logits=logits), [original, original]
    )
    geometry = Geometry(Size(*original), Size(128, 128), Size(128, 128))
    result = decode(PixelLogits(logits), 0, geometry, LABELS, SEMANTIC, None)
    assert (result.label_map == expected.numpy()).all()
    areas = [segment.area for segment in result.segments]
    assert areas == sorted(areas, reverse=True)
    assert sum(areas) == original[0] * original[1]
    assert all(segment.score is None for segment in result.segments)


def test_of_equal_logits_the_first_class_wins() -> None:
    logits = torch.zeros(1, CLASSES, 4, 4)
    logits[:, 3:6] = 1.0
    size = Size(30, 30)
    assert (decode(PixelLogits(logits), 0, Geometry(size, size, size), LABELS, SEMANTIC, None).label_map == 3).all()


def test_holes_are_never_chosen() -> None:
    labels = LabelSet(LABELS.names, LABELS.things, LABELS.colors, frozenset({4}))
    logits = torch.zeros(1, CLASSES, 4, 4)
    logits[:, 4], logits[:, 7] = 9.0, 1.0
    size = Size(16, 16)
    assert (decode(PixelLogits(logits), 0, Geometry(size, size, size), labels, SEMANTIC, None).label_map == 7).all()


def test_another_number_of_classes_is_refused() -> None:
    size = Size(16, 16)
    with pytest.raises(CheckpointError, match="tells 5 classes apart but the label set names 9"):
        decode(PixelLogits(torch.zeros(1, 5, 4, 4)), 0, Geometry(size, size, size), LABELS, SEMANTIC, None)


def test_scores_of_queries_at_the_masks_resolution() -> None:
    generator = torch.Generator().manual_seed(0)
    queries = MaskQueries(
        torch.randn(2, 5, CLASSES + 1, generator=generator), torch.randn(2, 5, 6, 7, generator=generator)
    )
    scores = class_scores(queries.class_logits, queries.mask_logits)
    expected = np.zeros((2, CLASSES, 6, 7))
    for image in range(2):
        for query in range(5):
            probability = queries.class_logits[image, query].softmax(-1)[:-1].numpy()
            mask = queries.mask_logits[image, query].sigmoid().numpy()
            expected[image] += probability[:, None, None] * mask
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-5)
