"""One entry to all losses: settings that go through JSON, what is refused, and networks with two heads."""

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from everymask.checkpoints.families import FAMILIES
from everymask.errors import DataError, OptionError
from everymask.networks.detr import BoxedQueries
from everymask.networks.outputs import DepthMap, MaskQueries, Output, PixelLogits, PixelsAndDepth
from everymask.training.batch import Batch
from everymask.training.criterion import PointSampling
from everymask.training.depth_loss import MetricDepthLoss, RelativeDepthLoss
from everymask.training.losses import LossConfig, MaskLossConfig, loss_for, published_loss
from everymask.training.matcher import LossWeights
from everymask.training.pixel_loss import HardPixels, PixelLossConfig
from everymask.training.targets import Targets
from small_models import METRIC

NETWORK = nn.Identity()
PIXELS = torch.zeros(2, 3, 16, 16)
EVERYTHING = LossConfig(
    MaskLossConfig(sampling=PointSampling(50)), PixelLossConfig(), RelativeDepthLoss(), metric_depth=None
)


def queries(classes: int = 3) -> MaskQueries:
    return MaskQueries(torch.randn(2, 6, classes + 1, requires_grad=True), torch.randn(2, 6, 4, 4, requires_grad=True))


def full_batch() -> Batch:
    torch.manual_seed(0)
    targets = Targets(torch.tensor([0, 2]), torch.randint(-1, 2, (16, 16)))
    return Batch(PIXELS, (targets, targets), torch.randint(-1, 3, (2, 16, 16)), torch.rand(2, 16, 16) + 0.1)


OUTPUTS: dict[str, Output] = {
    "masks": queries(),
    "pixels": PixelLogits(torch.randn(2, 3, 4, 4, requires_grad=True)),
    "depth": DepthMap(torch.rand(2, 8, 8, requires_grad=True)),
}


def test_every_family_has_a_loss() -> None:
    for model_type in FAMILIES:
        assert published_loss(model_type) != LossConfig()
    with pytest.raises(OptionError, match="no loss is known for the model_type 'sam'"):
        published_loss("sam")


def test_networks_that_tell_metres_learn_metres() -> None:
    assert published_loss("depth_anything", "metric") == LossConfig(metric_depth=MetricDepthLoss())
    assert published_loss("depth_anything", "relative") == LossConfig(relative_depth=RelativeDepthLoss())
    assert published_loss("dpt", "metric").pixels is not None


@pytest.mark.parametrize(
    "config",
    [
        *map(published_loss, FAMILIES),
        LossConfig(pixels=PixelLossConfig(0.1, HardPixels(0.5, 10), 2.0, (1.0, 2.0))),
        published_loss("depth_anything", "metric"),
    ],
)
def test_settings_survive_json(config: LossConfig) -> None:
    assert LossConfig.from_dict(json.loads(json.dumps(asdict(config)))) == config


@pytest.mark.parametrize(
    "settings",
    [
        {"mask": {}},
        {"masks": {"weights": {"classes": 1.0}}},
        {"masks": {"sampling": {"points": 3}}},
        {"pixels": {"ohem": True}},
        {"pixels": {"class_weights": ["many"]}},
        {"relative_depth": 3},
        {"metric_depth": {"unit": "m"}},
    ],
)
def test_unknown_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="the loss cannot be set like this"):
        LossConfig.from_dict(settings)


@pytest.mark.parametrize("name", OUTPUTS)
def test_the_total_is_the_sum_of_its_parts(name: str) -> None:
    losses = loss_for(NETWORK, EVERYTHING)(OUTPUTS[name], full_batch())
    torch.testing.assert_close(losses.total.detach(), torch.stack(list(losses.parts.values())).sum())
    assert losses.total.requires_grad
    assert not any(each.requires_grad for each in losses.parts.values())


@pytest.mark.parametrize("name", OUTPUTS)
def test_what_is_missing_is_named(name: str) -> None:
    output = OUTPUTS[name]
    with pytest.raises(OptionError, match="the loss does not say how this network learns"):
        loss_for(NETWORK, LossConfig())(output, full_batch())
    with pytest.raises(DataError, match=r"this network learns from \w+, which the batch lacks"):
        loss_for(NETWORK, EVERYTHING)(output, Batch(PIXELS))


def test_two_heads_learn_from_what_there_is() -> None:
    pixels, depth = OUTPUTS["pixels"], OUTPUTS["depth"]
    assert isinstance(pixels, PixelLogits)
    assert isinstance(depth, DepthMap)
    loss, batch = loss_for(NETWORK, EVERYTHING), full_batch()
    output = PixelsAndDepth(pixels, depth)
    assert set(loss(output, batch).parts) == {"class", "depth"}
    assert set(loss(output, replace(batch, depth=None)).parts) == {"class"}
    assert set(loss(output, replace(batch, class_maps=None)).parts) == {"depth"}
    with pytest.raises(DataError, match="learns from class_maps, which the batch lacks"):
        loss(output, Batch(PIXELS))


def test_metres_that_a_network_cannot_tell_are_unknown() -> None:
    metric, _ = FAMILIES["depth_anything"].build(METRIC, 0)
    depth = DepthMap(torch.rand(1, 16, 16) * 20)
    truth = torch.rand(1, 16, 16) * 40
    within = torch.where(truth <= 20, truth, 0)
    config = LossConfig(metric_depth=MetricDepthLoss())
    limited = loss_for(metric, config)(depth, Batch(PIXELS[:1], depth=truth)).total
    assert limited == loss_for(NETWORK, config)(depth, Batch(PIXELS[:1], depth=within)).total
    assert limited != loss_for(NETWORK, config)(depth, Batch(PIXELS[:1], depth=truth)).total


def test_classes_that_the_network_does_not_know_are_refused() -> None:
    loss = loss_for(NETWORK, EVERYTHING)
    with pytest.raises(DataError, match="the data has class 2, but the network knows 2 classes"):
        loss(queries(classes=2), full_batch())
    with pytest.raises(DataError, match="the data has class 2, but the network knows 2 classes"):
        loss(PixelLogits(torch.randn(2, 2, 4, 4)), full_batch())


def test_settings_that_do_not_fit_the_network_are_refused() -> None:
    boxes = LossConfig(masks=MaskLossConfig(LossWeights(l1=5.0)))
    with pytest.raises(OptionError, match="weights for boxes, which this network does not predict"):
        loss_for(NETWORK, boxes)(queries(), full_batch())
    weights = LossConfig(pixels=PixelLossConfig(class_weights=(1.0, 1.0)))
    with pytest.raises(OptionError, match="2 class weights, but the network knows 3 classes"):
        loss_for(NETWORK, weights)(OUTPUTS["pixels"], full_batch())


@pytest.mark.parametrize("family", ["mask2former", "maskformer", "detr", "segformer", "depth_anything"])
def test_half_precision_is_compared_in_single_precision(family: str) -> None:
    """Inside the loop's autocast, too: the loss of bfloat16 logits is that of the same numbers in float32."""
    batch, config = full_batch(), published_loss(family)
    torch.manual_seed(0)
    boxes = torch.rand(2, 6, 4) * 0.5 + 0.1

    def output(dtype: torch.dtype) -> Output:
        def cast(tensor: Tensor) -> Tensor:
            return tensor.bfloat16().to(dtype)

        if config.masks is not None:
            some = OUTPUTS["masks"]
            assert isinstance(some, MaskQueries)
            return BoxedQueries(cast(some.class_logits), cast(some.mask_logits), boxes=cast(boxes))
        if config.pixels is not None:
            some = OUTPUTS["pixels"]
            assert isinstance(some, PixelLogits)
            return PixelLogits(cast(some.logits))
        some = OUTPUTS["depth"]
        assert isinstance(some, DepthMap)
        return DepthMap(cast(some.depth))

    torch.manual_seed(1)
    expected = loss_for(NETWORK, config)(output(torch.float32), batch).total
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        total = loss_for(NETWORK, config)(output(torch.bfloat16), batch).total
    assert total.dtype == torch.float32
    torch.testing.assert_close(total, expected)
