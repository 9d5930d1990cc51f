"""``everymask quantize``: images in, a folder with an int8 network out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from everymask.cli import main
from everymask.errors import ImageError
from everymask.geometry import Size
from everymask.quantization import Quantized
from small_models import SEGFORMER, SEGFORMER_PROCESSOR, save_small

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Runs ``everymask quantize ARGUMENTS`` in tmp_path, where ``photos`` holds two images and ``data`` is annotated:
    exit status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    for folder in ("photos", "data/images/train", "data/labels/train"):
        (tmp_path / folder).mkdir(parents=True)
    for number in range(2):
        pixels = np.full((48, 64, 3), 90 * number, np.uint8)
        pixels[:24] += 50
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    Image.fromarray(pixels).save(tmp_path / "data/images/train/a.png")
    Image.fromarray(np.zeros((48, 64), np.uint8)).save(tmp_path / "data/labels/train/a.png")
    (tmp_path / "data" / "classes.txt").write_text("sky\nroad")

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(["quantize", *arguments])
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return run


def test_a_folder_of_images_makes_a_folder_that_segments(command: Command, capsys: Any, tmp_path: Path) -> None:
    pytest.importorskip("nncf", reason="making int8 networks needs the extra int8")
    save_small(tmp_path / "model", SEGFORMER, SEGFORMER_PROCESSOR)
    status, out, err = command("model", "photos", "--output", "int8")
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == "int8 for an input of 64 x 64 pixels, from 2 images"
    with pytest.raises(SystemExit) as end:
        main(
            ["segment", "photos/0.png", "--model", "int8", "--device", "cpu", "--engine", "openvino", "--dtype", "int8"]
        )
    assert not end.value.code, capsys.readouterr().err
    assert (tmp_path / "everymask-out" / "0.overlay.png").exists()


def test_annotated_data_gives_its_images_and_bad_ones_are_told(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def quantize(model: str, images: Any, output: Path, **options: Any) -> Quantized:
        given.update(options, images=[images[index].shape for index in range(len(images))])
        return Quantized(output, Size(32, 48), 3, 2, (ImageError("a.png is empty"),))

    monkeypatch.setattr("everymask.quantization.quantize", quantize)
    status, out, err = command("street", "data", "--output", "int8", "--limit", "7", "--size", "64", "--window", "32")
    assert (status, err) == (1, "error: a.png is empty\n")
    assert "32 x 48 pixels, from 3 images; 2 that the network sees at another size were left out" in out
    assert given.pop("seen")() is None
    assert given == {"images": [(48, 64, 3)], "limit": 7, "size": 64, "window": 32, "overlap": None}


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["street", "nothing"], 1, "nothing: there is no such folder"),
        (["street", "photos", "--split", "train"], 1, "photos is in no known format"),
        (["street", "photos", "--size", "9"], 2, "size is 9"),
    ],
)
def test_bad_wishes_are_told(command: Command, arguments: list[str], status: int, message: str) -> None:
    outcome = command(*arguments, "--output", "int8")
    assert outcome[0] == status
    assert message in outcome[2]
