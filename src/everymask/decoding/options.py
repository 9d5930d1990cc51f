"""What a caller can choose about decoding, and the defaults of each task."""

from dataclasses import dataclass

from everymask.errors import OptionError
from everymask.segmentation import Task

# The published defaults, and with them which thresholds mean something for a task.
_DEFAULTS: dict[Task, dict[str, float]] = {
    "panoptic": {"threshold": 0.8, "mask_threshold": 0.5, "overlap_threshold": 0.8},
    "instance": {"threshold": 0.5, "mask_threshold": 0.5},
    "semantic": {},
    "depth": {},
}


@dataclass(frozen=True, slots=True)
class DecodingOptions:
    """How to read a set of queries. Make it with ``decoding_options``, which checks and fills in the defaults.

    ``threshold``: a query's or instance's score must be above it.
    ``mask_threshold``: a pixel belongs to a query's mask where the mask's probability is at least this.
    ``overlap_threshold``: panoptic queries that win a smaller share of their own mask are dropped.
    All three are in 0..1, and 0 where the task has no such threshold.
    ``explain``: list every query that was left out, with the reason.
    """

    task: Task
    threshold: float
    mask_threshold: float
    overlap_threshold: float
    explain: bool


def decoding_options(
    task: Task,
    *,
    threshold: float | None = None,
    mask_threshold: float | None = None,
    overlap_threshold: float | None = None,
    explain: bool = False,
) -> DecodingOptions:
    """The options of a call; None means the task's default.

    Raises OptionError for an unknown task, for a threshold outside 0..1 and for an option that could not change the
    task's result.
    """
    if task not in _DEFAULTS:
        raise OptionError(f"unknown task {task!r}: choose one of {', '.join(_DEFAULTS)}")
    defaults = _DEFAULTS[task]
    given = {"threshold": threshold, "mask_threshold": mask_threshold, "overlap_threshold": overlap_threshold}
    chosen = {}
    for name, value in given.items():
        if value is None:
            chosen[name] = defaults.get(name, 0.0)
        elif name not in defaults:
            raise _without_meaning(task, name)
        elif not isinstance(value, int | float) or not 0 <= value <= 1:
            raise OptionError(f"{name} is {value!r}: give a number from 0 to 1 (default {defaults[name]})")
        else:
            chosen[name] = float(value)
    if explain and not defaults:
        raise _without_meaning(task, "explain")
    return DecodingOptions(task, explain=explain, **chosen)


def _without_meaning(task: Task, name: str) -> OptionError:
    tasks = [other for other in _DEFAULTS if name in _DEFAULTS[other] or (name == "explain" and _DEFAULTS[other])]
    return OptionError(
        f"{name} has no meaning for the {task} task: leave it out, or choose the task {' or '.join(tasks)}"
    )
