"""The list of classes, and how often each occurs."""

from collections import Counter
from collections.abc import Mapping

from everymask.doctor.findings import Finding, finding
from everymask.doctor.fixes import rewrite
from everymask.doctor.listing import Convention
from everymask.labels import LabelSet

# Names that people give to what is no class.
NO_CLASS = frozenset(("void", "unlabeled", "unlabelled", "ignore", "ignored", "unknown", "out of roi", "no label"))
IMBALANCE = 10_000


def check_classes(labels: LabelSet, pixels: Mapping[int, int], convention: Convention | None) -> list[Finding]:
    """Findings about a class list.

    ``pixels``: how many each class has. ``convention``: that of pictures of class indices; None for COCO's JSON.
    """
    stated = "'categories' of the JSON" if convention is None else convention.editable or "the list of classes"
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
    nothing = [index for index in labels.classes if labels.names[index].lower() in NO_CLASS and pixels.get(index)]
    if nothing:
        findings.append(
            finding(
                "unlabelled-as-class",
                "warning",
                "what is no class is learned and measured like one",
                (labels.names[index] for index in nothing),
                _take_off(labels, nothing[0], stated, convention),
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


def _take_off(labels: LabelSet, index: int, stated: str, convention: Convention | None) -> str:
    """How to make a class "no class"; the values of others must stay what they are."""
    name = labels.names[index]
    if convention is None:
        return f"{stated}: remove {name!r}, and the annotations of it; what no annotation covers is ignored"
    value = convention.lowest + index
    if index == 0:
        return f"{stated}: remove {name!r} from the names, and set offset: {value + 1} and ignore: {value}"
    if index == len(labels) - 1:
        return f"{stated}: remove {name!r} from the names, and set ignore: {value}"
    return rewrite(f"(lambda a: np.where(a == {value}, 255, a))(np.asarray(Image.open(f)))", convention.pattern)
