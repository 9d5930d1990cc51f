"""The loss of the semantic reading: equal to its definition, pixel by pixel, and one part of a network's loss."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from everymask.errors import OptionError
from everymask.networks.outputs import MaskQueries
from everymask.training.batch import Batch
from everymask.training.losses import PUBLISHED, LossConfig, loss_for
from everymask.training.pixel_loss import PixelLossConfig
from everymask.training.semantic_loss import class_map, semantic_reading_loss
from everymask.training.targets import Targets

CLASSES, QUERIES = 4, 6


def prediction(requires_grad: bool = False) -> MaskQueries:
    generator = torch.Generator().manual_seed(0)
    classes = torch.randn(2, QUERIES, CLASSES + 1, generator=generator)
    masks = torch.randn(2, QUERIES, 5, 7, generator=generator)
    return MaskQueries(classes.requires_grad_(requires_grad), masks.requires_grad_(requires_grad))


def targets() -> list[Targets]:
    generator = torch.Generator().manual_seed(1)
    return [
        Targets(torch.tensor([2, 0, 2]), torch.randint(-1, 3, (5, 7), generator=generator)),
        Targets(torch.tensor([3]), torch.randint(-1, 1, (5, 7), generator=generator)),
    ]


def test_equal_to_the_definition() -> None:
    """Masks at the maps' own size: no resize comes between."""
    output, truth = prediction(), targets()
    expected = []
    for image in range(2):
        probability = output.class_logits[image].softmax(-1)
        for row in range(5):
            for column in range(7):
                segment = int(truth[image].id_map[row, column])
                if segment < 0:
                    continue
                mask = output.mask_logits[image, :, row, column].sigmoid()
                sums = (probability[:, :-1] * mask[:, None]).sum(0)
                expected.append(-(sums[truth[image].labels[segment]] / sums.sum()).log())
    loss = semantic_reading_loss(output, truth, PixelLossConfig())
    torch.testing.assert_close(loss, torch.stack(expected).mean(), rtol=1e-4, atol=1e-5)


def test_dice_counts_what_it_is_said_to() -> None:
    output, truth = prediction(requires_grad=True), targets()
    plain = semantic_reading_loss(output, truth, PixelLossConfig())
    scores = torch.einsum("bqc,bqhw->bchw", output.class_logits.softmax(-1)[..., :-1], output.mask_logits.sigmoid())
    shares = scores / scores.sum(1, keepdim=True)
    wanted = torch.stack([class_map(each) for each in truth])
    dices = []
    for index in wanted[wanted >= 0].unique():
        mine, true = shares[:, index][wanted >= 0], (wanted == index)[wanted >= 0].float()
        dices.append(1 - (2 * (mine * true).sum() + 1) / (mine.sum() + true.sum() + 1))
    dice = torch.stack(dices).mean()
    loss = semantic_reading_loss(output, truth, PixelLossConfig(dice=0.5))
    torch.testing.assert_close(loss, plain + 0.5 * dice, rtol=1e-4, atol=1e-5)


def test_pixels_without_a_segment_are_ignored() -> None:
    assert class_map(targets()[0]).unique().tolist() == [-1, 0, 2]
    output = prediction()
    nothing = [Targets(torch.zeros(0, dtype=torch.int64), torch.full((5, 7), -1)) for _ in range(2)]
    assert semantic_reading_loss(output, nothing, PixelLossConfig()) == 0


def test_it_is_a_part_of_the_loss_and_reaches_classes_and_masks() -> None:
    output = prediction(requires_grad=True)
    batch = Batch(torch.zeros(2, 3, 20, 28), tuple(targets()))
    published = PUBLISHED["mask2former"]
    assert published.masks is not None
    config = dataclasses.replace(published, masks=dataclasses.replace(published.masks, semantic=5.0))
    parts = loss_for(torch.nn.Identity(), config)(output, batch).parts
    alone = semantic_reading_loss(output, targets(), PixelLossConfig())
    torch.testing.assert_close(parts["semantic"], 5 * alone.detach())
    assert "semantic" not in loss_for(torch.nn.Identity(), published)(output, batch).parts
    gradients = torch.autograd.grad(alone, (output.class_logits, output.mask_logits))
    assert all(each.abs().sum() > 0 for each in gradients)
    assert LossConfig.from_dict(dataclasses.asdict(config)) == config


def test_descent_makes_the_reading_right() -> None:
    output, truth = prediction(requires_grad=True), targets()
    optimizer = torch.optim.Adam([output.class_logits, output.mask_logits], lr=0.3)
    for _ in range(150):
        optimizer.zero_grad()
        semantic_reading_loss(output, truth, PixelLossConfig()).backward()
        optimizer.step()
    scores = torch.einsum("bqc,bqhw->bchw", output.class_logits.softmax(-1)[..., :-1], output.mask_logits.sigmoid())
    wanted = torch.stack([class_map(each) for each in truth])
    right = (scores.argmax(1) == wanted)[wanted >= 0].float().mean()
    assert right >= 0.95
    assert F.cross_entropy((scores + 1e-6).log(), wanted, ignore_index=-1) < 0.3


def test_class_weights_must_fit() -> None:
    published = PUBLISHED["mask2former"]
    assert published.masks is not None
    masks = dataclasses.replace(published.masks, semantic=1.0)
    config = LossConfig(masks=masks, pixels=PixelLossConfig(class_weights=(1.0, 2.0)))
    batch = Batch(torch.zeros(2, 3, 20, 28), tuple(targets()))
    with pytest.raises(OptionError, match="2 class weights, but the network knows 4 classes"):
        loss_for(torch.nn.Identity(), config)(prediction(), batch)
