"""What is told of the machine, and that its ceilings are figures."""

import math

import pytest
import torch

from everymask.benchmarking import ceiling
from everymask.benchmarking.machine import _processor, this_machine

EPYC = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC
flags\t\t: fpu avx2 avx512f avx512_bf16

processor\t: 1
cpu family\t: 99
"""


def test_a_processor_has_name_family_and_the_flags_that_matter() -> None:
    assert _processor(EPYC) == ("AMD EPYC (family 25, model 17)", ("avx2", "avx512f", "avx512_bf16"))


def test_without_linux_a_processor_still_has_a_name() -> None:
    name, flags = _processor("")
    assert name
    assert flags == ()


def test_the_machine_is_this_one() -> None:
    machine = this_machine(torch.device("cpu"))
    assert machine.threads == torch.get_num_threads()
    assert machine.cores >= 1
    assert machine.gpu is None
    assert f"torch {torch.__version__}" in str(machine)


def test_ceilings_are_figures_for_every_number_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceiling, "_SECONDS", 0.001)
    monkeypatch.setattr(ceiling, "_SIDES", (32, 64))
    told = ceiling.measure_ceiling(torch.device("cpu"), [torch.float32, torch.bfloat16, torch.int8])
    assert list(told.products) == ["float32", "bfloat16", "int8"]
    assert list(told.convolutions) == ["float32", "bfloat16"]
    for figures in (told.products, told.convolutions):
        assert all(math.isfinite(figure) and figure > 0 for figure in figures.values())
