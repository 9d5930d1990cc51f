"""Batches: the same ones after a restart, however many processes share them."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from everymask.errors import ImageError, OptionError
from everymask.geometry import Size
from everymask.preprocessing import Preprocessing
from everymask.training.augmentation import Augmentation
from everymask.training.batch import Batch
from everymask.training.batches import batches, epoch_order
from everymask.training.recipe import TrainingRecipe
from everymask.training.samples import Lesson, Samples, SampleSpec
from painted_data import PaintedData

AUGMENTATION = Augmentation(scale=(0.5, 2.0), focus=0.5, contrast=0.5, noise=0.1)
RECIPE = TrainingRecipe(batch_size=4, crop=Size(32, 40), augmentation=AUGMENTATION, seed=5)
PREPROCESSING = Preprocessing.from_config({"image_processor_type": "SegformerImageProcessor"})


def samples(*lessons: Lesson, count: int = 5, damaged: tuple[int, ...] = ()) -> Samples:
    spec = SampleSpec(lessons or ("classes",), ("semantic",), PREPROCESSING, RECIPE.crop, AUGMENTATION, RECIPE.seed)
    return Samples(PaintedData(count, damaged=damaged), spec)


def first(stream: Iterator[Batch], count: int) -> list[Batch]:
    return list(itertools.islice(stream, count))


def equal(one: Batch, other: Batch) -> bool:
    assert one.class_maps is not None
    assert other.class_maps is not None
    return torch.equal(one.pixel_values, other.pixel_values) and torch.equal(one.class_maps, other.class_maps)


def test_a_run_that_starts_later_gets_what_it_would_have_got() -> None:
    whole = first(batches(samples(), RECIPE), 6)
    for start in (1, 3, 5):
        later = first(batches(samples(), RECIPE, start_step=start), 6 - start)
        assert all(itertools.starmap(equal, zip(whole[start:], later, strict=True)))
    assert not equal(whole[0], whole[1])


def test_workers_make_the_same_batches() -> None:
    alone = first(batches(samples(), RECIPE), 3)
    helped = first(batches(samples(), RECIPE, workers=2), 3)
    assert all(itertools.starmap(equal, zip(alone, helped, strict=True)))


@pytest.mark.parametrize(("world", "accumulation"), [(2, 1), (1, 2), (2, 2), (4, 1)])
def test_a_step_has_the_same_images_however_they_are_shared(world: int, accumulation: int) -> None:
    recipe = replace(RECIPE, accumulation=accumulation)
    streams = [batches(samples(), recipe, rank=rank, world=world, start_step=1) for rank in range(world)]
    for whole in first(batches(samples(), RECIPE, start_step=1), 2):
        parts = [next(stream) for _ in range(accumulation) for stream in streams]
        assert {len(part) for part in parts} == {4 // world // accumulation}
        assert torch.equal(torch.cat([part.pixel_values for part in parts]), whole.pixel_values)


def test_each_epoch_shows_every_image_once_in_an_order_of_its_own() -> None:
    orders = [epoch_order(0, epoch, 50).tolist() for epoch in range(3)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len(set(map(tuple, orders))) == 3
    assert epoch_order(1, 0, 50).tolist() != orders[0]
    # Epochs follow each other without a gap: of 5 images, 5 batches of 4 show each 4 times.
    still = replace(samples().spec, augmentation=Augmentation(flip=0.0), crop=Size(48, 64))
    shown = [
        map_.numpy().tobytes()
        for batch in first(batches(Samples(PaintedData(), still), RECIPE), 5)
        for map_ in batch.class_maps  # type: ignore[union-attr]
    ]
    assert sorted(shown.count(each) for each in set(shown)) == [4] * 5


def test_a_batch_may_be_larger_than_the_data() -> None:
    [batch] = first(batches(samples(count=1), RECIPE), 1)
    assert len(batch) == 4


def test_a_batch_has_what_its_network_learns_from() -> None:
    [masks] = first(batches(samples("masks"), RECIPE), 1)
    assert masks.targets is not None
    assert len(masks.targets) == 4
    assert masks.class_maps is masks.depth is masks.task_tokens is None
    [classes] = first(batches(samples("classes"), RECIPE), 1)
    assert classes.targets is None
    assert classes.class_maps is not None
    assert classes.class_maps.shape == (4, 32, 40)
    assert classes.class_maps.dtype == torch.int64


def test_torch_draws_the_same_numbers_with_and_without_batches() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first(batches(samples(), RECIPE), 2)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_ends_the_stream_with_its_own_error(workers: int) -> None:
    stream = batches(samples(damaged=(0, 1, 2, 3, 4)), RECIPE, workers=workers)
    with pytest.raises(ImageError) as caught:
        next(stream)
    assert str(caught.value).endswith("is damaged")
    assert "\n" not in str(caught.value)


def test_a_batch_that_cannot_be_shared_is_refused_at_once() -> None:
    with pytest.raises(OptionError, match="multiple of 3"):
        batches(samples(), RECIPE, world=3)
