"""How the depth formats say what their numbers mean."""

from pathlib import Path
from typing import Any

from everymask.errors import DataError
from everymask.segmentation import DEPTH_UNITS, DepthKind


def describe_kind(kind: DepthKind) -> dict[str, str | None]:
    """{"kind": "metric", "unit": "m"} or {"kind": "relative", "unit": None}."""
    return {"kind": kind, "unit": DEPTH_UNITS[kind]}


def parse_kind(kind: Any) -> DepthKind:
    """The kind that was written. Raises ValueError for anything else."""
    for known in DEPTH_UNITS:
        if kind == known:
            return known
    raise ValueError(f"its kind is {kind!r}, not {' or '.join(DEPTH_UNITS)}")


def read_content(path: str | Path, what: str) -> bytes:
    """The bytes of a file that should be a depth ``what``. Raises DataError where it cannot be read."""
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot read {path} as a depth {what}: {error!r}; save it again as depth-{what.lower()}"
        ) from error
