"""Label sets: the names of a model's classes, which of them are things, and their palette."""

from dataclasses import dataclass

Color = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class LabelSet:
    """The classes of a model or a data set, by index.

    ``things[i]`` says whether class i is countable (a thing: instances are told apart) or stuff.
    ``colors[i]`` is the (red, green, blue) that the data set publishes for class i, 0 to 255; None where it has none.
    The three tuples have the same length.
    """

    names: tuple[str, ...]
    things: tuple[bool, ...]
    colors: tuple[Color | None, ...]

    def __len__(self) -> int:
        return len(self.names)
