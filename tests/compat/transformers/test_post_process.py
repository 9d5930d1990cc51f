"""Post-processing as functions gives what the methods of transformers' image processors give, for random queries."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from official_processors import CANVAS, EOMT, OFFICIAL, OTHERS, PIXELS, Case, cases, clear_queries, torchvision
from torch import Tensor
from transformers.modeling_outputs import SemanticSegmenterOutput
from transformers.models.eomt.image_processing_pil_eomt import EomtImageProcessorPil

from everymask.compat.transformers.post_process import (
    SemanticScores,
    post_process_instance_segmentation,
    post_process_panoptic_segmentation,
    post_process_semantic_segmentation,
)
from everymask.errors import OptionError
from everymask.networks.outputs import MaskQueries, PixelLogits
from tensors import LargestTensor

__all__ = ["torchvision"]  # a fixture of all tests here

thresholds = st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0])
limits = st.fixed_dictionaries(
    {}, optional={"threshold": thresholds, "mask_threshold": thresholds, "overlap_mask_area_threshold": thresholds}
)
fuse_sets = st.none() | st.sets(st.integers(0, 3))
quickly = settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def assert_same(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    assert len(ours) == len(theirs)
    for our, their in zip(ours, theirs, strict=True):
        assert our.keys() == their.keys()
        if isinstance(their["segmentation"], list):
            assert our["segmentation"] == their["segmentation"]
        else:
            assert our["segmentation"].dtype == their["segmentation"].dtype
            assert torch.equal(our["segmentation"], their["segmentation"])
        assert len(our["segments_info"]) == len(their["segments_info"])
        for ours_of_segment, theirs_of_segment in zip(our["segments_info"], their["segments_info"], strict=True):
            assert list(ours_of_segment) == list(theirs_of_segment)
            assert ours_of_segment == {
                **theirs_of_segment,
                "score": pytest.approx(theirs_of_segment["score"], abs=1e-6),
            }


@quickly
@given(case=cases(OTHERS), limits=limits, fused=fuse_sets)
def test_panoptic_segments_are_those_of_transformers(
    case: tuple[str, Case], limits: dict[str, float], fused: set[int] | None
) -> None:
    family, given = case
    official = OFFICIAL[family]
    options = {**limits, "label_ids_to_fuse": fused, "target_sizes": given.target_sizes}
    theirs = official.processor.post_process_panoptic_segmentation(official.outputs(given.queries), **options)
    assert_same(post_process_panoptic_segmentation(given.queries, **options, family=family), theirs)


@quickly
@given(case=cases(EOMT, sized=True), limits=limits, fused=fuse_sets)
def test_panoptic_segments_of_eomt_are_those_of_transformers(
    case: tuple[str, Case], limits: dict[str, float], fused: set[int] | None
) -> None:
    family, given = case
    official = OFFICIAL[family]
    options = {**limits, "stuff_classes": fused, "target_sizes": given.target_sizes}
    theirs = official.processor.post_process_panoptic_segmentation(official.outputs(given.queries), **options)
    assert_same(post_process_panoptic_segmentation(given.queries, **options, size=CANVAS, family=family), theirs)


@quickly
@given(case=cases(OTHERS), limits=limits, form=st.sampled_from([None, "return_coco_annotation", "return_binary_maps"]))
def test_instances_are_those_of_transformers(
    case: tuple[str, Case], limits: dict[str, float], form: str | None
) -> None:
    family, given = case
    official = OFFICIAL[family]
    own_masks = family in ("mask2former", "maskformer")
    if own_masks:
        limits = {**limits, "mask_threshold": 0.5}  # transformers knows no other: see the test below
    options: dict[str, Any] = {**limits, "target_sizes": given.target_sizes}
    if form == "return_coco_annotation" or (form and own_masks):
        options[form] = True
    theirs = official.processor.post_process_instance_segmentation(official.outputs(given.queries), **options)
    for their in theirs:
        if form == "return_coco_annotation" and isinstance(their["segmentation"], Tensor):  # with no query, not made
            their["segmentation"] = [[1, their["segmentation"].numel()]]
    assert_same(post_process_instance_segmentation(given.queries, **options, family=family), theirs)


@quickly
@given(case=cases(EOMT, sized=True), threshold=thresholds)
def test_instances_of_eomt_are_those_of_transformers(case: tuple[str, Case], threshold: float) -> None:
    family, given = case
    official = OFFICIAL[family]
    options = {"threshold": threshold, "target_sizes": given.target_sizes}
    theirs = official.processor.post_process_instance_segmentation(official.outputs(given.queries), **options)
    assert_same(post_process_instance_segmentation(given.queries, **options, size=CANVAS, family=family), theirs)


def assert_same_classes(
    outputs: object, theirs: list[Any], target_sizes: list[tuple[int, int]] | None, **options: Any
) -> None:
    """Theirs with scores. Ours with scores are equal, too, and the maps come out the same without."""
    maps = post_process_semantic_segmentation(outputs, target_sizes, **options)
    ours = post_process_semantic_segmentation(outputs, target_sizes, return_segmentation_scores=True, **options)
    assert len(theirs) == len(ours) == len(maps)
    for their, our, map in zip(theirs, ours, maps, strict=True):
        assert isinstance(our, SemanticScores)
        assert torch.equal(our.segmentation_scores, their.segmentation_scores)
        assert our["segmentation"].dtype == their["segmentation"].dtype == torch.int64
        assert torch.equal(our["segmentation"], their["segmentation"])
        assert torch.equal(map, their["segmentation"])


@quickly
@given(case=cases(tuple(name for name in OTHERS if name != "oneformer")))
def test_class_maps_are_those_of_transformers(case: tuple[str, Case]) -> None:
    family, given = case
    official = OFFICIAL[family]
    outputs = official.outputs(given.queries)
    theirs = official.processor.post_process_semantic_segmentation(outputs, given.target_sizes, True)
    assert_same_classes(given.queries, theirs, given.target_sizes, family=family)


@quickly
@given(case=cases(("oneformer",)))
def test_class_maps_of_oneformer_are_smoothed_where_they_become_smaller(case: tuple[str, Case]) -> None:
    """As its processor with torchvision does; the one without gives the scores before they are resized."""
    _, given = case
    official = OFFICIAL["oneformer"]
    theirs = official.processor.post_process_semantic_segmentation(official.outputs(given.queries), None, True)
    for index, size in enumerate(given.target_sizes or ()):
        scores = theirs[index]["segmentation_scores"][None]
        scores = F.interpolate(scores, size=size, mode="bilinear", align_corners=False, antialias=True)[0]
        theirs[index].update(segmentation=scores.argmax(0), segmentation_scores=scores)
    assert_same_classes(given.queries, theirs, given.target_sizes, family="oneformer")


@quickly
@given(case=cases(EOMT, sized=True))
def test_class_maps_of_eomt_are_those_of_transformers(case: tuple[str, Case]) -> None:
    family, given = case
    official = OFFICIAL[family]
    outputs = official.outputs(given.queries)
    theirs = official.processor.post_process_semantic_segmentation(
        outputs, given.target_sizes, return_segmentation_scores=True
    )
    assert_same_classes(given.queries, theirs, given.target_sizes, size=CANVAS, family=family)


@pytest.mark.parametrize("sizes", [[(50, 30)], [(30, 50)], [(24, 24)], [(60, 20), (20, 60), (24, 25)]])
def test_patches_of_eomt_are_merged_as_in_transformers(sizes: list[tuple[int, int]]) -> None:
    size = {"shortest_edge": 24, "longest_edge": None}  # as published with ADE20K, but for the figure
    processor = EomtImageProcessorPil(size=size, do_split_image=True)
    images = [torch.zeros(3, *each, dtype=torch.uint8).numpy() for each in sizes]
    inputs = processor(images, return_tensors="pt")
    torch.manual_seed(0)
    count = len(inputs["patch_offsets"])
    assert count >= len(sizes)
    queries = MaskQueries(torch.randn(count, 5, 4), torch.randn(count, 5, 6, 6))
    outputs = OFFICIAL["eomt"].outputs(queries)
    outputs.patch_offsets = inputs["patch_offsets"]
    theirs = processor.post_process_semantic_segmentation(outputs, sizes, size, True)
    assert_same_classes(outputs, theirs, sizes, size=size)
    assert_same_classes(
        queries,
        theirs,
        sizes,
        size=size,
        family="eomt",
        patch_offsets=[each.tolist() for each in inputs["patch_offsets"]],
    )


@quickly
@given(case=cases(("maskformer",)), processor=st.sampled_from(PIXELS))
def test_class_maps_of_pixel_scores_are_those_of_transformers(case: tuple[str, Case], processor: Any) -> None:
    given = case[1]
    outputs = SemanticSegmenterOutput(logits=given.queries.mask_logits)
    theirs = processor.post_process_semantic_segmentation(outputs, given.target_sizes, True)
    assert_same_classes(outputs, theirs, given.target_sizes)
    assert_same_classes(PixelLogits(outputs.logits), theirs, given.target_sizes, family="segformer")


@pytest.mark.parametrize("family", OFFICIAL)
def test_outputs_of_transformers_tell_their_family(family: str) -> None:
    official = OFFICIAL[family]
    queries = clear_queries(1)
    options: dict[str, Any] = {"target_sizes": [(30, 40)], **({"size": CANVAS} if family in EOMT else {})}
    outputs = official.outputs(queries)
    as_mapping = dict(outputs)
    as_object = SimpleNamespace(**as_mapping)
    for post_process in (post_process_panoptic_segmentation, post_process_instance_segmentation):
        expected = post_process(queries, **options, threshold=0.1, family=family)
        assert expected[0]["segments_info"]
        assert_same(post_process(outputs, **options, threshold=0.1), expected)
        assert_same(post_process(as_mapping, **options, threshold=0.1, family=family), expected)
        assert_same(post_process(as_object, **options, threshold=0.1, family=family), expected)
    with pytest.raises(OptionError, match="does not tell whose they are: give the family, detr or eomt"):
        post_process_panoptic_segmentation(as_mapping, **options)


@pytest.mark.parametrize("family", OFFICIAL)
def test_defaults_are_those_of_transformers(family: str) -> None:
    """Of scores on both sides of 0.5 and 0.8, and masks that keep shares on both sides of 0.8."""
    official = OFFICIAL[family]
    queries = clear_queries(2)
    sizes = {"target_sizes": [(30, 40), (24, 32)]}
    size = {"size": CANVAS} if family in EOMT else {}
    outputs, processor = official.outputs(queries), official.processor
    theirs = processor.post_process_panoptic_segmentation(outputs, **sizes)
    assert any(info for each in theirs for info in each["segments_info"])
    assert_same(post_process_panoptic_segmentation(outputs, **sizes, **size), theirs)
    theirs = processor.post_process_instance_segmentation(outputs, **sizes)
    assert any(info for each in theirs for info in each["segments_info"])
    assert_same(post_process_instance_segmentation(outputs, **sizes, **size), theirs)


def test_eomt_without_a_size_has_that_of_its_processor() -> None:
    queries = clear_queries(1)
    theirs = EomtImageProcessorPil().post_process_panoptic_segmentation(
        OFFICIAL["eomt"].outputs(queries), [(60, 90)], threshold=0.1
    )
    assert theirs[0]["segments_info"]
    assert_same(
        post_process_panoptic_segmentation(queries, target_sizes=[(60, 90)], threshold=0.1, family="eomt"), theirs
    )


def test_half_precision_is_read_in_half_precision() -> None:
    queries = clear_queries(1)
    queries = MaskQueries(queries.class_logits.bfloat16(), queries.mask_logits.bfloat16())
    for family in OTHERS:
        official = OFFICIAL[family]
        outputs, sizes = official.outputs(queries), [(30, 40)]
        theirs = official.processor.post_process_panoptic_segmentation(outputs, target_sizes=sizes)
        assert theirs[0]["segments_info"]
        assert_same(post_process_panoptic_segmentation(queries, target_sizes=sizes, family=family), theirs)
        if family != "oneformer":
            [their_map] = official.processor.post_process_semantic_segmentation(outputs, sizes)
            [our_map] = post_process_semantic_segmentation(queries, sizes, family=family)
            assert torch.equal(our_map, their_map)


def test_outputs_with_gradients_are_read_and_left_as_they_are() -> None:
    queries = MaskQueries(torch.randn(1, 4, 3, requires_grad=True), torch.randn(1, 4, 5, 5, requires_grad=True))
    before = queries.mask_logits.clone()
    for family in OTHERS:
        post_process_panoptic_segmentation(queries, threshold=0, family=family)
        [instances] = post_process_instance_segmentation(queries, threshold=0, family=family)
        [semantic] = post_process_semantic_segmentation(queries, None, True, family=family)
        assert isinstance(semantic, SemanticScores)
        assert not semantic.segmentation_scores.requires_grad
        assert not instances["segmentation"].requires_grad
    assert torch.equal(queries.mask_logits, before)


@pytest.mark.parametrize("family", ["mask2former", "maskformer", "eomt"])
def test_the_mask_threshold_of_instances_does_what_it_says(family: str) -> None:
    """transformers takes one and ignores it (#44900)."""
    ramp = torch.linspace(-4, 4, 640)[None, None, None].expand(1, 1, 8, 640)
    queries = MaskQueries(torch.tensor([[[9.0, 0.0]]]), ramp)
    for mask_threshold in (0, 0.1, 0.5, 0.9):
        [result] = post_process_instance_segmentation(
            queries, threshold=0, mask_threshold=mask_threshold, target_sizes=[(640, 640)], family=family
        )
        inside = (result["segmentation"] == 0).float().mean()
        assert inside.item() == pytest.approx((ramp.sigmoid() > mask_threshold).float().mean().item(), abs=0.005)
    [result] = post_process_instance_segmentation(
        queries, threshold=0, mask_threshold=1, target_sizes=[(640, 640)], family=family
    )
    assert result["segments_info"] == []


def test_an_id_may_come_twice_after_a_fused_class_as_in_transformers() -> None:
    classes = torch.tensor([[[9.0, 0, 0, 0], [0, 9.0, 0, 0], [9.0, 0, 0, 0], [0, 0, 9.0, 0]]])
    masks = torch.full((1, 4, 1, 4), -9.0)
    masks[0, range(4), 0, range(4)] = 9.0
    queries = MaskQueries(classes, masks)
    [result] = post_process_panoptic_segmentation(queries, label_ids_to_fuse={0}, family="maskformer")
    assert result["segmentation"].tolist() == [[1, 2, 1, 2]]
    assert [info["id"] for info in result["segments_info"]] == [1, 2, 1, 2]
    assert [info["label_id"] for info in result["segments_info"]] == [0, 1, 0, 2]
    [result] = post_process_panoptic_segmentation(
        queries,
        stuff_classes={0},
        target_sizes=[(20, 80)],
        size={"shortest_edge": 20, "longest_edge": 80},
        family="eomt",
    )
    assert [info["id"] for info in result["segments_info"]] == [0, 1, 2]
    assert result["segmentation"][10].unique_consecutive().tolist() == [0, 1, 0, 2]


@pytest.mark.parametrize(("family", "segments"), [("detr", 2), ("eomt", 1), ("maskformer", 2)])
def test_a_query_that_wins_only_outside_of_its_mask(family: str, segments: int) -> None:
    """On the left the first query wins without reaching 0.5; on the right, where it does, the second one wins."""
    official = OFFICIAL[family]
    masks = torch.tensor([[-0.4, 0.4], [-2.0, 2.0]]).repeat_interleave(16, -1).view(1, 2, 1, 32).expand(1, 2, 24, 32)
    queries = MaskQueries(torch.tensor([[[9.0, 0, 0], [0, 9.0, 0]]]), masks)
    theirs = official.processor.post_process_panoptic_segmentation(official.outputs(queries), target_sizes=[(24, 32)])
    size = CANVAS if family in EOMT else None
    ours = post_process_panoptic_segmentation(queries, target_sizes=[(24, 32)], size=size, family=family)
    assert len(ours[0]["segments_info"]) == segments
    assert_same(ours, theirs)


def test_a_query_that_wins_nothing_is_no_segment_whatever_its_share_may_be() -> None:
    queries = MaskQueries(torch.tensor([[[9.0, 0], [8.0, 0]]]), torch.full((1, 2, 3, 3), 5.0))
    options = {"overlap_mask_area_threshold": -1.0, "target_sizes": [(6, 6)], "family": "maskformer"}
    [found] = post_process_panoptic_segmentation(queries, **options)
    assert [info["score"] for info in found["segments_info"]] == [0.999877]


@pytest.mark.parametrize("family", OTHERS)
def test_thresholds_that_are_met_exactly(family: str) -> None:
    """A probability of 0.5, a confidence of 1, and 40 of 50 pixels: in float32 a little more than 0.8."""
    official = OFFICIAL[family]
    masks = torch.full((1, 2, 1, 90), -40.0)
    masks[..., 0, :, :40], masks[..., 0, :, 40:50], masks[..., 1, :, 40:] = 40.0, 8.0, 40.0
    for score, segments in ((0.5, 0), (0.999877, 2)):
        class_logits = torch.tensor([0.0 if score == 0.5 else 9.0, 0.0]).expand(1, 2, 2)
        outputs = official.outputs(MaskQueries(class_logits, masks))
        theirs = official.processor.post_process_panoptic_segmentation(outputs, threshold=0.5)
        assert len(theirs[0]["segments_info"]) == segments
        assert_same(post_process_panoptic_segmentation(outputs, threshold=0.5), theirs)
        theirs = official.processor.post_process_instance_segmentation(outputs, threshold=0.5)
        assert_same(post_process_instance_segmentation(outputs, threshold=0.5), theirs)
    if family == "maskformer":
        outputs = official.outputs(MaskQueries(torch.zeros(1, 2, 2), masks))
        [found] = post_process_instance_segmentation(outputs, threshold=0.5)
        assert [info["score"] for info in found["segments_info"]] == [0.5]


def test_what_no_patch_covers_is_of_the_first_class() -> None:
    """As in transformers; its processor may lose the last row of pixels to rounding."""
    queries = clear_queries(2)
    outputs = OFFICIAL["eomt"].outputs(queries)
    outputs.patch_offsets = [torch.tensor([0, 0, 24]), torch.tensor([0, 26, 50])]
    size = {"shortest_edge": 24, "longest_edge": None}
    processor = OFFICIAL["eomt"].processor
    theirs = processor.post_process_semantic_segmentation(outputs, [(50, 24)], size, return_segmentation_scores=True)
    assert (theirs[0]["segmentation"][24:26] == 0).all()
    assert_same_classes(outputs, theirs, [(50, 24)], size=size)


def test_no_tensor_grows_with_queries_or_classes_times_the_image() -> None:
    """A map of 64-bit integers is the largest."""
    queries = MaskQueries(9 * torch.randn(1, 12, 14), 3 * torch.randn(1, 12, 6, 8))
    size = [(900, 1200)]
    with LargestTensor() as largest:
        for family in OFFICIAL:
            options: dict[str, Any] = {"family": family, "size": {"shortest_edge": 120} if family in EOMT else None}
            post_process_panoptic_segmentation(queries, target_sizes=size, threshold=0, **options)
            post_process_instance_segmentation(queries, target_sizes=size, threshold=0, **options)
            post_process_semantic_segmentation(queries, size, **options)
    assert 8 * 900 * 1200 <= largest.bytes < 2 * 8 * 900 * 1200
