"""The batches of a training run: the same ones whenever it is resumed, and however many processes share them."""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from everymask.errors import EverymaskError, OptionError
from everymask.training.batch import Batch
from everymask.training.recipe import TrainingRecipe
from everymask.training.samples import Sample, Samples


def batches(
    samples: Samples,
    recipe: TrainingRecipe,
    *,
    start_step: int = 0,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
) -> Iterator[Batch]:
    """The batches of process ``rank`` of ``world`` from an optimisation step on, without end, on the CPU.

    Step after step each process gets ``recipe.accumulation`` of them, of ``recipe.batch_size / world / accumulation``
    images each: so the images of a step, all together, are the same however they are shared. Epochs follow each other
    without a gap; each takes the images in an order of its own. A run that starts at step s gets what a run from the
    start would get then, bit for bit. ``workers``: processes that make them in advance; 0 makes them where they are
    asked for. Torch's own random numbers are not touched.

    Raises OptionError at once for a batch size that cannot be shared equally; then, in the place of a batch, the error
    of the first of its images that cannot be read.
    """
    shares = world * recipe.accumulation
    if recipe.batch_size % shares:
        raise OptionError(
            f"a batch of {recipe.batch_size} images cannot be shared by {world} processes with "
            f"{recipe.accumulation} parts each: make it a multiple of {shares}"
        )
    loader: DataLoader[Any] = DataLoader(  # of samples; what it gives is what they are collated to
        samples,
        batch_sampler=_Places(len(samples), recipe, start_step, rank, world),
        num_workers=workers,
        collate_fn=_collated,
        generator=torch.Generator(),  # else it would take a number from torch's own
    )
    return _raising(loader)


class _Places:
    """The (epoch, index) of the images of each batch, without end."""

    def __init__(self, images: int, recipe: TrainingRecipe, start_step: int, rank: int, world: int) -> None:
        self.images = images
        self.recipe = recipe
        self.start_step = start_step
        self.rank = rank
        self.world = world

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        share = self.recipe.batch_size // self.world // self.recipe.accumulation
        order = lru_cache(maxsize=2)(lambda epoch: epoch_order(self.recipe.seed, epoch, self.images))
        position = self.start_step * self.recipe.batch_size + self.rank * share
        while True:
            places = []
            for each in range(position, position + share):
                epoch, place = divmod(each, self.images)
                places.append((epoch, int(order(epoch)[place])))
            yield places
            position += self.world * share


def epoch_order(seed: int, epoch: int, images: int) -> NDArray[np.int64]:
    """The order of the images in an epoch: a permutation of 0..images - 1."""
    return np.random.default_rng([seed, epoch]).permutation(images)


def _collated(samples: Sequence[Sample | EverymaskError]) -> Batch | EverymaskError:
    """One batch of samples, or the first error among them."""
    good = []
    for sample in samples:
        if isinstance(sample, EverymaskError):
            return sample
        good.append(sample)
    targets = [sample.targets for sample in good if sample.targets is not None]
    return Batch(
        torch.stack([sample.pixel_values for sample in good]),
        tuple(targets) if targets else None,
        _stacked([sample.class_map for sample in good]),
        _stacked([sample.depth for sample in good]),
        _stacked([sample.task_tokens for sample in good]),
        _stacked([sample.text_tokens for sample in good]),
    )


def _stacked(tensors: Sequence[Tensor | None]) -> Tensor | None:
    present = [tensor for tensor in tensors if tensor is not None]
    return torch.stack(present) if present else None


def _raising(loader: Iterable[Batch | EverymaskError]) -> Iterator[Batch]:
    for item in loader:
        if isinstance(item, EverymaskError):
            raise item
        yield item
