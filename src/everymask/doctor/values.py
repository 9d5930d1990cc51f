"""Stored values against classes: shifted by one, ignored by mistake, of another numbering."""

from collections import Counter
from collections.abc import Iterable, Set

from everymask.doctor.category_maps import ids_taken_for_indices, indices_taken_for_ids
from everymask.doctor.encoding import Looked
from everymask.doctor.findings import Finding, Severity, finding
from everymask.doctor.fixes import rewrite, state
from everymask.doctor.listing import Convention

CUSTOMARY_IGNORE = (255, 65535)


def check_values(looked: Looked, convention: Convention) -> list[Finding]:
    """Findings about the values of label files that hold class indices; of several explanations the first that fits."""
    totals = total_pixels(looked)
    used = set(totals)
    unknown = used - set(convention.indices) - convention.ignore
    fault = (
        _binary(looked, convention, used)
        or _shifted(looked, convention, used, unknown)
        or (unknown and (_numbering(looked, convention, used, unknown) or _outside(looked, convention, unknown)))
    )
    if fault:
        return [fault]
    nothing = [entry for entry, facts in looked if not set(facts.histogram()) & set(convention.indices)]
    if not nothing:
        return []
    return [
        finding(
            "all-ignored",
            "warning",
            "labels have no class at all: every pixel is ignored",
            (str(entry.labels) for entry in nothing),
            "remove these images, or label them",
        )
    ]


def total_pixels(looked: Looked) -> Counter[int]:
    """The pixels of every stored value, over all files."""
    totals: Counter[int] = Counter()
    for _, facts in looked:
        totals.update(facts.histogram())
    return totals


def _files_with(looked: Looked, values: Set[int]) -> Iterable[str]:
    return [str(entry.labels) for entry, facts in looked if values & set(facts.histogram())]


def _binary(looked: Looked, convention: Convention, used: Set[int]) -> Finding | None:
    """Masks of one kind of object that are saved as black and white, for looking at."""
    if len(convention.indices) != 2 or 255 not in used or used - {convention.lowest, 255}:
        return None
    return finding(
        "ignore-255-used-as-class",
        "error",
        f"labels hold {convention.lowest} and 255 only: 255 stands for the class "
        f"{convention.labels.names[convention.indices[convention.highest]]!r}, whose value is {convention.highest}, "
        "but it is read as ignored or as no class",
        _files_with(looked, {255}),
        rewrite(
            f"np.where(np.asarray(Image.open(f)) == 255, {convention.highest}, {convention.lowest})",
            convention.pattern,
        ),
    )


def _shifted(looked: Looked, convention: Convention, used: Set[int], unknown: Set[int]) -> Finding | None:
    """Labels that are all one too high or too low."""
    low, high = convention.lowest, convention.highest
    if len(convention.indices) != high - low + 1:
        return None
    customary = set(CUSTOMARY_IGNORE)
    counted, strange = used - customary, unknown - customary
    known = set(convention.indices) | convention.ignore
    # One too high: the first class is never there, and all would fit if 1 were subtracted.
    if low not in used and strange and {each - 1 for each in counted} <= known:
        return _too_high(looked, convention, strange, "error")
    # The first class is not there, and every other one and what follows the last: here that is a declared void.
    if low == 0 and high >= 2 and not unknown and counted == set(range(1, high + 2)):
        return _too_high(looked, convention, {high + 1}, "warning")
    # One value past the last, and 0 is there too: as in ADE20K's files, 0 is "unlabelled".
    if low == 0 and unknown - customary == {high + 1}:
        return finding(
            "offset-by-one",
            "error",
            f"labels go up to {high + 1}, and the {high + 1} classes are stored as 0 to {high}: as in ADE20K's files, "
            "0 seems to mean unlabelled and 1 the first class",
            _files_with(looked, {high + 1}),
            f"{shift_fix(convention, +1)}; where {high + 1} means unlabelled instead: ignore: {high + 1}",
        )
    # One too low: 0 is declared ignored, yet 255 is what is ignored and the last class is never there.
    both_ignored = low == 1 and 0 in convention.ignore and {0, 255} <= used and high not in used
    if both_ignored and (255 in unknown or set(range(high)) <= used):
        return finding(
            "offset-by-one",
            "error",
            f"labels are one too low: 0 is declared ignored, but 255 is what is ignored, and {high} (the last class, "
            f"{_name(convention, high)}) never occurs",
            _files_with(looked, {255}),
            shift_fix(convention, -1),
        )
    return None


def _too_high(looked: Looked, convention: Convention, telling: Set[int], severity: Severity) -> Finding:
    low = convention.lowest
    return finding(
        "offset-by-one",
        severity,
        f"labels are one too high: {low} (the first class, {_name(convention, low)}) never occurs, and {max(telling)} "
        "does",
        _files_with(looked, telling),
        shift_fix(convention, +1),
    )


def _name(convention: Convention, value: int) -> str:
    return repr(convention.labels.names[convention.indices[value]])


def shift_fix(convention: Convention, by: int) -> str:
    """The fix for labels that are too high (``by`` is 1) or too low (-1)."""
    if convention.editable is not None and convention.lowest + by >= 0:
        offset = convention.lowest + by
        return state(convention.editable, {"offset": offset, "ignore": [*range(offset), 255]})
    pixels = "(np.asarray(Image.open(f)).astype(int))"
    nothing = 0 if 0 in convention.ignore else 255
    if by > 0:
        return rewrite(f"(lambda a: np.where(np.isin(a, [0, 255]), {nothing}, a - 1)){pixels}", convention.pattern)
    return rewrite(f"(lambda a: np.where(a == 255, {nothing}, a + 1)){pixels}", convention.pattern)


def _numbering(looked: Looked, convention: Convention, used: Set[int], unknown: Set[int]) -> Finding | None:
    """Ids with gaps where contiguous indices are expected, or the reverse."""
    ids = sorted(convention.indices)
    if ids == list(range(ids[0], ids[0] + len(ids))):
        numbering = ids_taken_for_indices(used - convention.ignore - set(CUSTOMARY_IGNORE), len(ids))
        if numbering is None:
            return None
        return finding(
            "category-map",
            "error",
            f"labels hold {numbering.name}, and the {len(ids)} classes are {ids[0]} to {ids[-1]} without gaps",
            _files_with(looked, unknown),
            rewrite(
                f"(lambda a, ids: np.where(np.isin(a, ids), np.searchsorted(ids, a) + {ids[0]}, 255))"
                f"(np.asarray(Image.open(f)), {list(numbering.ids)})",
                convention.pattern,
            ),
        )
    first = indices_taken_for_ids(used - set(CUSTOMARY_IGNORE), ids)
    if first is None:
        return None
    return finding(
        "category-map",
        "error",
        f"labels hold contiguous class indices ({first} to {first + len(ids) - 1}), but this format's values have gaps "
        f"({ids[0]} to {ids[-1]})",
        _files_with(looked, unknown),
        rewrite(
            f"(lambda a, ids: np.where(a >= {first + len(ids)}, {min(convention.ignore)}, "
            f"np.take(ids, a - {first}, mode='clip')))(np.asarray(Image.open(f)).astype(int), {ids})",
            convention.pattern,
        ),
    )


def _outside(looked: Looked, convention: Convention, unknown: Set[int]) -> Finding:
    shown = ", ".join(map(str, sorted(unknown)[:10])) + (", ..." if len(unknown) > 10 else "")
    low, high = convention.lowest, convention.highest
    if unknown <= set(CUSTOMARY_IGNORE):
        declared = sorted(convention.ignore | unknown)
        replaced = min(convention.ignore, default=None)
        if convention.editable is not None:
            fix = state(convention.editable, {"ignore": declared})
        else:
            fix = rewrite(
                f"(lambda a: np.where(a == {shown}, {replaced}, a))(np.asarray(Image.open(f)))", convention.pattern
            )
        return finding(
            "undeclared-ignore",
            "error",
            f"labels hold {shown}, which usually means unlabelled, but is neither a class nor declared ignored",
            _files_with(looked, unknown),
            fix,
        )
    stated = f"{convention.editable}: " if convention.editable is not None else ""
    return finding(
        "unknown-ids",
        "error",
        f"labels hold the values {shown}, which are neither ignored nor one of the {len(convention.indices)} classes "
        f"({low} to {high})",
        _files_with(looked, unknown),
        f"{stated}name these classes, declare the values ignored, or give the pixels one of the classes",
    )
