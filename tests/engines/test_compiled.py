"""The engine "compile": the same results as torch as it is, no break in the graph, and refusals before any work."""

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from everymask.engines.choice import available_engines, make_engine
from everymask.engines.compiled import CompiledEngine
from everymask.engines.eager import EagerEngine
from everymask.engines.engine import Inputs
from everymask.engines.flat import flatten
from everymask.errors import OptionError
from everymask.networks.outputs import MaskQueries, PixelLogits
from everymask.networks.selective import Keep, SelectiveNetwork
from parity import relative_error
from trainable import source

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Kernels of one test are not found by another, and none are left on the machine."""
    folder = tmp_path_factory.mktemp("inductor")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder))
    return folder


class Scores(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 1)

    def forward(self, pixel_values: torch.Tensor) -> PixelLogits:
        return PixelLogits(self.layer(pixel_values).relu())


def test_a_compiled_network_gives_the_same_scores(cache: Path) -> None:
    torch.manual_seed(0)
    network = Scores()
    compiled = make_engine("compile", network, CPU, torch.float32)
    assert (compiled.name, compiled.device, compiled.dtype) == ("compile", CPU, torch.float32)
    inputs = Inputs(torch.randn(2, 3, 16, 24))
    output, expected = compiled(inputs), EagerEngine(network, CPU, torch.float32)(inputs)
    assert isinstance(output, PixelLogits)
    assert isinstance(expected, PixelLogits)
    assert relative_error(output.logits, expected.logits) <= 1e-5
    assert any(cache.iterdir())  # what the second start reads


@pytest.mark.parametrize("family", ["mask2former", "maskformer", "dpt", "eomt"])
def test_graphs_have_no_break(family: str, tmp_path: Path) -> None:
    network = source(tmp_path, family).network.eval()
    torch.compiler.reset()
    # The backend "eager" stops after tracing, where breaks show; making kernels would only take longer.
    traced = torch.compile(network, fullgraph=True, dynamic=False, backend="eager")
    pixel_values = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        found, expected = flatten(traced(pixel_values)), flatten(network(pixel_values))
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert relative_error(found[name], tensor) <= 1e-4


class OneByOne(SelectiveNetwork):
    def forward(self, pixel_values: torch.Tensor, keep: Keep | None = None) -> MaskQueries:
        raise AssertionError("called")


def test_networks_that_make_masks_one_by_one_are_refused() -> None:
    with pytest.raises(OptionError, match=r"'compile' cannot run OneByOne.*use engine 'eager' or 'auto'"):
        CompiledEngine(OneByOne(), CPU, torch.float32)


def test_a_machine_without_a_compiler_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(OptionError, match="needs a C\\+\\+ compiler and finds no no-such-compiler: install one"):
        CompiledEngine(nn.Identity(), CPU, torch.float32)


def test_kernels_are_kept_in_the_houses_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    monkeypatch.setenv("EVERYMASK_CACHE", str(tmp_path))
    CompiledEngine(nn.Identity(), CPU, torch.float32)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "inductor")


def test_kernels_are_not_kept_where_others_can_write(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    monkeypatch.setenv("EVERYMASK_CACHE", str(tmp_path))
    (tmp_path / "inductor").mkdir()
    (tmp_path / "inductor").chmod(0o777)
    with pytest.raises(OptionError, match=r"no folder for its kernels \(others can write.*EVERYMASK_CACHE"):
        CompiledEngine(nn.Identity(), CPU, torch.float32)


def test_auto_never_compiles() -> None:
    assert "compile" not in available_engines(Scores(), CPU)
    assert make_engine("auto", Scores(), CPU, torch.float32).name != "compile"
