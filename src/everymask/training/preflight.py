"""A look at one batch before a run of hours: what the labels hold, what a step takes, whether the loss falls."""

import copy
import gc
import itertools
import os
import resource
import sys
import time
from collections import Counter
from dataclasses import dataclass, replace

import torch

from everymask.errors import DataError
from everymask.labels import LabelSet
from everymask.training.augmentation import Augmentation
from everymask.training.batch import Batch
from everymask.training.batches import batches
from everymask.training.job import TrainingJob, make_fabric, samples_of
from everymask.training.optimizer import set_learning_rates
from everymask.training.state import seed_step
from everymask.training.step import Trainer

STEPS, FEWEST, SECONDS = 20, 5, 60.0  # of overfitting: so many steps, or fewer where they would take longer
MOSTLY_IGNORED = 0.9
MEMORY_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Labels:
    """What the labels of one batch hold.

    ``images``: how many there are. ``ignored``: the share of their pixels, 0..1, without a label. ``classes``: the
    share of the labelled pixels by the name of the class, the largest first. ``segments``: how many an image has on
    average; None where there are no segments.
    """

    images: int
    ignored: float
    classes: dict[str, float]
    segments: float | None


@dataclass(frozen=True, slots=True)
class Preflight:
    """What one batch tells of a run.

    ``labels`` is None for depth. ``memory``: the most that a step of one process took, in bytes, ``available`` what
    its device has; None where the system does not tell. ``first_loss`` and ``last_loss``: before and after some steps
    on this batch alone; ``seconds``: what a step took. ``warnings``: what a user should look at before the run.
    """

    labels: Labels | None
    memory: int | None
    available: int | None
    first_loss: float
    last_loss: float
    seconds: float
    warnings: tuple[str, ...]


def preflight(job: TrainingJob) -> Preflight:
    """Trains a copy of the job's network on its first batch, in this process; nothing is written or changed.

    Raises DataError where no pixel of the batch has a label, OptionError where the loss is no number or the device has
    not enough memory, and as ``train`` does for settings and data that do not go together.
    """
    recipe = replace(
        job.recipe,
        batch_size=job.recipe.batch_size // job.devices,
        schedule="constant",
        warmup_steps=0,
        backbone_warmup_steps=0,
    )
    alone = replace(job, recipe=recipe, devices=1, workers=0)
    # In crops that images just cover: the padding around small ones would count as pixels without a label.
    plain = replace(alone, recipe=replace(recipe, augmentation=Augmentation()))
    labels = label_statistics(_first_batch(plain), job.checkpoint.labels)
    if labels is not None and labels.ignored == 1:
        raise DataError(
            f"no pixel of the first {labels.images} images of {job.data.name} has a label: see what `everymask check` "
            "says of the data"
        )
    losses, seconds = _overfit(alone, _first_batch(alone))
    memory, available = _memory(job.device)
    return Preflight(
        labels,
        memory,
        available,
        losses[0],
        losses[-1],
        seconds,
        tuple(_warnings(labels, memory, available, losses, job.devices if job.device.type == "cpu" else 1)),
    )


def label_statistics(taken: list[Batch], labels: LabelSet) -> Labels | None:
    """What the labels of batches hold; None for depth."""
    counts: Counter[int] = Counter()  # pixels by class, -1 for ignored ones
    segments: list[int] = []
    for batch in taken:
        maps = [] if batch.class_maps is None else list(batch.class_maps)
        if batch.targets is not None:
            segments += [len(each.labels) for each in batch.targets]
            # The id -1 reads the last entry.
            maps = [torch.cat((each.labels, torch.tensor([-1])))[each.id_map] for each in batch.targets]
        for each in maps:
            values, pixels = each.unique(return_counts=True)
            counts.update(dict(zip(values.tolist(), pixels.tolist(), strict=True)))
    if not counts:
        return None
    total, ignored = counts.total(), counts.pop(-1, 0)
    return Labels(
        images=sum(map(len, taken)),
        ignored=ignored / total,
        classes={labels.names[index]: pixels / (total - ignored) for index, pixels in counts.most_common()},
        segments=sum(segments) / len(segments) if segments else None,
    )


def _first_batch(job: TrainingJob) -> list[Batch]:
    """The parts of the first batch."""
    return list(itertools.islice(batches(samples_of(job), job.recipe), job.recipe.accumulation))


def _overfit(job: TrainingJob, taken: list[Batch]) -> tuple[list[float], float]:
    """The loss of each step on the same batch, at the recipe's highest learning rate, and the seconds of a step."""
    fabric = make_fabric(job)
    fabric.launch()
    trainer = Trainer.of(fabric, copy.deepcopy(job.checkpoint.network), job.recipe)
    set_learning_rates(trainer.optimizer, job.recipe, 0, STEPS)
    losses: list[float] = []
    seconds, steps = 0.0, STEPS
    while len(losses) < steps:
        started = time.monotonic()
        seed_step(job.recipe.seed, 0, 0)  # the same points and masks every time: only the weights differ
        losses.append(trainer.step(iter(taken))["loss"])
        seconds = time.monotonic() - started
        steps = min(STEPS, max(FEWEST, int(SECONDS / seconds)))
    return losses, seconds


def _memory(device: torch.device) -> tuple[int | None, int | None]:
    """The most memory that was in use on the device so far, and all it has; what is no longer needed is freed."""
    gc.collect()
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
        torch.cuda.empty_cache()
        return peak, torch.cuda.mem_get_info(device)[1]
    if device.type != "cpu" or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None, None
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return peak, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _warnings(
    labels: Labels | None, memory: int | None, available: int | None, losses: list[float], processes: int
) -> list[str]:
    found = []
    if labels is not None and labels.ignored > MOSTLY_IGNORED:
        found.append(
            f"{labels.ignored:.0%} of the pixels have no label: if that is not meant, `everymask check` tells why"
        )
    if labels is not None and len(labels.classes) == 1:
        found.append(
            f'all labelled pixels are "{next(iter(labels.classes))}": if that is not meant, the values of the labels '
            "may count from another number; `everymask check` tells"
        )
    if memory is not None and available is not None and memory * processes > MEMORY_SHARE * available:
        found.append(
            f"a step takes {memory * processes / 1e9:.1f} of {available / 1e9:.1f} GB: take a smaller batch size or "
            "crop, or let accumulation of the recipe cut a batch into more parts"
        )
    if not min(losses[-3:]) < losses[0]:
        found.append(
            f"the loss does not fall on a single batch ({losses[0]:.4g} before, {losses[-1]:.4g} after {len(losses)} "
            "steps): check that labels and images belong together, and try another learning rate"
        )
    return found
