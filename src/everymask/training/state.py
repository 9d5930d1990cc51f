"""What a run writes down to go on from: after a crash or a kill, the steps that follow are as they would have been.

Random numbers need no record: those of a step come from the run's seed and the step's number (``seed_step``), and so do
the images of a batch.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from everymask.errors import DataError, OptionError

FILE = "state.pt"


@dataclass(frozen=True)
class TrainingState:
    """A run after ``step`` optimiser steps.

    ``network`` and ``averaged`` are the tensors of the network and of its moving average, None without one.
    ``optimizer`` and ``scaler``: the ``state_dict`` of the optimiser and of mixed precision, the latter empty where
    nothing is scaled. ``best``: the best figures of a validation so far, empty before the first. ``settings``: what the
    run was started with, by name; only a run with the same ones may go on.
    """

    step: int
    network: Mapping[str, Tensor]
    averaged: Mapping[str, Tensor] | None
    optimizer: Mapping[str, Any]
    scaler: Mapping[str, Any]
    best: Mapping[str, float]
    settings: Mapping[str, Any]


def save_state(folder: Path, state: TrainingState) -> None:
    """Writes the state, whole or not at all: a kill at any moment leaves the former one in place.

    Raises OptionError where the folder cannot be written.
    """
    path, aside = folder / FILE, folder / f"{FILE}.part"
    content = {name: getattr(state, name) for name in TrainingState.__dataclass_fields__}
    try:
        with aside.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        raise OptionError(
            f"cannot write {path}: {error.strerror or error}; choose an output folder that has space left"
        ) from error


def load_state(folder: Path) -> TrainingState | None:
    """The state in a folder, on the CPU; None where there is none. Raises DataError for a file that cannot be read."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        return TrainingState(**torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch raises many kinds for a damaged or strange file
        reason = str(error).partition("\n")[0]
        raise DataError(
            f"{path} cannot be read ({reason}); it is damaged or of another version: start anew in another folder"
        ) from error


def check_same_run(state: TrainingState, settings: Mapping[str, Any], folder: Path) -> None:
    """Raises OptionError, naming what differs, if ``settings`` are not what the run in ``folder`` was started with."""
    before = state.settings
    names = [key for key in {**before, **settings} if before.get(key) != settings.get(key)]
    if names:
        changes = ", ".join(f"{key} was {before.get(key)!r} and is {settings.get(key)!r}" for key in names)
        raise OptionError(
            f"the run in {folder} was started with other settings ({changes}): resume it with the same ones, or start "
            "anew in another folder"
        )


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seeds torch for one step of one process: what is drawn depends on nothing that was drawn before."""
    torch.manual_seed((seed * 1_000_003 + step) * 1_009 + rank)
