"""How long several subjects take for the same work, side by side."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from everymask.stopwatch import Phase, Stopwatch

WAY: tuple[Phase, ...] = ("read", "prepare", "network", "decode")
"""The phases from an image to its result."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Something that makes a result of an image.

    ``run`` does it once, from the file to the result, and tells the stopwatch its phases. ``draw`` makes a picture of
    the result, None where that is not compared. ``dtype`` is what it computes in, "float32" or the like; ``gflop`` what
    its network computes, in 1e9 operations.
    """

    name: str
    run: Callable[[Stopwatch], Any]
    dtype: str
    gflop: float
    draw: Callable[[Any], object] | None = None


@dataclass(frozen=True, slots=True)
class Round:
    """Seconds of one run: ``whole`` from the image to the result, ``phases`` of it, and ``draw`` after it."""

    whole: float
    phases: dict[Phase, float]
    draw: float | None


@dataclass(frozen=True, slots=True)
class Times:
    """``rounds`` of every subject by its name, one entry a round; ``yardstick``: seconds of it in the same rounds."""

    rounds: dict[str, list[Round]]
    yardstick: list[float]


@dataclass(frozen=True, slots=True)
class Spread:
    """``median`` and quartiles of several figures."""

    median: float
    lower: float
    upper: float


def spread(values: Sequence[float]) -> Spread:
    """Of at least one value; the quartiles are interpolated between the values that are there."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, lower, upper)


def measure(
    subjects: Iterable[Subject],
    yardstick: Callable[[], object],
    *,
    repeats: int,
    warm_up: int = 1,
    clock: Callable[[], float] = perf_counter,
) -> Times:
    """Runs the subjects in turns, A B C A B C, so that whatever slows the machine for a while slows all of them.

    Each runs ``warm_up`` times that do not count, then ``repeats`` times. ``yardstick`` runs three times in every
    round; the shortest counts.
    """
    subjects = tuple(subjects)
    rounds: dict[str, list[Round]] = {subject.name: [] for subject in subjects}
    yards = []
    for number in range(-warm_up, repeats):
        yard = min(_seconds(yardstick, clock) for _ in range(3))
        done = {subject.name: _round(subject, clock) for subject in subjects}
        if number >= 0:
            yards.append(yard)
            for name, each in done.items():
                rounds[name].append(each)
    return Times(rounds, yards)


def _round(subject: Subject, clock: Callable[[], float]) -> Round:
    stopwatch = Stopwatch()
    start = clock()
    result = subject.run(stopwatch)
    whole = clock() - start
    phases = {phase: stopwatch.seconds[phase] for phase in WAY}
    draw = subject.draw
    return Round(whole, phases, None if draw is None else _seconds(lambda: draw(result), clock))


def _seconds(function: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    function()
    return clock() - start
