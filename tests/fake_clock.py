"""Subjects of a benchmark that take as long as a test says: a clock that their work turns."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from everymask.benchmarking.ceiling import Ceiling
from everymask.benchmarking.machine import Machine
from everymask.benchmarking.report import Report, report
from everymask.benchmarking.timing import Subject, measure
from everymask.stopwatch import Phase, Stopwatch

CEILING = Ceiling({"float32": 200.0, "bfloat16": 400.0}, {"float32": 230.0, "bfloat16": 460.0})
MACHINE = Machine("AMD EPYC (family 25, model 17)", ("avx512_bf16",), 2, 2, 24.0, "2.13.0", None)
WAY_SECONDS: dict[Phase, float] = {"read": 0.5, "prepare": 0.5, "network": 5.0, "decode": 3.0}


@dataclass
class Clock:
    """``now`` in seconds; ``slowness``: by how much the machine as a whole is slower for now. ``log``: who worked."""

    now: float = 100.0
    slowness: float = 1.0
    log: list[str] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def work(self, name: str, seconds: float) -> None:
        self.log.append(name)
        self.now += seconds * self.slowness

    def yardstick(self) -> None:
        """Takes 2 s."""
        self.work("yardstick", 2.0)

    def subject(self, name: str, phases: Mapping[Phase, float] = WAY_SECONDS, draw: float | None = None) -> Subject:
        """Of 100 GFLOP; takes the seconds of ``phases``, 1 more in none of them, and those of ``draw``."""

        def run(stopwatch: Stopwatch) -> str:
            self.log.append(name)
            for phase, seconds in phases.items():
                with stopwatch.phase(phase):
                    self.now += seconds * self.slowness
            self.now += self.slowness
            return name

        def picture(result: str) -> None:
            assert result == name
            assert draw is not None
            self.work(f"{name} drawn", draw)

        return Subject(name, run, name.split()[-1], 100.0, None if draw is None else picture)

    def report(self, *subjects: Subject, repeats: int = 3) -> Report:
        """Of subjects that this clock measures."""
        times = measure(subjects, self.yardstick, repeats=repeats, clock=self)
        return report("street", "semantic segmentation", subjects, times, CEILING, MACHINE)
