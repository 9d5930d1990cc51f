"""Two processes that share a batch do what one process does with all of it."""

from pathlib import Path

import pytest
import torch
from torch.multiprocessing.spawn import ProcessRaisedException

from everymask.checkpoints import load_checkpoint
from everymask.errors import DataError, OptionError
from everymask.training.loop import train
from trainable import figures, job_for


def test_two_processes_equal_one(tmp_path: Path) -> None:
    """MaskFormer has no batch norm and draws nothing, so that only the sums are in another order."""
    settings = {"batch_size": 4, "steps": 3, "held_out": 1, "clip_norm": 1.0, "learning_rate": 1e-3}
    train(job_for(tmp_path / "one", "maskformer", **settings))
    train(job_for(tmp_path / "two", "maskformer", devices=2, **settings))
    one, two = figures(tmp_path / "one"), figures(tmp_path / "two")
    assert len(one) == len(two) == 3
    for row, other in zip(one, two, strict=True):
        assert {name: float(value) for name, value in other.items()} == pytest.approx(
            {name: float(value) for name, value in row.items()}, rel=1e-5
        )
    first, second = (load_checkpoint(tmp_path / name / "run" / "last").network.state_dict() for name in ("one", "two"))
    for key, tensor in first.items():
        assert (second[key] - tensor).abs().max() <= 1e-4, key  # the steps went as far as 2e-3


def test_an_error_in_one_of_them_is_the_runs_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of it is its trace as text, as torch gives it."""
    trace = "-- Process 1 terminated with the following error:\nTraceback (most recent call last):\n  raise item\n"

    class Ended:
        def launch(self, run: object) -> None:
            raise ProcessRaisedException(f"\n\n{trace}everymask.errors.DataError: a cannot be read: b\n", 1, 7)

    monkeypatch.setattr("everymask.training.loop.make_fabric", lambda job: Ended())
    with pytest.raises(DataError, match=r"^a cannot be read: b$"):
        train(job_for(tmp_path, "maskformer", devices=2))


def test_a_batch_that_cannot_be_shared_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="make it a multiple of 2"):
        train(job_for(tmp_path, "maskformer", devices=2, batch_size=3))
    assert not (tmp_path / "run" / "steps.csv").exists()
    assert torch.distributed.is_initialized() is False
