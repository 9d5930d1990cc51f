"""Masks that decoding does not read are not needed, and indices that are no class never come out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from eager import eager_segmenter
from everymask.checkpoints import Checkpoint
from everymask.checkpoints.layouts import detr
from everymask.decoding import decode, decoding_options, relevant_queries
from everymask.geometry import Geometry, Size
from everymask.labels import LabelSet, label_set
from everymask.networks.detr import EMPTY, Detr
from everymask.networks.outputs import MaskQueries
from everymask.preprocessing import Preprocessing
from everymask.segmentation import TASKS, Segmentation, Task

LABELS = LabelSet(
    ("N/A", "cat", "N/A", "sky", "dog"),
    (False, True, False, False, True),
    (None,) * 5,
    holes=frozenset({0, 2}),
)
SMALL: dict[str, Any] = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "num_queries": 20,
    "dilation": True,
    "backbone_kwargs": {"channels": [4, 8, 8, 16], "layers": [1, 1, 1, 1]},
}


class Classes(nn.Module):
    """Gives every query classes of its own; an untrained network's queries are all alike."""

    def __init__(self, queries: int, num_labels: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(3 * torch.randn(queries, num_labels + 1))
        with torch.no_grad():
            self.logits[::3, -1] += 9.0  # no object

    def forward(self, queries: Tensor) -> Tensor:
        return self.logits.expand(len(queries), -1, -1)


def small_detr(num_labels: int, seed: int) -> Detr:
    """A network of random weights with sharp attention, steep masks and classes of all sorts."""
    torch.manual_seed(seed)
    network, _ = detr.build(SMALL, num_labels)
    assert isinstance(network, Detr)
    nn.init.normal_(network.query_positions, std=5.0)
    for attention in (network.mask_attention, *(layer.cross_attention for layer in network.decoder.layers)):
        nn.init.normal_(attention.query.weight)
        nn.init.normal_(attention.key.weight)
    nn.init.normal_(network.mask_head.predictor.weight, std=2.0)
    network.class_predictor = Classes(SMALL["num_queries"], num_labels)
    return network.eval()


def assert_same(ours: Segmentation, expected: Segmentation) -> None:
    def facts(result: Segmentation) -> list[object]:
        return [(s.id, s.label, s.label_id, s.area, s.box, s.runs.counts) for s in result.segments]

    assert facts(ours) == facts(expected)
    # A convolution of fewer masks may round in another order.
    assert [s.score for s in ours.segments] == pytest.approx([s.score for s in expected.segments], rel=1e-5)
    assert ours.dropped == expected.dropped
    assert (ours.id_map is None) == (expected.id_map is None)
    if ours.id_map is not None and expected.id_map is not None:
        assert (ours.id_map == expected.id_map).all()


@settings(derandomize=True, deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 999),
    task=st.sampled_from(["panoptic", "instance"]),
    threshold=st.sampled_from([0.0, 0.3, 0.6, 0.8, 0.95, 1.0]),
    mask_threshold=st.sampled_from([0.0, 0.5]),
)
@torch.inference_mode()
def test_the_result_is_the_same_without_the_masks_that_nobody_reads(
    seed: int, task: Task, threshold: float, mask_threshold: float
) -> None:
    network = small_detr(len(LABELS), seed)
    options = decoding_options(task, threshold=threshold, mask_threshold=mask_threshold, explain=True)
    pixel_values = torch.randn(2, 3, 64, 96)
    complete = network(pixel_values)
    sparing = network(pixel_values, relevant_queries(options, LABELS))
    geometry = Geometry(Size(70, 110), Size(64, 96), Size(64, 96))
    for image in range(2):
        expected = decode(complete, image, geometry, LABELS, options, None)
        assert_same(decode(sparing, image, geometry, LABELS, options, None), expected)


@torch.inference_mode()
def test_most_masks_are_not_made_and_some_segments_are_found() -> None:
    """What the test before compares is not empty."""
    network = small_detr(len(LABELS), 3)
    options = decoding_options("panoptic", threshold=0.6, overlap_threshold=0.0)
    output = network(torch.randn(1, 3, 64, 96), relevant_queries(options, LABELS))
    made = (output.mask_logits != EMPTY).flatten(2).any(-1).sum()
    assert 2 <= made <= 12
    geometry = Geometry(Size(70, 110), Size(64, 96), Size(64, 96))
    assert len(decode(output, 0, geometry, LABELS, options, None).segments) >= 2


def logits(*probabilities: float) -> Tensor:
    """Of one query, from its probabilities: (1, 1, C + 1)."""
    return torch.tensor(probabilities).log()[None, None]


@pytest.mark.parametrize(
    ("probabilities", "panoptic", "instance"),
    [
        ((0.0, 0.9, 0.0, 0.0, 0.0, 0.1), True, True),
        ((0.0, 0.0, 0.0, 0.9, 0.0, 0.1), True, False),  # stuff is no instance
        ((0.9, 0.0, 0.0, 0.0, 0.0, 0.1), False, False),  # no class
        ((0.0, 0.4, 0.0, 0.0, 0.0, 0.6), False, False),
        ((0.3, 0.6, 0.0, 0.0, 0.0, 0.1), True, True),
        ((0.0, 0.3, 0.0, 0.0, 0.3, 0.4), False, False),
    ],
)
def test_which_queries_matter(probabilities: tuple[float, ...], panoptic: bool, instance: bool) -> None:
    for task, expected in (("panoptic", panoptic), ("instance", instance)):
        keep = relevant_queries(decoding_options(task, threshold=0.5), LABELS)
        assert keep is not None
        assert keep(logits(*probabilities)).tolist() == [[expected]]


def test_a_semantic_segmentation_reads_every_mask() -> None:
    assert relevant_queries(decoding_options("semantic"), LABELS) is None


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("mask", [5.0, -200.0])
def test_what_is_no_class_never_comes_out(task: Task, mask: float) -> None:
    """Even where a network is sure of it, and where every mask is empty."""
    class_logits = torch.full((1, 4, 6), -8.0)
    class_logits[0, :3, [0, 2]] = 8.0
    class_logits[0, 3, 4] = 4.0
    queries = MaskQueries(class_logits, torch.full((1, 4, 8, 8), mask))
    geometry = Geometry(Size(16, 16), Size(32, 32), Size(32, 32))
    options = decoding_options(task) if task == "semantic" else decoding_options(task, threshold=0.0)
    result = decode(queries, 0, geometry, LABELS, options, None)
    assert {segment.label_id for segment in result.segments} <= {1, 3, 4}
    assert {segment.label for segment in result.segments} <= {"cat", "sky", "dog"}
    assert set(np.unique(result.label_map)) <= {-1, 1, 3, 4}
    if mask > 0:
        assert [segment.label for segment in result.segments][:1] == ["dog"]
    assert result.labels is LABELS


def test_holes_do_not_change_the_scores_of_classes() -> None:
    queries = MaskQueries(logits(0.05, 0.9, 0.0, 0.0, 0.0, 0.05), torch.full((1, 1, 8, 8), 9.0))
    geometry = Geometry(Size(16, 16), Size(32, 32), Size(32, 32))
    [segment] = decode(queries, 0, geometry, LABELS, decoding_options("panoptic"), None).segments
    assert (segment.label, segment.label_id) == ("cat", 1)
    assert segment.score == pytest.approx(0.9)


def test_a_segmenter_makes_only_the_masks_it_reads() -> None:
    labels = label_set("coco-detr")
    network = small_detr(len(labels), 0)
    preprocessing = Preprocessing.from_config({"image_processor_type": "DetrImageProcessor", "size": 64})
    checkpoint = Checkpoint("small", Path("small"), network, labels, preprocessing, TASKS, None)
    model = eager_segmenter(checkpoint)
    made: list[int] = []
    network.mask_head.register_forward_pre_hook(lambda head, inputs: made.append(len(inputs[2])))
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    model(image, task="semantic")
    assert sum(made) == SMALL["num_queries"]
    made.clear()
    result = model(image, threshold=0.5)
    assert sum(made) < SMALL["num_queries"]
    with torch.inference_mode():
        prepared = model.prepare(image)
        complete = network(prepared.pixel_values)
    expected = decode(complete, 0, prepared.geometry, labels, decoding_options("panoptic", threshold=0.5), None)
    assert_same(result, expected)
