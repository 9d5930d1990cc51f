"""The tables of published keys that layouts.md has for each family."""

import re

from shared import SHARED

Kinds = dict[str, tuple[int, tuple[int, ...]]]
"""Keys with # for every index, how many of them there are, and the shape of the first."""


def collapsed(shapes: dict[str, tuple[int, ...]]) -> Kinds:
    """The kinds of keys that ``shapes`` has."""
    kinds: dict[str, list[tuple[int, ...]]] = {}
    for key, shape in shapes.items():
        kinds.setdefault(re.sub(r"\.\d+(?=\.)", ".#", key), []).append(shape)
    return {kind: (len(found), found[0]) for kind, found in kinds.items()}


def table(title: str) -> Kinds:
    """The rows under a heading that starts with ``title``; every leaf has the shape of the first leaf of its row."""
    text = (SHARED / "checkpoints" / "layouts.md").read_text()
    section = text.partition(title)[2].partition("\n\n\n")[0]
    rows = {}
    for pattern, counts, shape in re.findall(r"^\| `([^`]+)` \| ([\d/]+) \| ([\dx]+)", section, re.MULTILINE):
        stem, _, listed = pattern.partition("{")
        leaves = listed.removesuffix("}").split(",")
        # One count for all leaves, or one for each.
        each = counts.split("/") if "/" in counts else [counts] * len(leaves)
        for leaf, count in zip(leaves, each, strict=True):
            rows[stem + leaf] = (int(count), tuple(map(int, shape.split("x"))))
    return rows


def assert_equal_to_table(shapes: dict[str, tuple[int, ...]], title: str) -> None:
    """The same kinds of keys, as many of each, in the listed shape, which is that of a row's first leaf."""
    found, listed = collapsed(shapes), table(title)
    assert {kind: count for kind, (count, _) in found.items()} == {kind: count for kind, (count, _) in listed.items()}
    for kind, (_, shape) in listed.items():
        # The other leaves of a row share the first dimension; batch norm's count is one number.
        assert found[kind][1] in ([()] if kind.endswith("num_batches_tracked") else [shape, shape[:1]]), kind
