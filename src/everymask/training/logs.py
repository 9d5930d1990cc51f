"""What a run tells while it goes: figures as CSV and for TensorBoard, pictures of validation images, a progress bar."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from everymask.atomic import ready_folder, write
from everymask.errors import MissingExtraError
from everymask.evaluation.figures import figure_text

STEPS, VALIDATIONS, PICTURES, TENSORBOARD = "steps.csv", "validation.csv", "pictures", "tensorboard"


class TrainingLog:
    """Writes into a folder: ``steps.csv``, ``validation.csv``, ``tensorboard/`` and ``pictures/``.

    A run that goes on after ``step`` steps loses the rows of later steps, which an earlier process wrote before it was
    killed: they will come again. Figures of validations, and on a terminal a bar of ``total`` steps, go to stderr. Use
    it as a context manager, so that all is written at the end.
    """

    def __init__(self, folder: Path, step: int, total: int) -> None:
        self._folder = ready_folder(folder)
        for name in (STEPS, VALIDATIONS):
            _forget_later_rows(folder / name, step)
        self._board = _summary_writer(folder / TENSORBOARD, step)
        console = Console(stderr=True, markup=False, highlight=False)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("training", total=total, completed=step)

    def __enter__(self) -> "TrainingLog":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()
        self._board.close()

    def step(self, step: int, figures: Mapping[str, float]) -> None:
        """Figures of one training step by name; every call has the same names."""
        self._add(STEPS, "training", step, figures)
        loss = next(iter(figures.values()))
        self._bar.update(self._task, completed=step, description=f"training, loss {loss:.4g}")

    def validation(self, step: int, figures: Mapping[str, float]) -> None:
        """Figures of a validation by name; every call has the same names."""
        self._add(VALIDATIONS, "validation", step, figures)
        said = "  ".join(figure_text(name, value) for name, value in figures.items())
        self._bar.console.print(f"step {step}: {said}", soft_wrap=True)
        self._board.flush()

    def picture(self, step: int, name: str, pixels: NDArray[np.uint8]) -> None:
        """A validation image (H, W, 3) uint8, as PNG in a folder of the step and for TensorBoard."""
        encoded = io.BytesIO()
        Image.fromarray(pixels).save(encoded, "PNG")
        write(ready_folder(self._folder / PICTURES / f"step-{step:07d}") / f"{name}.png", encoded.getvalue())
        self._board.add_image(f"validation/{name}", pixels, step, dataformats="HWC")

    def _add(self, file: str, group: str, step: int, figures: Mapping[str, float]) -> None:
        path = self._folder / file
        is_new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as opened:
            rows = csv.writer(opened)
            if is_new:
                rows.writerow(["step", *figures])
            # repr of a float reads back as the same number.
            rows.writerow([step, *(repr(float(value)) for value in figures.values())])
        for name, value in figures.items():
            self._board.add_scalar(f"{group}/{name}", value, step)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of one of the CSV files, by column; a last line that a kill cut off is left out."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as opened:
        whole = [line for line in opened if line.endswith("\n")]
    return list(csv.DictReader(whole))


def _forget_later_rows(path: Path, step: int) -> None:
    rows = [row for row in read_rows(path) if int(row["step"]) <= step]
    if rows:
        write(path, _csv([list(rows[0]), *(list(row.values()) for row in rows)]))
    else:
        path.unlink(missing_ok=True)


def _csv(rows: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _summary_writer(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError("training needs TensorBoard: pip install 'everymask[train]'") from error
    # What was written for later steps is hidden from the viewer.
    return SummaryWriter(str(folder), purge_step=step + 1)
