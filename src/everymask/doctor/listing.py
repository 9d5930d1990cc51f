"""The files of a data set as they lie there, before any reader has an opinion on them."""

from dataclasses import dataclass

from everymask.labels import LabelSet


@dataclass(frozen=True, slots=True)
class Entry:
    """An image and what belongs to it, as names of members of a storage; None where a file is missing.

    ``name``: how findings call it, unique in its data set.
    """

    name: str
    split: str
    image: str | None
    labels: str | None
    instances: str | None = None


@dataclass(frozen=True, slots=True)
class Convention:
    """What the values of label files mean.

    ``indices``: the class index of every stored value that is a class. ``ignore``: the stored values that are none.
    ``editable``: the member of the storage in which a user states this; None for published layouts, whose convention
    is theirs. ``pattern``: the label files, for commands.
    """

    labels: LabelSet
    indices: dict[int, int]
    ignore: frozenset[int]
    editable: str | None
    pattern: str

    @property
    def lowest(self) -> int:
        """The smallest stored value that is a class."""
        return min(self.indices)

    @property
    def highest(self) -> int:
        """The largest stored value that is a class."""
        return max(self.indices)


@dataclass(frozen=True, slots=True)
class Listing:
    """``splits``: the entries of each split, by name; there may be images without labels and the reverse."""

    splits: dict[str, tuple[Entry, ...]]
    convention: Convention

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Those of all splits."""
        return tuple(entry for entries in self.splits.values() for entry in entries)
