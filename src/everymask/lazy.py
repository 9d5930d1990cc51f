"""Names that a package offers and imports when they are first used."""

from collections.abc import Callable, Mapping
from importlib import import_module


def imported_when_used(package: str, homes: Mapping[str, str]) -> Callable[[str], object]:
    """The ``__getattr__`` of a package: ``homes`` says in which of its modules each name lies.

    For any other name it raises AttributeError.
    """

    def attribute(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    return attribute
