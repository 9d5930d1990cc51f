"""Inference leaves training as it was: what is quick without gradients keeps nothing that a step would meet."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from everymask.checkpoints import load_checkpoint
from everymask.checkpoints.families import FAMILIES
from everymask.engines.eager import EagerEngine
from everymask.engines.engine import Inputs
from everymask.networks.oneformer import OneFormer
from everymask.networks.outputs import DepthMap, MaskQueries, Output
from everymask.training.loop import train
from parity import randomise
from small_models import DEPTH_ANYTHING
from trainable import CONFIGS, figures, job_for

CPU = torch.device("cpu")
MODELS = {**CONFIGS, "depth_anything": DEPTH_ANYTHING}
TASK = torch.tensor([49406, 518, 10549, 533, 1072, 24755, 49407] + [0] * 70)


def network(name: str) -> nn.Module:
    """The same at every call."""
    torch.manual_seed(0)
    built, _ = FAMILIES[MODELS[name]["model_type"]].build(MODELS[name], 0 if name == "depth_anything" else 4)
    randomise(built)
    return built


def inputs(network: nn.Module) -> Inputs:
    pixel_values = torch.randn(2, 3, 70, 98, generator=torch.Generator().manual_seed(0))
    return Inputs(pixel_values, TASK.expand(2, -1) if isinstance(network, OneFormer) else None)


def loss(output: Output) -> Tensor:
    """Depends on all that a network says in training."""
    if isinstance(output, DepthMap):
        return output.depth.square().mean()
    each = [output, *output.auxiliary]
    if isinstance(output, MaskQueries):
        return sum(one.class_logits.square().mean() + one.mask_logits.square().mean() for one in each)
    return sum(one.logits.square().mean() for one in each)


def gradients(network: nn.Module) -> dict[str, Tensor | None]:
    """Of a training step, by parameter."""
    torch.manual_seed(0)
    network.train().zero_grad()
    given = inputs(network)
    told = {} if given.task_tokens is None else {"task_tokens": given.task_tokens}
    loss(network(given.pixel_values, **told)).backward()
    return {name: each.grad for name, each in network.named_parameters()}


def forget() -> None:
    """Empties what networks keep from one call to the next, so that inference is the first to fill it."""
    for name, module in list(sys.modules.items()):
        if name.startswith("everymask.networks."):
            for kept in vars(module).values():
                if callable(clear := getattr(kept, "cache_clear", None)):
                    clear()


@pytest.mark.parametrize("name", MODELS)
def test_a_step_after_inference_has_the_gradients_of_one_without(name: str) -> None:
    forget()
    learning = network(name)
    before = {key: tensor.clone() for key, tensor in learning.state_dict().items()}
    EagerEngine(learning, CPU, torch.float32)(inputs(learning))
    assert all(torch.equal(tensor, before[key]) for key, tensor in learning.state_dict().items())
    found, expected = gradients(learning), gradients(network(name))
    assert any(each is not None and each.abs().sum() > 0 for each in expected.values())
    assert list(found) == list(expected)
    for key, each in expected.items():
        other = found[key]
        assert (other is None) == (each is None), key
        assert each is None or other is None or torch.equal(other, each), key


@pytest.mark.parametrize("family", CONFIGS)
def test_a_run_that_is_validated_takes_the_steps_of_one_that_is_not(family: str, tmp_path: Path) -> None:
    watched, alone = tmp_path / "watched", tmp_path / "alone"
    train(job_for(watched, family, held_out=1, validation_interval=1))
    train(job_for(alone, family))
    steps = [[row["loss"] for row in figures(folder)] for folder in (watched, alone)]
    assert steps[0] == steps[1]
    assert len(set(steps[0])) == 3
    trained, expected = (load_checkpoint(each / "run" / "last").network.state_dict() for each in (watched, alone))
    assert all(torch.equal(tensor, expected[key]) for key, tensor in trained.items())
