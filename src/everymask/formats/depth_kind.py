"""How the depth formats say what their numbers mean."""

from typing import Any

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
