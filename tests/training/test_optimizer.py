"""Parameter groups of every family, and schedules."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from everymask.training.optimizer import (
    backbone_depths,
    build_optimizer,
    factor_of,
    parameter_groups,
    set_learning_rates,
)
from everymask.training.recipe import TrainingRecipe
from networks.test_invariants import CASES, Case

every_network = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
RECIPE = TrainingRecipe(steps=1000, epochs=None, learning_rate=0.1, weight_decay=0.05)


def built(case: Case) -> nn.Module:
    torch.manual_seed(0)
    network, _ = case.build()
    return network


@every_network
def test_every_parameter_is_in_exactly_one_group(case: Case) -> None:
    network = built(case)
    groups = parameter_groups(network, 0.1, 0.9)
    names = [name for group in groups for name in group.names]
    assert sorted(names) == sorted(name for name, _ in network.named_parameters())
    optimizer = build_optimizer(network, replace(RECIPE, layer_decay=0.9))
    held = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in network.parameters())
    assert {name for group in groups if group.backbone for name in group.names} == {
        name for name in names if name.startswith("backbone.")
    }


@every_network
def test_weight_decay_is_for_matrices_and_kernels_alone(case: Case) -> None:
    network = built(case)
    modules = dict(network.named_modules())
    decaying = {name for group in parameter_groups(network, 1.0, 1.0) for name in group.names if group.decays}
    assert decaying
    for name, parameter in network.named_parameters():
        owner, _, own_name = name.rpartition(".")
        kind = type(modules[owner]).__name__
        expected = own_name == "weight" and parameter.dim() > 1 and "Norm" not in kind and "Embedding" not in kind
        assert (name in decaying) == expected, name


def test_what_is_frozen_is_left_out() -> None:
    network = built(CASES[0])
    network.backbone.requires_grad_(False)
    names = [name for group in parameter_groups(network, 0.1, 0.9) for name in group.names]
    assert names
    assert not any(name.startswith("backbone.") for name in names)


@every_network
def test_depths_rise_in_the_order_in_which_layers_run(case: Case) -> None:
    network = built(case).eval()
    depths, top = backbone_depths(network)
    assert set(depths.values()) >= set(range(top))
    order: list[int] = []
    layers = (nn.Linear, nn.Conv2d, nn.LayerNorm, nn.BatchNorm2d, nn.GroupNorm)
    for name, module in network.named_modules():
        if name.startswith("backbone.") and isinstance(module, layers):
            found = [depths[f"{name}.{own}"] for own, _ in module.named_parameters(recurse=False)]
            module.register_forward_pre_hook(lambda *_, found=found: order.extend(found))
    with torch.no_grad():
        network(torch.randn(1, 3, 64, 64))
    inside = [depth for depth in order if depth < top]
    assert inside == sorted(inside)
    assert set(inside) >= set(range(top - 1))  # BEiT's last block may not run


@every_network
def test_multipliers_fall_towards_the_input(case: Case) -> None:
    network = built(case)
    depths, top = backbone_depths(network)
    for group in parameter_groups(network, 0.5, 0.8):
        for name in group.names:
            expected = 0.5 * 0.8 ** (top - depths[name]) if name in depths else 1.0
            assert group.multiplier == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "parameter", "below_the_top"),
    [
        ("eomt-dinov2", "backbone.norm.weight", 0),
        ("eomt-dinov2", "backbone.blocks.2.attention.key.weight", 1),
        ("eomt-dinov2", "backbone.positions", 4),
        ("upernet-swin", "backbone.mergings.2.reduction.weight", 2),
        ("upernet-swin", "backbone.norms.0.weight", 0),
        ("upernet-convnext", "backbone.downsamplers.1.reduction.weight", 3),
        ("segformer", "backbone.stages.3.patch_embedding.weight", 1),
        ("segformer", "backbone.stages.0.patch_embedding.weight", 6),
        ("vit-adapter-original", "backbone.prior.stem.0.0.weight", 0),
        ("vit-adapter-original", "backbone.vit.class_token", 5),
        ("dpt-hybrid", "backbone.vit.positions", 4),
        ("dpt-hybrid", "backbone.bit.stem.0.weight", 9),
        ("beit-shared-positions", "backbone.relative_positions.table", 0),
    ],
)
def test_depths_of_what_is_no_block(name: str, parameter: str, below_the_top: int) -> None:
    depths, top = backbone_depths(built(next(case for case in CASES if case.name == name)))
    assert top - depths[parameter] == below_the_top


def test_schedules() -> None:
    poly = factor_of(replace(RECIPE, power=2.0), 1000)
    assert [poly(0), poly(500), poly(1000)] == [1.0, 0.25, 0.0]
    cosine = factor_of(replace(RECIPE, schedule="cosine"), 1000)
    assert [cosine(0), cosine(500), cosine(1000)] == pytest.approx([1.0, 0.5, 0.0])
    constant = factor_of(replace(RECIPE, schedule="constant", warmup_steps=10), 1000)
    assert [constant(0), constant(4), constant(9), constant(10), constant(999)] == [0.1, 0.5, 1.0, 1.0, 1.0]


def test_a_warm_up_takes_a_tenth_of_the_run_at_most() -> None:
    constant = factor_of(replace(RECIPE, schedule="constant", warmup_steps=500), 1000)
    assert constant(98) < 1.0
    assert constant(99) == 1.0
    assert factor_of(replace(RECIPE, schedule="constant", warmup_steps=500), 3)(0) == 1.0


def test_a_backbone_may_wait_for_the_rest() -> None:
    recipe = replace(RECIPE, schedule="constant", warmup_steps=10, backbone_warmup_steps=20)
    new, backbone = factor_of(recipe, 1000), factor_of(recipe, 1000, backbone=True)
    assert [new(9), backbone(9), backbone(10), backbone(19), backbone(29)] == [1.0, 0.0, 0.05, 0.5, 1.0]
    without = replace(recipe, backbone_warmup_steps=0)
    assert factor_of(without, 1000, backbone=True)(4) == factor_of(without, 1000)(4) == 0.5


def test_learning_rates_depend_on_the_step_alone() -> None:
    network = built(next(case for case in CASES if case.name == "eomt-dinov2"))
    recipe = replace(RECIPE, layer_decay=0.5, backbone_multiplier=0.2, warmup_steps=10, backbone_warmup_steps=10)
    optimizer = build_optimizer(network, recipe)
    assert set_learning_rates(optimizer, recipe, 500, 1000) == pytest.approx(0.1 * math.pow(0.5, 0.9))
    rates = [group["lr"] for group in optimizer.param_groups]
    set_learning_rates(optimizer, recipe, 3, 1000)
    assert {group["lr"] for group in optimizer.param_groups if group["backbone"]} == {0.0}
    again = build_optimizer(network, recipe)
    again.load_state_dict(optimizer.state_dict())
    set_learning_rates(again, recipe, 500, 1000)
    assert [group["lr"] for group in again.param_groups] == rates
    highest, lowest = max(rates), min(rates)
    assert lowest / highest == pytest.approx(0.2 * 0.5**4)
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.05}
