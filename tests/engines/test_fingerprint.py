"""Networks that differ in anything have different fingerprints."""

import copy

import torch
from torch import nn

from everymask.engines.fingerprint import fingerprint, weights_fingerprint


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.BatchNorm1d(4)).eval()


def test_equal_networks_have_one_fingerprint() -> None:
    assert fingerprint(network()) == fingerprint(copy.deepcopy(network()))


def test_a_weight_a_buffer_a_setting_or_a_type_makes_another() -> None:
    weight, buffer, setting, dtype, kind = (network() for _ in range(5))
    with torch.no_grad():
        weight[0].weight[3, 2] += 1e-6
        buffer[2].running_mean[1] = 1
    setting[1].eps = 1e-6
    dtype.bfloat16()
    kind[1] = nn.GroupNorm(1, 4)
    prints = {fingerprint(each) for each in (network(), weight, buffer, setting, dtype, kind)}
    assert len(prints) == 6


def test_weights_have_a_fingerprint_of_their_own() -> None:
    setting, weight, buffer, name = (network() for _ in range(4))
    setting[1].eps = 1e-6
    assert weights_fingerprint(setting) == weights_fingerprint(network())
    with torch.no_grad():
        weight[0].weight[3, 2] += 1e-6
        buffer[2].running_mean[1] = 1
    renamed = nn.Sequential(name[0], name[1], nn.Identity(), name[2])
    assert len({weights_fingerprint(each) for each in (network(), weight, buffer, renamed)}) == 4
