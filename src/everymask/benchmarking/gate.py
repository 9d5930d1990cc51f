"""A gate against losses of speed: ratios that were recorded once, and what is measured now.

Seconds do not travel from machine to machine, nor from one hour to the next on a machine that is shared. The gate
compares ratios of two times that were taken within moments of each other: to a matrix product of the machine's own
(``report.Row.ratio``) or to a peer that does not change (``report.Row.speedup``). What slows the machine for a while
slows both. A share of the ceiling would not do, for a network that does needless arithmetic keeps it; and a ratio of
two engines of ours falls when the slower one gets better.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from everymask.atomic import ready_folder, write
from everymask.errors import DataError

TOLERANCE = 0.1
"""The part of a recorded ratio that may be lost: more than what a quiet machine's ratios differ by between two runs."""


@dataclass(frozen=True, slots=True)
class Record:
    """The ``ratios`` of the subjects that were measured together, by their names, and the ``machine`` in words."""

    machine: str
    ratios: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Loss:
    """A subject that has lost more than ``TOLERANCE`` of its ratio."""

    subject: str
    recorded: float
    measured: float

    def __str__(self) -> str:
        lost = 100 * (1 - self.measured / self.recorded)
        return f"{self.subject}: {self.measured:.3g}, recorded {self.recorded:.3g} ({lost:.0f} % lost)"


def read_record(path: Path, title: str) -> Record:
    """What a gate file says about ``title``. Raises DataError where the file cannot be read or says nothing of it."""
    content = _content(path)
    if title not in content:
        raise DataError(
            f"{path} has no ratios of {title!r} (it has {', '.join(map(repr, content)) or 'none'}): record them first"
        )
    entry = content[title]
    try:
        return Record(entry["machine"], {name: float(ratio) for name, ratio in entry["ratios"].items()})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unusable(path) from error


def write_record(path: Path, title: str, record: Record) -> None:
    """Puts a record into a gate file in place of what it says about ``title``; other titles stay as they are.

    Raises DataError where the file is there and cannot be read, OptionError where it cannot be written.
    """
    content = _content(path) if path.exists() else {}
    content[title] = {
        "machine": record.machine,
        "ratios": {name: round(each, 4) for name, each in record.ratios.items()},
    }
    write(ready_folder(path.parent) / path.name, f"{json.dumps(content, indent=1)}\n".encode())


def losses(recorded: Record, measured: Mapping[str, float]) -> list[Loss]:
    """The subjects in both that have lost more than ``TOLERANCE``. Raises DataError where none is in both."""
    both = [name for name in recorded.ratios if name in measured]
    if not both:
        raise DataError(
            f"none of the recorded ratios ({', '.join(recorded.ratios)}) was measured ({', '.join(measured)}): "
            "choose the same engines and number types"
        )
    return [
        Loss(name, recorded.ratios[name], measured[name])
        for name in both
        if measured[name] < (1 - TOLERANCE) * recorded.ratios[name]
    ]


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unusable(path) from error
    if not isinstance(content, dict):
        raise _unusable(path)
    return content


def _unusable(path: Path) -> DataError:
    return DataError(f"{path} is no gate file that can be read: record one")
