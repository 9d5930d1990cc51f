"""What dtype "auto" means on processors that this machine may not be."""

import platform
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import everymask
from everymask.devices import choose_dtype, computes_bfloat16
from everymask.errors import OptionError
from small_models import DPT_BOTH, DPT_PROCESSOR, METRIC, SEGFORMER, SEGFORMER_PROCESSOR, save_small

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def this_cpu(monkeypatch: pytest.MonkeyPatch, machine: str, *, avx512_bf16: bool, onednn_bf16: bool) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    answers = SimpleNamespace(_is_mkldnn_bf16_supported=lambda: onednn_bf16)
    monkeypatch.setattr(torch.ops, "mkldnn", answers)


@pytest.mark.parametrize(
    ("machine", "avx512_bf16", "onednn_bf16", "native"),
    [
        ("x86_64", True, True, True),
        ("AMD64", True, True, True),
        ("x86_64", False, True, False),  # AVX-512 alone: oneDNN emulates
        ("aarch64", False, True, True),
        ("arm64", False, False, False),
    ],
)
def test_auto_is_bfloat16_on_processors_that_have_it(
    monkeypatch: pytest.MonkeyPatch, machine: str, avx512_bf16: bool, onednn_bf16: bool, native: bool
) -> None:
    this_cpu(monkeypatch, machine, avx512_bf16=avx512_bf16, onednn_bf16=onednn_bf16)
    assert computes_bfloat16(CPU) == native
    assert choose_dtype("auto", CPU) == (torch.bfloat16 if native else torch.float32)
    assert choose_dtype("auto", CPU, depth=True) == torch.float32
    assert choose_dtype("bfloat16", CPU, depth=True) == torch.bfloat16  # asked for is asked for


def test_int8_is_for_the_cpu() -> None:
    assert choose_dtype("int8", CPU) == torch.int8
    with pytest.raises(OptionError, match="dtype 'int8' is for device 'cpu' with engine 'openvino', not for cuda"):
        choose_dtype("int8", CUDA)


def test_a_torch_without_onednn_computes_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not computes_bfloat16(CPU)


@pytest.mark.parametrize(
    ("capability", "hip", "native"),
    [((8, 0), None, True), ((9, 0), None, True), ((7, 5), None, False), ((7, 0), "6.2", True)],
)
def test_auto_on_gpus(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], hip: str | None, native: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.version, "hip", hip)
    assert choose_dtype("auto", CUDA) == (torch.bfloat16 if native else torch.float32)
    assert choose_dtype("auto", torch.device("mps")) == torch.float32


def test_load_asks_the_machine_for_classes_and_keeps_depth_exact(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("everymask.devices.computes_bfloat16", lambda device: True)
    segments = save_small(tmp_path / "segments", SEGFORMER, SEGFORMER_PROCESSOR)
    metric, both = (
        save_small(tmp_path / "metric", METRIC, DPT_PROCESSOR),
        save_small(tmp_path / "both", DPT_BOTH, DPT_PROCESSOR),
    )
    assert everymask.load(segments, device="cpu").engine.dtype == torch.bfloat16
    assert everymask.load(segments, device="cpu", dtype="float32").engine.dtype == torch.float32
    for folder in (metric, both):
        assert everymask.load(folder, device="cpu").engine.dtype == torch.float32
