"""The set-prediction loss equals the published one on the same points."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import Mask2FormerLoss

from everymask.networks.outputs import MaskQueries
from everymask.training.criterion import PointSampling, set_prediction_loss, uncertain_points
from everymask.training.matcher import LossWeights, match
from everymask.training.targets import Targets

NUM_LABELS, NUM_POINTS = 4, 60
SAMPLING = PointSampling(num_points=NUM_POINTS)
WEIGHTS = LossWeights()


def random_case(seed: int, layers: int) -> tuple[MaskQueries, list[Targets]]:
    torch.manual_seed(seed)

    def prediction(auxiliary: tuple[MaskQueries, ...] = ()) -> MaskQueries:
        return MaskQueries(
            torch.randn(2, 7, NUM_LABELS + 1, requires_grad=True),
            torch.randn(2, 7, 12, 16, requires_grad=True),
            auxiliary,
        )

    targets = []
    for count in (3, 5):
        coarse = torch.randint(-1, count, (6, 8))
        coarse.view(-1)[:count] = torch.arange(count)  # every segment has pixels
        id_map = coarse.repeat_interleave(8, 0).repeat_interleave(8, 1)
        targets.append(Targets(torch.randint(0, NUM_LABELS, (count,)), id_map))
    return prediction(tuple(prediction() for _ in range(layers - 1))), targets


def dense(targets: Targets) -> Tensor:
    return torch.stack([(targets.id_map == index).float() for index in range(len(targets.labels))])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("layers", [1, 3])
def test_loss_and_gradients_equal_transformers(seed: int, layers: int) -> None:
    prediction, targets = random_case(seed, layers)
    config = Mask2FormerConfig(num_labels=NUM_LABELS, train_num_points=NUM_POINTS)
    reference = Mask2FormerLoss(config, {})
    torch.manual_seed(seed)
    expected = reference(
        prediction.mask_logits,
        prediction.class_logits,
        [dense(each) for each in targets],
        [each.labels for each in targets],
        [
            {"masks_queries_logits": each.mask_logits, "class_queries_logits": each.class_logits}
            for each in prediction.auxiliary
        ],
    )
    torch.manual_seed(seed)
    losses = set_prediction_loss(prediction, targets, WEIGHTS, SAMPLING)

    def summed(name: str) -> Tensor:
        return torch.stack([value for key, value in expected.items() if key.startswith(name)]).sum()

    torch.testing.assert_close(losses.classification, summed("loss_cross_entropy"), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses.mask, summed("loss_mask"), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses.dice, summed("loss_dice"), rtol=1e-4, atol=1e-5)

    inputs = [prediction.class_logits, prediction.mask_logits]
    total = 2 * summed("loss_cross_entropy") + 5 * summed("loss_mask") + 5 * summed("loss_dice")
    for ours, theirs in zip(
        torch.autograd.grad(losses.total(WEIGHTS), inputs), torch.autograd.grad(total, inputs), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_right_prediction_is_matched_and_costs_nearly_nothing() -> None:
    id_map = torch.zeros(32, 32, dtype=torch.int64)
    id_map[:, 16:] = 1
    targets = Targets(torch.tensor([2, 0]), id_map)
    mask_logits = torch.full((1, 3, 8, 8), -20.0)
    mask_logits[0, 2, :, :4] = 20.0  # query 2 is the left half, class 2
    mask_logits[0, 0, :, 4:] = 20.0  # query 0 is the right half, class 0
    class_logits = F.one_hot(torch.tensor([[0, 3, 2]]), 4).float() * 20
    prediction = MaskQueries(class_logits, mask_logits)
    [found] = match(prediction, [targets], WEIGHTS, 200)
    assert dict(zip(found.queries.tolist(), found.targets.tolist(), strict=True)) == {0: 1, 2: 0}
    losses = set_prediction_loss(prediction, [targets], WEIGHTS, SAMPLING)
    assert float(losses.classification) < 1e-4
    assert float(losses.dice) < 0.2  # points on the border between the halves are half wrong


def test_an_image_without_segments_only_asks_for_no_object() -> None:
    prediction, _ = random_case(0, 1)
    nothing = Targets(torch.zeros(0, dtype=torch.int64), torch.full((48, 64), -1))
    losses = set_prediction_loss(prediction, [nothing, nothing], WEIGHTS, SAMPLING)
    assert losses.mask.item() == losses.dice.item() == 0.0
    assert losses.classification.item() > 0
    torch.autograd.grad(losses.total(WEIGHTS), prediction.class_logits)


def test_points_gather_where_the_logits_are_uncertain() -> None:
    torch.manual_seed(0)
    logits = torch.linspace(-10, 10, 16).expand(1, 1, 16, 16)  # least certain at x = 0.5
    points = uncertain_points(logits, PointSampling(num_points=200, oversample=8.0, importance=0.75))
    assert points.shape == (1, 200, 2)
    near = ((points[0, :, 0] - 0.5).abs() < 0.06).float().mean()
    assert float(near) > 0.7
