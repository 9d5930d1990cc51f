"""What a benchmark says: a row a subject, as Markdown and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from everymask.benchmarking.ceiling import Ceiling
from everymask.benchmarking.machine import Machine
from everymask.benchmarking.timing import WAY, Round, Spread, Subject, Times, spread
from everymask.stopwatch import Phase


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of one subject.

    ``whole``: seconds from the image to its result; ``phases``: of each phase, medians; ``draw``: after it, None where
    nothing was drawn. ``speedup``: how many times faster than the first subject, the median over rounds. ``gflop``: of
    the network; ``rate``: GFLOP/s while the network runs; ``share``: of what the machine's matrix products reach in the
    same number type. ``ratio``: of the yardstick's time to ``whole``, the median over rounds: the speed in a unit of
    the machine's own.
    """

    subject: str
    whole: Spread
    phases: dict[Phase, float]
    draw: float | None
    speedup: float
    gflop: float
    rate: float
    share: float
    ratio: float


@dataclass(frozen=True, slots=True)
class Report:
    """``title``: what the subjects do, such as the model's name; ``work``: on what, in words. ``repeats``: rounds."""

    title: str
    work: str
    repeats: int
    machine: Machine
    ceiling: Ceiling
    rows: tuple[Row, ...]

    def to_json(self) -> dict[str, Any]:
        """All of it; times in seconds."""
        return asdict(self)

    def columns(self) -> tuple[str, ...]:
        """The head of the table."""
        return (
            "subject",
            "image to result, s",
            "faster",
            *(f"{phase}, ms" for phase in WAY),
            "draw, ms",
            "GFLOP",
            "GFLOP/s",
            "of ceiling",
        )

    def cells(self) -> list[tuple[str, ...]]:
        """The rows of the table."""
        return [_cells(row) for row in self.rows]

    def to_markdown(self) -> str:
        """Headline, table, and what it was measured on."""
        lines = [self.columns(), ("---", *["---:"] * (len(self.columns()) - 1)), *self.cells()]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"### {self.title}\n\n{table}\n\n{self.footnote()}\n"

    def footnote(self) -> str:
        """What it was measured on, and how."""
        convolutions = {name: f" (3 x 3 convolution {rate:.0f})" for name, rate in self.ceiling.convolutions.items()}
        ceilings = ", ".join(
            f"{name} {rate:.0f}{convolutions.get(name, '')}" for name, rate in self.ceiling.products.items()
        )
        return (
            f"{self.work}. Medians of {self.repeats} rounds, in brackets the quartiles; subjects took turns. "
            f"Ceiling, GFLOP/s of matrix products: {ceilings}. {self.machine}."
        )


def report(
    title: str, work: str, subjects: Sequence[Subject], times: Times, ceiling: Ceiling, machine: Machine
) -> Report:
    """The rows of ``subjects``, which were measured together; the first is what the others are compared with."""
    base = times.rounds[subjects[0].name]
    rows = tuple(_row(subject, times.rounds[subject.name], base, times.yardstick, ceiling) for subject in subjects)
    return Report(title, work, len(times.yardstick), machine, ceiling, rows)


def _row(subject: Subject, rounds: list[Round], base: list[Round], yardstick: list[float], ceiling: Ceiling) -> Row:
    phases = {phase: spread([each.phases[phase] for each in rounds]).median for phase in WAY}
    drawn = [each.draw for each in rounds if each.draw is not None]
    rate = subject.gflop / phases["network"]
    return Row(
        subject=subject.name,
        whole=spread([each.whole for each in rounds]),
        phases=phases,
        draw=spread(drawn).median if drawn else None,
        speedup=spread([other.whole / each.whole for each, other in zip(rounds, base, strict=True)]).median,
        gflop=subject.gflop,
        rate=rate,
        share=rate / ceiling.products[subject.dtype],
        ratio=spread([yard / each.whole for each, yard in zip(rounds, yardstick, strict=True)]).median,
    )


def _cells(row: Row) -> tuple[str, ...]:
    whole = f"{row.whole.median:.3g} ({row.whole.lower:.3g} to {row.whole.upper:.3g})"
    return (
        row.subject,
        whole,
        f"{row.speedup:.2f}x",
        *(f"{1000 * row.phases[phase]:.1f}" for phase in WAY),
        "-" if row.draw is None else f"{1000 * row.draw:.1f}",
        f"{row.gflop:.1f}",
        f"{row.rate:.0f}",
        f"{100 * row.share:.0f} %",
    )
