"""One step of the optimiser: forward, loss and backward for every part of a batch, then an update of the weights."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from everymask.errors import OptionError
from everymask.training.batch import Batch
from everymask.training.losses import LossConfig, loss_for, predict
from everymask.training.optimizer import build_optimizer
from everymask.training.processes import mean_over_processes
from everymask.training.recipe import TrainingRecipe

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Sealed:
    """A batch that Fabric and DDP hand on as it is: mixed precision would round the truth, too."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch


class NetworkWithLoss(nn.Module):
    """A network and its loss as one module: what several processes share the gradients of is all that has any."""

    def __init__(self, network: nn.Module, config: LossConfig) -> None:
        super().__init__()
        self.network = network
        self.loss = loss_for(network, config)

    def forward(self, sealed: Sealed) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, a scalar, and its weighted parts by name, without gradients."""
        losses = self.loss(predict(self.network, sealed.batch), sealed.batch)
        return losses.total, losses.parts


@dataclass(frozen=True)
class Trainer:
    """A network on its device that takes step after step.

    ``network`` is the bare one, whose weights the steps change; ``optimizer`` the bare AdamW, whose learning rates may
    be set from outside.
    """

    fabric: "Fabric"
    network: nn.Module
    optimizer: AdamW
    recipe: TrainingRecipe
    _module: Any  # in Fabric's wrapper, whose type is private
    _stepper: torch.optim.Optimizer

    @classmethod
    def of(cls, fabric: "Fabric", network: nn.Module, recipe: TrainingRecipe) -> "Trainer":
        """Moves the network to Fabric's device, in training mode, and makes its optimiser."""
        optimizer = build_optimizer(network, recipe)
        module, stepper = fabric.setup(NetworkWithLoss(network.train(), recipe.loss), optimizer)
        return cls(fabric, network, optimizer, recipe, module, stepper)

    def step(self, batches: Iterator[Batch]) -> dict[str, float]:
        """Takes as many batches as the recipe accumulates and changes the weights once.

        Returns the loss, its parts and the norm of the gradients before clipping, over all processes, by name. Raises
        OptionError where the loss is no finite number, or the device has not enough memory.
        """
        parts = self.recipe.accumulation
        losses: list[Mapping[str, Tensor]] = []
        try:
            for part in range(1, parts + 1):
                batch = next(batches).to(self.fabric.device)
                with self.fabric.no_backward_sync(self._module, enabled=part < parts):
                    total, each = self._module(Sealed(batch))
                    self.fabric.backward(total / parts)
                losses.append({"loss": total.detach(), **each})
            norm = self.fabric.clip_gradients(
                self._module,
                self._stepper,
                max_norm=torch.inf if self.recipe.clip_norm is None else self.recipe.clip_norm,
                error_if_nonfinite=False,
            )
            self._stepper.step()
        except torch.OutOfMemoryError as error:
            raise OptionError(
                "the device has not enough memory for a step: take a smaller batch size or crop, or let accumulation "
                "of the recipe cut a batch into more parts"
            ) from error
        self._stepper.zero_grad()
        names = list(losses[0])
        means = torch.stack([torch.stack([each[name].float() for each in losses]).mean() for name in names])
        assert norm is not None
        values = [*mean_over_processes(means).tolist(), float(norm)]
        figures = dict(zip([*names, "gradient norm"], values, strict=True))
        if not all(torch.isfinite(torch.tensor(values[:-1]))):
            said = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
            raise OptionError(
                f"the loss is no finite number any more ({said}): take a lower learning rate, a smaller clip_norm or "
                "the precision 32-true"
            )
        return figures
