"""Figures in CSV files, which a resumed run continues."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from everymask.training.logs import TrainingLog, read_rows


def test_every_number_reads_back_as_the_same_number(tmp_path: Path) -> None:
    with TrainingLog(tmp_path, 0, 2) as log:
        log.step(1, {"loss": 0.1 + 0.2, "class": 1e-30})
        log.step(2, {"loss": float("inf"), "class": 2})
    rows = read_rows(tmp_path / "steps.csv")
    assert [row["step"] for row in rows] == ["1", "2"]
    assert float(rows[0]["loss"]) == 0.1 + 0.2
    assert float(rows[0]["class"]) == 1e-30


def test_a_resumed_run_forgets_the_steps_that_come_again(tmp_path: Path) -> None:
    with TrainingLog(tmp_path, 0, 5) as log:
        for step in range(1, 6):
            log.step(step, {"loss": step})
        log.validation(4, {"mIoU": 0.5})
    with (tmp_path / "steps.csv").open("a") as file:
        file.write("6,0.")  # what a kill may leave
    with TrainingLog(tmp_path, 3, 5) as log:
        assert not (tmp_path / "validation.csv").exists()
        log.step(4, {"loss": 40})
        log.validation(4, {"mIoU": 0.25})
    assert [(row["step"], float(row["loss"])) for row in read_rows(tmp_path / "steps.csv")] == [
        ("1", 1),
        ("2", 2),
        ("3", 3),
        ("4", 40),
    ]
    assert [float(row["mIoU"]) for row in read_rows(tmp_path / "validation.csv")] == [0.25]


def test_a_new_run_keeps_nothing_of_a_former_one(tmp_path: Path) -> None:
    with TrainingLog(tmp_path, 0, 1) as log:
        log.step(1, {"loss": 1})
    with TrainingLog(tmp_path, 0, 1) as log:
        log.step(1, {"dice": 1})
    assert list(read_rows(tmp_path / "steps.csv")[0]) == ["step", "dice"]


def test_pictures_are_png_files_of_their_step(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
    with TrainingLog(tmp_path, 0, 1) as log:
        log.picture(12, "first", pixels)
    with Image.open(tmp_path / "pictures" / "step-0000012" / "first.png") as picture:
        assert np.array_equal(np.asarray(picture), pixels)


def test_a_validation_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingLog(tmp_path, 0, 1) as log:
        log.validation(7, {"PQ": 0.4567, "PQ stuff": float("nan")})
    assert capsys.readouterr().err == "step 7: PQ 45.67%  PQ stuff nan%\n"
