"""A training run from start to end: step after step, with states to go on from, validations, and its result."""

import copy
import re
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.multiprocessing.spawn import ProcessRaisedException

from everymask import errors
from everymask.atomic import ready_folder
from everymask.errors import OptionError
from everymask.evaluation.engine import check_metres
from everymask.networks.eomt import EoMT
from everymask.training.averaging import AveragedNetwork
from everymask.training.batches import batches
from everymask.training.export import Provenance, save_trained
from everymask.training.job import TrainingJob, make_fabric, samples_of
from everymask.training.logs import TrainingLog
from everymask.training.mask_annealing import anneal
from everymask.training.optimizer import set_learning_rates
from everymask.training.samples import Samples
from everymask.training.state import TrainingState, check_same_run, load_state, save_state, seed_step
from everymask.training.step import Trainer
from everymask.training.validation import pictures, validate

if TYPE_CHECKING:
    from lightning_fabric import Fabric

BEST, LAST = "best", "last"
VALIDATIONS = 10  # of a run whose recipe does not say how often


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a run came to.

    ``folder``: of the network with the best figure on held-out images, or of the last one where there are none.
    ``figures``: the best network's, the most important first; empty where there are none.
    """

    folder: Path
    steps: int
    figures: dict[str, float]


def train(job: TrainingJob) -> TrainingResult:
    """Runs the job. OUTPUT/best and OUTPUT/last become folders in the transformers layout.

    A run that was killed and is resumed with the same settings goes on to the same losses. Raises OptionError where
    ``output`` holds another run, for settings that do not go together and where the loss is no number any more;
    DataError for data that cannot be read.
    """
    ready_folder(job.output)
    state = load_state(job.output)
    if state is not None:
        if not job.resume:
            raise OptionError(
                f"{job.output} holds a run of {state.step} steps: resume it (--resume), or choose another folder"
            )
        check_same_run(state, job.identity(), job.output)
    samples = samples_of(job)
    if job.task == "depth" and job.validation is not None:
        check_metres(job.validation)
    batches(samples, job.recipe, world=job.devices)  # what it refuses, it refuses before anything runs
    try:
        figures: dict[str, float] = make_fabric(job).launch(partial(_run, job=job, samples=samples))
    except ProcessRaisedException as error:
        raise _of_other_process(error) from error
    folder = job.output / (LAST if job.validation is None else BEST)
    return TrainingResult(folder, job.steps, figures)


def _run(fabric: "Fabric", job: TrainingJob, samples: Samples) -> dict[str, float]:
    """The run in one of its processes; returns the best figures, in the first of them."""
    run = Run(fabric, job)
    stream = batches(
        samples,
        job.recipe,
        start_step=run.step,
        rank=fabric.global_rank,
        world=fabric.world_size,
        workers=job.workers,
    )
    every = job.recipe.validation_interval or -(-job.steps // VALIDATIONS)
    with TrainingLog(job.output, run.step, job.steps) if fabric.is_global_zero else nullcontext() as log:
        while run.step < job.steps:
            rate = set_learning_rates(run.trainer.optimizer, job.recipe, run.step, job.steps)
            seed_step(job.recipe.seed, run.step, fabric.global_rank)
            figures = run.trainer.step(stream)
            run.follow()
            due = run.step % every == 0 or run.step == job.steps
            if log is not None:
                log.step(run.step, {**figures, "learning rate": rate})
                if due:
                    run.judge(log)
                if due or run.step % job.state_interval == 0:
                    run.save()
            if due:
                fabric.barrier()  # the first process validates, the others wait
    return run.best


class Run:
    """What changes in a run: ``trainer`` with the network, its average, the number of steps taken, the best figures."""

    def __init__(self, fabric: "Fabric", job: TrainingJob) -> None:
        """At the start, or where the state in the output folder was written."""
        # A copy of its own: CPU processes are handed the job's tensors in memory that they share.
        network, decay = copy.deepcopy(job.checkpoint.network), job.recipe.ema_decay
        state = load_state(job.output)
        if state is not None:
            network.load_state_dict(dict(state.network))
        self.averaged = None if decay is None else AveragedNetwork(network, decay)
        self.job = job
        self.trainer = Trainer.of(fabric, network, job.recipe)
        self.step = 0
        self.best: dict[str, float] = {}
        if self.averaged is not None:
            self.averaged.network.to(fabric.device)
        if state is not None:
            self.step, self.best = state.step, dict(state.best)
            self.trainer.optimizer.load_state_dict(dict(state.optimizer))
            fabric.strategy.precision.load_state_dict(dict(state.scaler))
            if self.averaged is not None and state.averaged is not None:
                self.averaged.steps = state.step
                self.averaged.network.load_state_dict(dict(state.averaged))
        self._anneal()

    @property
    def result_network(self) -> nn.Module:
        """The network that is validated and saved: the average of the weights where there is one."""
        return self.trainer.network if self.averaged is None else self.averaged.network

    def follow(self) -> None:
        """Does what follows a step of the trainer."""
        self.step += 1
        if self.averaged is not None:
            self.averaged.update(self.trainer.network)
        self._anneal()

    def judge(self, log: TrainingLog) -> None:
        """Validates, keeps the network as the last one, and as the best one where it is."""
        job, network = self.job, self.result_network
        figures: dict[str, float] = {}
        if job.validation is not None:
            # Where instances are connected parts of class maps, there is nothing but classes to hold them to.
            task = job.task if job.task in job.validation.tasks else job.validation.tasks[0]
            given = job.checkpoint, network, job.validation, task, self.trainer.fabric.device
            figures = validate(*given)
            log.validation(self.step, figures)
            for name, pixels in pictures(*given):
                log.picture(self.step, name, pixels)
        self._export(LAST, figures)
        if figures and (not self.best or _first(figures) > _first(self.best)):
            self.best = figures
            self._export(BEST, figures)
        self.trainer.network.train()

    def save(self) -> None:
        """Writes the state to go on from."""
        state = TrainingState(
            step=self.step,
            network=self.trainer.network.state_dict(),
            averaged=None if self.averaged is None else self.averaged.network.state_dict(),
            optimizer=self.trainer.optimizer.state_dict(),
            scaler=self.trainer.fabric.strategy.precision.state_dict(),
            best=self.best,
            settings=self.job.identity(),
        )
        save_state(self.job.output, state)

    def _anneal(self) -> None:
        networks = [self.trainer.network] if self.averaged is None else [self.trainer.network, self.averaged.network]
        for network in networks:
            if isinstance(network, EoMT):
                anneal(network, self.step, self.job.steps)

    def _export(self, name: str, figures: dict[str, float]) -> None:
        job = self.job
        recipe = job.recipe.to_dict()
        provenance = Provenance(job.start, job.data.name, len(job.data.names), recipe, self.step, figures)
        weights = self.result_network.state_dict()
        save_trained(job.output / name, job.checkpoint, weights, provenance, job.license)


def _first(figures: dict[str, float]) -> float:
    """The figure that decides; a figure that could not be had is worse than all others."""
    value = next(iter(figures.values()))
    return value if value == value else -torch.inf


def _of_other_process(error: ProcessRaisedException) -> Exception:
    """The error of ours that a process ended with, where it did, from the text that is left of it."""
    found = re.search(r"everymask\.errors\.(\w+): (.*)", str(error), re.DOTALL)
    if found is None:
        return error
    kind = getattr(errors, found[1])
    own: Exception = kind(found[2].strip())
    return own
