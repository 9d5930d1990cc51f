"""A training run before it runs: what it starts from, what it learns from, and on which devices."""

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from everymask.checkpoints.load import Checkpoint
from everymask.datasets.dataset import DataSet
from everymask.errors import MissingExtraError
from everymask.networks.oneformer import OneFormer
from everymask.segmentation import TASKS, Task
from everymask.training.recipe import TrainingRecipe
from everymask.training.samples import Samples, SampleSpec, lessons_of
from everymask.training.texts import read_task_texts

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class TrainingJob:
    """All that a run needs; it can be sent to other processes.

    ``checkpoint``: what it starts from, with the data's classes (``adaptation``). ``validation``: held-out images; None
    for none. ``output``: the folder for everything the run writes. ``license``: of the result, None if not stated.
    ``start``: what the model card says it started from. ``device``: of the first process. ``devices``: how many
    processes train together, each on a device of its own but for CPUs. ``workers``: processes that prepare images, for
    each of these. ``resume``: go on from the state in ``output``, if there is one. ``state_interval``: steps from one
    such state to the next; validations write one, too.
    """

    checkpoint: Checkpoint
    data: DataSet
    validation: DataSet | None
    task: Task
    recipe: TrainingRecipe
    output: Path
    license: str | None = None
    start: str = "random weights"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    devices: int = 1
    workers: int = 0
    resume: bool = False
    state_interval: int = 250

    @property
    def steps(self) -> int:
        """How many steps the run takes."""
        return self.recipe.total_steps(len(self.data.names))

    def identity(self) -> dict[str, Any]:
        """What may not change when the run is resumed, by name."""
        return {
            **self.recipe.to_dict(),
            "data": self.data.name,
            "images": len(self.data.names),
            "task": self.task,
            "classes": list(self.checkpoint.labels.names),
            "model type": self.checkpoint.config["model_type"],
        }


def make_fabric(job: TrainingJob) -> "Fabric":
    """What knows of devices, precision and several processes. Raises MissingExtraError where Fabric is missing."""
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.strategies.ddp import DDPStrategy
    except ImportError as error:
        raise MissingExtraError("training needs Lightning Fabric: pip install 'everymask[train]'") from error
    first = job.device.index or 0
    strategy: Any = "auto"
    if job.devices > 1:
        # Some networks have parameters that a step does not use, such as BEiT's last block. While the first process
        # validates, the others wait.
        strategy = DDPStrategy(start_method="spawn", find_unused_parameters=True, timeout=timedelta(days=1))
    return Fabric(
        accelerator=job.device.type,
        devices=job.devices if job.device.type == "cpu" else list(range(first, first + job.devices)),
        strategy=strategy,
        precision=job.recipe.precision,
    )


def samples_of(job: TrainingJob) -> Samples:
    """What the job's network is shown."""
    network, recipe = job.checkpoint.network, job.recipe
    tasks: tuple[Task, ...] = (job.task,)
    texts = None
    if isinstance(network, OneFormer):
        texts = read_task_texts(job.checkpoint.folder, network, job.checkpoint.labels)
        if job.task == "panoptic":
            tasks = TASKS  # it learns all three readings of panoptic annotations (section 3.1)
    spec = SampleSpec(
        lessons=lessons_of(network),
        tasks=tasks,
        preprocessing=job.checkpoint.preprocessing,
        crop=recipe.crop,
        augmentation=recipe.augmentation,
        seed=recipe.seed,
        instances_from=recipe.instances_from,
        texts=texts,
        depth_kind=job.checkpoint.depth_kind,
    )
    return Samples(job.data, spec)
