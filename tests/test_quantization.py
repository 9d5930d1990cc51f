"""Networks in int8 are near those in float32, and refuse what they were not made for."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import everymask
from everymask.checkpoints.families import FAMILIES
from everymask.checkpoints.load import load_checkpoint
from everymask.engines.choice import make_engine
from everymask.engines.engine import Inputs
from everymask.engines.flat import flatten
from everymask.engines.quantized import FOLDER, QuantizedEngine, quantized_file
from everymask.engines.unreported import unreported
from everymask.errors import CheckpointError, MissingExtraError, OptionError
from everymask.geometry import Size
from everymask.quantization import PASSES, Quantized, quantize
from everymask.segmentation import Segmentation
from everymask.segmenter import Failure
from small_models import SEGFORMER, SEGFORMER_PROCESSOR, save_small
from trainable import CONFIGS, save_source

pytest.importorskip("nncf", reason="making int8 networks needs the extra int8")

from everymask.engines.openvino_models import convert, without_pixels

CPU = torch.device("cpu")


def photographs(count: int, height: int = 60, width: int = 80) -> list[NDArray[np.uint8]]:
    """Random ones, smooth enough to differ from place to place."""
    coarse = np.random.default_rng(height * width).integers(0, 256, (count, height // 10, width // 10, 3), np.uint8)
    return list(coarse.repeat(10, 1).repeat(10, 2))


@dataclass(frozen=True)
class Made:
    """``result``: of the first size, ``added``: of the second; ``seen``: how many images were read for the first."""

    source: Path
    folder: Path
    result: Quantized
    added: Quantized
    seen: int


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A SegFormer for inputs of 64 x 64, quantized, and once more for a shortest edge of 32 pixels."""
    folder = tmp_path_factory.mktemp("quantized")
    source = save_small(folder / "source", SEGFORMER, SEGFORMER_PROCESSOR)
    seen: list[None] = []
    result = quantize(source, photographs(5), folder / "int8", limit=3, seen=lambda: seen.append(None))
    reads = len(seen)
    images = [*photographs(2, 60, 80), *photographs(1, 80, 60), b"bad"]
    added = quantize(folder / "int8", images, folder / "int8", size=32)
    return Made(source, folder / "int8", result, added, reads)


def logits(folder: Path, image: Any, dtype: str, **options: Any) -> torch.Tensor:
    """(1, C, h, w)"""
    model = everymask.load(folder, device="cpu", engine="openvino", dtype=dtype, **options)
    [tensor] = flatten(model.engine(Inputs(model.prepare(image).pixel_values))).values()
    return tensor


def test_it_learns_from_the_images_within_the_limit(made: Made) -> None:
    assert made.result == Quantized(quantized_file(made.folder, Size(64, 64)), Size(64, 64), 3, 0, ())
    assert 3 * (PASSES - 1) < made.seen <= 3 * PASSES + 1  # the first of them once more, for the conversion


def test_the_result_is_near_float32_and_computed_in_int8(made: Made) -> None:
    [photograph] = photographs(1, 70, 90)
    exact, near = (logits(made.folder, photograph, dtype) for dtype in ("float32", "int8"))
    assert near.dtype == torch.float32
    assert near.shape == exact.shape
    error = (near - exact).norm() / (exact - exact.mean()).norm()
    assert 1e-4 < error < 0.2
    assert "FakeQuantize" in made.result.file.read_text()
    assert torch.equal(exact, logits(made.source, photograph, "float32"))  # the checkpoint came along as it is


def test_it_is_loaded_and_says_what_it_is(made: Made) -> None:
    model = everymask.load(made.folder, device="cpu", engine="auto", dtype="int8")
    assert model.describe()["engine"] == "openvino in int8 on cpu"
    [photograph] = photographs(1, 70, 90)
    assert model(photograph).size == (70, 90)


def test_a_batch_gives_what_its_images_give(made: Made) -> None:
    model = everymask.load(made.folder, device="cpu", engine="openvino", dtype="int8")
    batch = torch.cat([model.prepare(each).pixel_values for each in photographs(3)])
    [together] = flatten(model.engine(Inputs(batch))).values()
    for index in range(3):
        [alone] = flatten(model.engine(Inputs(batch[index : index + 1]))).values()
        assert torch.equal(together[index : index + 1], alone)
    assert not torch.equal(together[0], together[1])


def test_most_images_choose_the_size_and_unreadable_ones_are_told(made: Made) -> None:
    assert (made.added.size, made.added.images, made.added.others) == ((32, 42), 2, 1)
    assert len(made.added.failures) == 1


def test_every_size_is_found_and_another_one_refused(made: Made) -> None:
    [photograph] = photographs(1, 60, 80)
    exact, near = (logits(made.folder, photograph, dtype, size=32) for dtype in ("float32", "int8"))
    assert (near - exact).norm() / (exact - exact.mean()).norm() < 0.2
    other = everymask.load(made.folder, device="cpu", engine="openvino", dtype="int8", size=70)
    with pytest.raises(
        OptionError, match=r"70 x 93 pixels, and its int8 form was made for 32 x 42 and 64 x 64: .*dtype"
    ):
        other(photograph)


def test_a_stream_goes_on_after_an_image_of_another_size(made: Made) -> None:
    model = everymask.load(made.folder, device="cpu", engine="openvino", dtype="int8", size=64)
    tall, wide = photographs(1, 90, 60)[0], photographs(1, 60, 60)[0]
    results = list(model.stream([wide, tall, wide], batch_size=2))
    assert [type(each) for each in results] == [Segmentation, Failure, Segmentation]
    assert isinstance(results[1], Failure)
    assert results[1].source is tall
    assert "was made for 32 x 42 and 64 x 64" in str(results[1].error)


def test_windows_are_learnt_from_and_run(made: Made, tmp_path: Path) -> None:
    quantize(made.source, photographs(2, 60, 80), tmp_path / "int8", window=48)
    model = everymask.load(tmp_path / "int8", device="cpu", engine="openvino", dtype="int8", window=48)
    [photograph] = photographs(1, 70, 90)
    assert model(photograph).size == (70, 90)


def test_other_weights_and_damaged_files_are_refused(made: Made, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(made.folder)
    next(checkpoint.network.parameters()).data += 1
    with pytest.raises(CheckpointError, match=r"made from other weights .*everymask quantize"):
        QuantizedEngine(checkpoint.network, CPU, made.folder)
    (tmp_path / FOLDER).mkdir()
    damaged = quantized_file(tmp_path, Size(64, 64))
    damaged.write_text("<net")
    with pytest.raises(CheckpointError, match=r"64x64.xml cannot be read .*everymask quantize"):
        QuantizedEngine(checkpoint.network, CPU, tmp_path)
    damaged.rename(damaged.with_name("other.xml"))
    with pytest.raises(CheckpointError, match=r"other.xml is no int8 network"):
        QuantizedEngine(checkpoint.network, CPU, tmp_path)


def test_int8_is_refused_where_it_is_not_to_be_had(made: Made) -> None:
    with pytest.raises(OptionError, match=r"there is none in the model's folder: .*everymask quantize"):
        everymask.load(made.source, device="cpu", engine="openvino", dtype="int8")
    with pytest.raises(OptionError, match="engine 'eager' does not compute in int8: use engine 'openvino'"):
        everymask.load("nobody/nothing", device="cpu", dtype="int8")
    with pytest.raises(OptionError, match="runs on the CPU"):
        make_engine("auto", load_checkpoint(made.source).network, torch.device("cuda"), torch.int8, made.folder)


def test_operations_on_tokens_are_told_from_those_on_pixels(made: Made) -> None:
    torch.manual_seed(0)
    network, _ = FAMILIES["oneformer"].build(CONFIGS["oneformer"], 4)
    tokens = torch.zeros(1, 77, dtype=torch.int64)
    names = without_pixels(convert(network.eval(), [torch.zeros(1, 3, 64, 64), tokens]))
    assert sum("task_encoder" in name and "MatMul" in name for name in names) == 2
    assert not [name for name in names if "backbone" in name or "pixel_decoder" in name]
    assert without_pixels(convert(load_checkpoint(made.source).network, [torch.zeros(1, 3, 64, 64)])) == []


@pytest.mark.parametrize("family", ["detr", "beit"])
def test_what_openvino_does_not_run_is_refused_with_its_reason(family: str, tmp_path: Path) -> None:
    source = save_source(tmp_path / "source", family)
    with pytest.raises(OptionError, match=r"engine 'openvino' cannot run this .*: .*; use engine 'eager'"):
        quantize(source, photographs(1), tmp_path / "int8")
    assert not (tmp_path / "int8").exists()


def test_wrong_wishes_are_refused_before_any_work(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match="limit is 0"):
        quantize(made.source, photographs(1), tmp_path / "int8", limit=0)
    with pytest.raises(OptionError, match="no images to learn from"):
        quantize(made.source, [], tmp_path / "int8")
    with pytest.raises(OptionError, match="no image to learn from: "):
        quantize(made.source, [b"bad"], tmp_path / "int8")
    (tmp_path / "file").write_text("mine")
    for taken in (tmp_path, tmp_path / "file"):
        with pytest.raises(OptionError, match="is there already: give a new folder"):
            quantize(made.source, photographs(1), taken)
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(MissingExtraError, match=r"everymask\[int8\]"):
        quantize(made.source, photographs(1), tmp_path / "int8")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_packages_that_report_their_use_are_imported_as_on_a_build_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for before in (None, "1"):
        if before is None:
            monkeypatch.delenv("CI", raising=False)
        else:
            monkeypatch.setenv("CI", before)
        with unreported():
            assert os.environ["CI"] == "true"
        assert os.environ.get("CI") == before
