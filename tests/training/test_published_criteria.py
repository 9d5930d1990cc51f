"""The set-prediction loss equals the one of every family, on the same predictions and the same random points."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import DetrConfig, EomtConfig
from transformers.image_transforms import corners_to_center_format
from transformers.loss.loss_for_object_detection import ForSegmentationLoss
from transformers.models.detr.image_processing_pil_detr import masks_to_boxes
from transformers.models.eomt.modeling_eomt import EomtLoss
from transformers.models.maskformer.modeling_maskformer import MaskFormerHungarianMatcher, MaskFormerLoss
from transformers.models.oneformer.modeling_oneformer import OneFormerHungarianMatcher, OneFormerLoss

from everymask.networks.detr import BoxedQueries
from everymask.networks.outputs import MaskQueries
from everymask.training.boxes import boxes_of
from everymask.training.criterion import Losses, PointSampling, set_prediction_loss
from everymask.training.losses import PUBLISHED, MaskLossConfig
from everymask.training.targets import Targets

NUM_LABELS = 4
SAMPLING = PointSampling(num_points=60)
cases = given(
    seed=st.integers(0, 10_000),
    height=st.integers(5, 40),
    width=st.integers(5, 40),
    stride=st.sampled_from([1, 2, 3.7, 4]),
    counts=st.lists(st.integers(0, 9), min_size=1, max_size=3).filter(any),
    layers=st.integers(1, 3),
)
few = settings(max_examples=25, deadline=None, derandomize=True)


def published(family: str) -> MaskLossConfig:
    masks = PUBLISHED[family].masks
    assert masks is not None
    return masks if masks.sampling is None else replace(masks, sampling=SAMPLING)


def random_targets(height: int, width: int, counts: list[int]) -> list[Targets]:
    """Segments in blocks of pixels; every one has some, and some pixels have none."""
    targets = []
    for count in counts:
        id_map = torch.randint(-1, max(count, 1) if count else 0, (height, width))
        id_map.view(-1)[torch.randperm(height * width)[:count]] = torch.arange(count)
        targets.append(Targets(torch.randint(0, NUM_LABELS, (count,)), id_map))
    return targets


def random_prediction(images: int, size: tuple[int, int], boxed: bool, layers: int = 1) -> MaskQueries:
    auxiliary = tuple(random_prediction(images, size, boxed) for _ in range(layers - 1))
    class_logits = torch.randn(images, 7, NUM_LABELS + 1, requires_grad=True)
    mask_logits = (3 * torch.randn(images, 7, *size)).requires_grad_()
    if boxed:
        boxes = (torch.rand(images, 7, 4) * 0.5 + 0.1).requires_grad_()
        return BoxedQueries(class_logits, mask_logits, auxiliary, boxes=boxes)
    return MaskQueries(class_logits, mask_logits, auxiliary)


def dense(targets: Targets) -> Tensor:
    return (targets.id_map == torch.arange(len(targets.labels))[:, None, None]).float()


def dense_arguments(prediction: MaskQueries, targets: list[Targets]) -> tuple[list[Tensor], list[Tensor], list[Any]]:
    auxiliary = [
        {"masks_queries_logits": each.mask_logits, "class_queries_logits": each.class_logits}
        for each in prediction.auxiliary
    ]
    return [dense(each) for each in targets], [each.labels for each in targets], auxiliary


def assert_equal(prediction: MaskQueries, losses: Losses, config: MaskLossConfig, expected: Tensor) -> None:
    """Totals and gradients of every layer's logits (and boxes)."""
    total = losses.total(config.weights)
    torch.testing.assert_close(total, expected.squeeze(), rtol=1e-4, atol=1e-6)
    inputs = []
    for layer in (prediction, *prediction.auxiliary):
        inputs += [layer.class_logits, layer.mask_logits]
        inputs += [layer.boxes] if isinstance(layer, BoxedQueries) else []
    ours = torch.autograd.grad(total, inputs)
    for mine, theirs in zip(ours, torch.autograd.grad(expected, inputs), strict=True):
        assert (mine - theirs).abs().max() <= 1e-4 * theirs.abs().max()


@few
@cases
def test_maskformer(seed: int, height: int, width: int, stride: float, counts: list[int], layers: int) -> None:
    torch.manual_seed(seed)
    targets = random_targets(height, width, counts)
    size = (max(int(height / stride), 1), max(int(width / stride), 1))
    prediction = random_prediction(len(counts), size, boxed=False, layers=layers)
    criterion = MaskFormerLoss(NUM_LABELS, MaskFormerHungarianMatcher(1.0, 20.0, 1.0), {}, 0.1)
    masks, labels, auxiliary = dense_arguments(prediction, targets)
    expected = criterion(prediction.mask_logits, prediction.class_logits, masks, labels, auxiliary)
    weights = {"loss_cross_entropy": 1.0, "loss_mask": 20.0, "loss_dice": 1.0}
    total = sum(weights[name.rstrip("_0123456789")] * each for name, each in expected.items())
    config = published("maskformer")
    assert_equal(prediction, set_prediction_loss(prediction, targets, config.weights, config.sampling), config, total)


@few
@cases
def test_detr(seed: int, height: int, width: int, stride: float, counts: list[int], layers: int) -> None:
    """With boxes as transformers makes them of masks; published networks learn from their last layer alone."""
    torch.manual_seed(seed)
    targets = random_targets(height, width, counts)
    size = (max(int(height / stride), 1), max(int(width / stride), 1))
    prediction = random_prediction(len(counts), size, boxed=True)
    assert isinstance(prediction, BoxedQueries)
    labels = []
    for each in targets:
        corners = torch.from_numpy(masks_to_boxes(dense(each).numpy())).float()
        boxes = corners_to_center_format(corners) / torch.tensor([width, height, width, height])
        torch.testing.assert_close(boxes_of(each), boxes)
        labels.append({"class_labels": each.labels, "boxes": boxes, "masks": dense(each)})
    config = DetrConfig(num_labels=NUM_LABELS)
    expected, _, _ = ForSegmentationLoss(
        prediction.class_logits, labels, torch.device("cpu"), prediction.boxes, prediction.mask_logits, config
    )
    ours = published("detr")
    assert_equal(prediction, set_prediction_loss(prediction, targets, ours.weights, ours.sampling), ours, expected)


@few
@cases
def test_oneformer(seed: int, height: int, width: int, stride: float, counts: list[int], layers: int) -> None:
    torch.manual_seed(seed)
    targets = random_targets(height, width, counts)
    size = (max(int(height / stride), 1), max(int(width / stride), 1))
    prediction = random_prediction(len(counts), size, boxed=False, layers=layers)
    matcher = OneFormerHungarianMatcher(2.0, 5.0, 5.0, SAMPLING.num_points)
    criterion = OneFormerLoss(NUM_LABELS, matcher, {}, 0.1, SAMPLING.num_points, 3.0, 0.75, 0.07)
    masks, labels, auxiliary = dense_arguments(prediction, targets)
    torch.manual_seed(seed)
    expected: dict[str, Tensor] = {}
    for index, layer in enumerate([{}, *auxiliary]):
        # Its own loop over the earlier layers mixes up its arguments.
        mask_logits = layer.get("masks_queries_logits", prediction.mask_logits)
        class_logits = layer.get("class_queries_logits", prediction.class_logits)
        losses = criterion(mask_logits, class_logits, None, masks, labels, None, calculate_contrastive_loss=False)
        expected |= {f"{name}_{index}": each for name, each in losses.items()}
    weights = {"loss_cross_entropy": 2.0, "loss_mask": 5.0, "loss_dice": 5.0}
    total = sum(weights[name.rstrip("_0123456789")] * each for name, each in expected.items())
    config = published("oneformer")
    torch.manual_seed(seed)
    losses = set_prediction_loss(prediction, targets, config.weights, config.sampling)
    assert_equal(prediction, losses, config, total)


@pytest.mark.parametrize("family", ["eomt", "eomt_dinov3", "vit_adapter", "mask2former"])
def test_eomt_and_those_that_learn_like_mask2former(family: str) -> None:
    torch.manual_seed(0)
    targets = random_targets(33, 40, [5, 1])
    prediction = random_prediction(2, (9, 10), boxed=False)
    config = published(family)
    criterion = EomtLoss(EomtConfig(num_labels=NUM_LABELS, train_num_points=SAMPLING.num_points), {})
    masks, labels, _ = dense_arguments(prediction, targets)
    torch.manual_seed(1)
    expected = criterion(prediction.mask_logits, prediction.class_logits, masks, labels)
    total = 2 * expected["loss_cross_entropy"] + 5 * expected["loss_mask"] + 5 * expected["loss_dice"]
    torch.manual_seed(1)
    losses = set_prediction_loss(prediction, targets, config.weights, config.sampling)
    assert_equal(prediction, losses, config, total)


@pytest.mark.parametrize("family", ["detr", "maskformer", "mask2former"])
@pytest.mark.parametrize("images", [1, 2])
def test_images_without_segments_only_ask_for_no_object(family: str, images: int) -> None:
    nothing = Targets(torch.zeros(0, dtype=torch.int64), torch.full((12, 16), -1))
    prediction = random_prediction(images, (3, 4), boxed=family == "detr")
    config = published(family)
    losses = set_prediction_loss(prediction, [nothing] * images, config.weights, config.sampling)
    assert losses.classification > 0
    assert losses.mask == losses.dice == losses.l1 == losses.giou == 0
    losses.total(config.weights).backward()
    assert prediction.mask_logits.grad is not None
    assert not prediction.mask_logits.grad.any()


@pytest.mark.parametrize("family", ["detr", "maskformer", "mask2former"])
def test_more_segments_than_queries_leave_some_unmatched(family: str) -> None:
    torch.manual_seed(0)
    targets = random_targets(20, 20, [11])
    prediction = random_prediction(1, (5, 5), boxed=family == "detr")
    config = published(family)
    total = set_prediction_loss(prediction, targets, config.weights, config.sampling).total(config.weights)
    assert torch.isfinite(total)
