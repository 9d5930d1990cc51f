"""The list of classes, and how often each occurs."""

from collections import Counter
from collections.abc import Mapping

from everymask.doctor.findings import Finding, finding
from everymask.labels import LabelSet

# Names that people give to what is no class.
NO_CLASS = frozenset(("void", "unlabeled", "unlabelled", "ignore", "ignored", "unknown", "out of roi", "no label"))
IMBALANCE = 10_000


def check_classes(labels: LabelSet, pixels: Mapping[int, int], stated: str) -> list[Finding]:
    """Findings about a class list. ``pixels``: how many each class has. ``stated``: where the list is to be edited."""
    names = [labels.names[index] for index in labels.classes]
    findings = []
    twice = [name for name, count in Counter(name.strip().lower() for name in names).items() if count > 1]
    if twice:
        findings.append(
            finding(
                "duplicate-class-names",
                "warning",
                "several classes have one name",
                twice,
                f"{stated}: give each class a name of its own, or make them one class",
            )
        )
    nothing = [name for name in names if name.strip().lower() in NO_CLASS and pixels.get(labels.names.index(name))]
    if nothing:
        values = [labels.names.index(name) for name in nothing]
        findings.append(
            finding(
                "unlabelled-as-class",
                "warning",
                f"a class is called {', '.join(map(repr, nothing))}, yet is learned and measured like any other",
                nothing,
                f"{stated}: add its value to 'ignore' (index {', '.join(map(str, values))}) and take it off the list",
            )
        )
    never = [labels.names[index] for index in labels.classes if not pixels.get(index)]
    if never and len(never) < len(names):
        findings.append(
            finding(
                "class-never-occurs",
                "note",
                f"{len(never)} of {len(names)} classes never occur",
                never,
                "none is needed; figures leave such classes out",
            )
        )
    present = sorted((pixels[index], labels.names[index]) for index in labels.classes if pixels.get(index))
    if present and present[-1][0] > IMBALANCE * present[0][0]:
        rare = [f"{name}: {count} pixels" for count, name in present if present[-1][0] > IMBALANCE * count]
        findings.append(
            finding(
                "class-imbalance",
                "note",
                f"{present[-1][1]!r} has more than {IMBALANCE:,} times as many pixels as other classes",
                rare,
                "add images of the rare classes, or measure them by their own rows of the table",
            )
        )
    return findings
