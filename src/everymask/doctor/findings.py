"""What the doctor says: findings, and the report that holds them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""An error makes figures or training wrong, a warning probably does, a note is worth knowing."""

MOST_NAMES = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault of a data set.

    ``kind``: a short name that stays the same, such as "offset-by-one". ``where``: names of images, files or
    annotations, at most 20; ``count``: how many there are. ``fix``: a command or a line to change.
    """

    kind: str
    severity: Severity
    message: str
    where: tuple[str, ...]
    count: int
    fix: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found: ``findings``, errors first.

    ``format``: of the data set, as ``open_dataset`` names it. ``splits``: those that were checked, with the number of
    images of each.
    """

    location: str
    format: str
    splits: dict[str, int]
    findings: tuple[Finding, ...]

    def count(self, severity: Severity) -> int:
        """How many findings are of this severity."""
        return sum(each.severity == severity for each in self.findings)


def finding(kind: str, severity: Severity, message: str, where: Iterable[str], fix: str) -> Finding:
    """A finding about all of ``where``, of which it names the first ones."""
    names = tuple(where)
    return Finding(kind, severity, message, names[:MOST_NAMES], len(names), fix)


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Errors first, then warnings, then notes; otherwise as they come."""
    return tuple(sorted(findings, key=lambda each: SEVERITIES.index(each.severity)))
