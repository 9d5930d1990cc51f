"""The fields of a preprocessor_config.json, one by one: a value of the right type or a CheckpointError that names it.

A field that is missing or null takes the default.
"""

import math
from collections.abc import Mapping
from typing import Any, TypeGuard

from PIL import Image

from everymask.errors import CheckpointError
from everymask.geometry import Size

Config = Mapping[str, Any]
Triple = tuple[float, float, float]


def flag(config: Config, name: str, *, default: bool = True) -> bool:
    """A do_* field; most of them are true where the file is silent."""
    value = config.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise wrong(config, name, "true or false")
    return value


def integer(config: Config, name: str, default: int | None = None, minimum: int = 1) -> int:
    """A whole number; without a default the field must be there."""
    value = config.get(name)
    if value is None:
        value = default
    if not _is_integer(value) or value < minimum:
        raise wrong(config, name, f"an integer of at least {minimum}")
    return value


def number(config: Config, name: str, default: float) -> float:
    """A finite number."""
    value = config.get(name)
    if value is None:
        return default
    if not _is_number(value):
        raise wrong(config, name, "a finite number")
    return float(value)


def triple(config: Config, name: str, default: Triple) -> Triple:
    """One number per channel; a single number stands for all three."""
    value = config.get(name)
    if value is None:
        return default
    values = value if isinstance(value, list | tuple) else [value] * 3
    if len(values) != 3 or not all(_is_number(v) for v in values):
        raise wrong(config, name, "a number or a list of three")
    red, green, blue = (float(v) for v in values)
    return red, green, blue


def sides(config: Config, name: str) -> Size:
    """A list of the height and the width."""
    value = config.get(name)
    values = value if isinstance(value, list | tuple) else []
    if len(values) != 2 or not all(_is_integer(side) and side > 0 for side in values):
        raise wrong(config, name, "[height, width], two integers of at least 1")
    height, width = values
    return Size(height, width)


def resampling(config: Config, default: Image.Resampling) -> Image.Resampling:
    """Pillow's filter, by its number."""
    value = integer(config, "resample", default, minimum=0)
    if value not in set(Image.Resampling):
        raise wrong(config, "resample", "the number of a Pillow filter, such as 2 for bilinear")
    return Image.Resampling(value)


def present(size: Config) -> set[str]:
    """The names of the fields that are neither missing nor null."""
    return {name for name, value in size.items() if value is not None}


def wrong(config: Config, name: str, expected: str) -> CheckpointError:
    """The error that says what ``config[name]`` is and what was ``expected``."""
    return CheckpointError(
        f"preprocessor_config.json: {name} is {config.get(name)!r}, expected {expected}; "
        "correct the file or fetch it anew"
    )


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
