"""Networks through OpenVINO give what torch gives."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import sleep
from typing import Any

import pytest
import torch
from torch import nn

from everymask.checkpoints.families import FAMILIES
from everymask.engines.choice import available_engines, fastest_engine, make_engine
from everymask.engines.eager import EagerEngine
from everymask.engines.engine import Inputs
from everymask.engines.flat import flatten
from everymask.engines.openvino import OpenVINOEngine
from everymask.errors import MissingExtraError, OptionError
from everymask.networks.oneformer import OneFormer
from parity import randomise, relative_error
from small_models import DEPTH_ANYTHING, DPT_BOTH
from trainable import CONFIGS

CPU = torch.device("cpu")
MODELS = {**CONFIGS, "depth_anything": DEPTH_ANYTHING, "dpt-both": DPT_BOTH}
REFUSED = ("detr", "beit")
TASK = torch.tensor([49406, 518, 10549, 533, 1072, 24755, 49407] + [0] * 70)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where compiled models are kept in tests."""
    monkeypatch.setenv("EVERYMASK_CACHE", str(tmp_path))
    return tmp_path / "openvino"


def small(config: dict[str, Any], seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    network, _ = FAMILIES[config["model_type"]].build(config, 0 if config is DEPTH_ANYTHING else 4)
    randomise(network)
    return network.eval()


def inputs(network: nn.Module, batch: int = 1, height: int = 64, width: int = 64) -> Inputs:
    pixel_values = torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(batch))
    return Inputs(pixel_values, TASK.expand(batch, -1) if isinstance(network, OneFormer) else None)


@pytest.mark.parametrize("name", sorted(set(MODELS) - set(REFUSED)))
def test_every_family_gives_what_torch_gives(name: str) -> None:
    network = small(MODELS[name])
    engine = OpenVINOEngine(network, CPU, torch.float32)
    given = inputs(network, 2, 64, 75)
    expected = flatten(EagerEngine(network, CPU, torch.float32)(given))
    output = flatten(engine(given))
    assert list(output) == list(expected)
    for key, tensor in output.items():
        assert relative_error(tensor, expected[key]) <= 1e-4


def test_shapes_in_turn_give_what_torch_gives_and_results_are_not_overwritten(folder: Path) -> None:
    network = small(CONFIGS["segformer"])
    engine, eager = (kind(network, CPU, torch.float32) for kind in (OpenVINOEngine, EagerEngine))
    shapes = [(1, 64, 64), (2, 64, 64), (1, 33, 47), (1, 64, 64), (1, 64, 64)]
    every = [inputs(network, *shape) for shape in shapes]
    every[-1] = Inputs(-every[-1].pixel_values)
    outputs = [engine(each) for each in every]
    for given, output in zip(every, outputs, strict=True):
        [expected] = flatten(eager(given)).values()
        [tensor] = flatten(output).values()
        assert relative_error(tensor, expected) <= 1e-4
    assert len(list(folder.iterdir())) == 3


def test_threads_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fake:
        inside = most = 0

        def run(self, arguments: list[torch.Tensor]) -> dict[str, torch.Tensor]:
            self.inside += 1
            self.most = max(self.most, self.inside)
            sleep(0.05)  # long enough for the others to come in, if they were let
            self.inside -= 1
            return {"logits": arguments[0]}

    fake = Fake()
    monkeypatch.setattr("everymask.engines.openvino_models.compiled", lambda *arguments: fake)
    network = small(CONFIGS["segformer"])
    engine = OpenVINOEngine(network, CPU, torch.float32)
    with ThreadPoolExecutor(4) as threads:
        assert len(list(threads.map(engine, [inputs(network)] * 4))) == 4
    assert fake.most == 1


def test_bfloat16_is_near_and_its_outputs_are_float32() -> None:
    network = small(CONFIGS["segformer"])
    given = inputs(network)
    [expected] = flatten(EagerEngine(network, CPU, torch.float32)(given)).values()
    [tensor] = flatten(OpenVINOEngine(network, CPU, torch.bfloat16)(given)).values()
    assert tensor.dtype == torch.float32
    assert (tensor - expected).abs().mean() <= 0.05 * expected.abs().max()


def test_the_second_start_reads_what_the_first_compiled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from everymask.engines import openvino_models

    network = small(CONFIGS["segformer"])
    given = inputs(network)
    first = flatten(OpenVINOEngine(network, CPU, torch.float32)(given))
    monkeypatch.setattr(openvino_models, "convert", None)  # nothing is converted again
    second = flatten(OpenVINOEngine(small(CONFIGS["segformer"]), CPU, torch.float32)(given))
    assert list(first) == list(second)
    assert all(torch.equal(first[key], second[key]) for key in first)
    with pytest.raises(TypeError):
        OpenVINOEngine(small(CONFIGS["segformer"], seed=1), CPU, torch.float32)(given)


def test_a_damaged_or_unwritable_cache_costs_time_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = small(CONFIGS["segformer"])
    given = inputs(network)
    [expected] = flatten(OpenVINOEngine(network, CPU, torch.float32)(given)).values()
    [path] = folder.iterdir()
    path.write_bytes(b"not a model")
    [again] = flatten(OpenVINOEngine(network, CPU, torch.float32)(given)).values()
    assert torch.equal(again, expected)
    assert path.stat().st_size > 1000
    (folder.parent / "file").write_text("")
    monkeypatch.setenv("EVERYMASK_CACHE", str(folder.parent / "file"))
    [without] = flatten(OpenVINOEngine(network, CPU, torch.float32)(given)).values()
    assert torch.equal(without, expected)


@pytest.mark.parametrize("name", REFUSED)
def test_a_network_that_does_not_fit_is_refused_and_runs_elsewhere(name: str) -> None:
    network = small(CONFIGS[name])
    with pytest.raises(OptionError, match=r"cannot run this .*: .*; use engine 'eager'"):
        make_engine("openvino", network, CPU, torch.float32)
    assert "openvino" not in available_engines(network, CPU)
    assert make_engine("auto", network, CPU, torch.float32).name != "openvino"


def test_auto_takes_openvino_where_it_is_installed_and_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    network = small(CONFIGS["segformer"])
    assert make_engine("auto", network, CPU, torch.bfloat16).name == "openvino"
    assert fastest_engine(network, CPU, torch.float32) == "eager"
    assert fastest_engine(small(CONFIGS["mask2former"]), CPU, torch.bfloat16) == "eager"
    assert available_engines(network, torch.device("cuda")) == ("eager",)
    monkeypatch.setattr("everymask.engines.choice.find_spec", lambda name: None)
    assert make_engine("auto", network, CPU, torch.bfloat16).name == "eager"


def test_other_devices_and_dtypes_are_refused_with_the_cure() -> None:
    network = small(CONFIGS["segformer"])
    with pytest.raises(OptionError, match="runs on the CPU: with device 'cuda' use engine 'eager'"):
        OpenVINOEngine(network, torch.device("cuda"), torch.float32)
    with pytest.raises(OptionError, match="does not compute in float16: choose dtype 'bfloat16' or 'float32'"):
        OpenVINOEngine(network, CPU, torch.float16)


def test_a_missing_openvino_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"everymask\[openvino\]"):
        OpenVINOEngine(small(CONFIGS["segformer"]), CPU, torch.float32)


def test_old_shapes_go_when_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fake:
        def run(self, arguments: list[torch.Tensor]) -> dict[str, torch.Tensor]:
            return {"logits": arguments[0]}

    monkeypatch.setattr("everymask.engines.openvino_models.compiled", lambda *arguments: Fake())
    network = small(CONFIGS["segformer"])
    engine = OpenVINOEngine(network, CPU, torch.float32)
    for width in (32, 33, 34, 35, 32, 36, 37, 38):
        engine(inputs(network, 1, 32, width))
    assert [key[0][-1] for key in engine._compiled] == [34, 35, 32, 36, 37, 38]
