"""A run that is killed and resumed goes on as if nothing had happened."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from everymask.errors import DataError, OptionError
from everymask.training.loop import train
from everymask.training.state import TrainingState, check_same_run, load_state, save_state, seed_step
from trainable import figures, job_for

TESTS = Path(__file__).parents[1]
STEPS = 14
SETTINGS = {"steps": STEPS, "ema_decay": 0.9, "validation_interval": 5, "held_out": 1, "state_interval": 3}

RUN = f"""
import sys, torch
sys.path.insert(0, {str(TESTS)!r})
from pathlib import Path
from everymask.training.loop import train
from trainable import job_for
torch.set_num_threads(1)
if __name__ == "__main__":
    train(job_for(Path(sys.argv[1]), "mask2former", resume=True, **{SETTINGS!r}))
"""


def killed_after(step: int, folder: Path) -> None:
    """Starts a run and kills it, with SIGKILL, as soon as it has told of ``step``; it may be anywhere after it then."""
    process = subprocess.Popen([sys.executable, "-c", RUN, str(folder)], stderr=subprocess.PIPE, text=True)
    file, told = folder / "run" / "steps.csv", 0
    while told < step:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.005)
        told = file.read_text().count("\n") - 1 if file.exists() else 0
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    if process.stderr:
        process.stderr.close()


def test_killed_and_resumed_all_later_losses_are_the_same_bit_for_bit(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train(job_for(tmp_path / "whole", "mask2former", **SETTINGS))
        killed_after(7, tmp_path / "killed")  # after a validation, and somewhere between two states
        state = load_state(tmp_path / "killed" / "run")
        assert state is not None
        assert 6 <= state.step < STEPS
        train(job_for(tmp_path / "killed", "mask2former", resume=True, **SETTINGS))
    finally:
        torch.set_num_threads(threads)
    whole, resumed = figures(tmp_path / "whole"), figures(tmp_path / "killed")
    assert [row["step"] for row in whole] == [str(step) for step in range(1, STEPS + 1)]
    assert resumed == whole
    for name in ("best", "last"):
        files = [(tmp_path / each / "run" / name / "model.safetensors").read_bytes() for each in ("whole", "killed")]
        assert files[0] == files[1]
    validations = [(tmp_path / each / "run" / "validation.csv").read_text() for each in ("whole", "killed")]
    assert validations[0] == validations[1]


def test_a_run_that_has_ended_resumes_to_its_result(tmp_path: Path) -> None:
    first = train(job_for(tmp_path, "segformer", held_out=1))
    again = train(job_for(tmp_path, "segformer", held_out=1, resume=True))
    assert again == first


def state(step: int) -> TrainingState:
    return TrainingState(
        step, {"weight": torch.full((3,), float(step))}, None, {"state": {}}, {}, {"PQ": 0.5}, {"a": 1}
    )


def test_a_state_reads_back_whole(tmp_path: Path) -> None:
    assert load_state(tmp_path) is None
    save_state(tmp_path, state(1))
    save_state(tmp_path, state(2))
    read = load_state(tmp_path)
    assert read is not None
    assert (read.step, read.best, read.settings) == (2, {"PQ": 0.5}, {"a": 1})
    assert torch.equal(read.network["weight"], torch.full((3,), 2.0))
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]


def test_a_kill_while_writing_leaves_the_former_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_state(tmp_path, state(1))

    def killed(content: object, file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        save_state(tmp_path, state(2))
    read = load_state(tmp_path)
    assert read is not None
    assert read.step == 1


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_bytes(b"no state")
    with pytest.raises(DataError, match="damaged or of another version: start anew in another folder"):
        load_state(tmp_path)


def test_what_differs_from_the_former_run_is_named(tmp_path: Path) -> None:
    check_same_run(state(1), {"a": 1}, tmp_path)
    with pytest.raises(OptionError, match="a was 1 and is 2, b was None and is 3"):
        check_same_run(state(1), {"a": 2, "b": 3}, tmp_path)


def test_every_step_of_every_process_has_random_numbers_of_its_own() -> None:
    drawn = set()
    for seed in range(3):
        for step in range(50):
            for rank in range(4):
                seed_step(seed, step, rank)
                drawn.add(torch.rand(1).item())
    assert len(drawn) > 0.99 * 3 * 50 * 4
    seed_step(1, 2, 3)
    assert torch.rand(1).item() in drawn
