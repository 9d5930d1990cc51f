"""What a loaded model is, in a few lines."""

from typing import TYPE_CHECKING

from everymask.devices import dtype_name
from everymask.preprocessing import FitOneSide, FixedSize, Preprocessing

if TYPE_CHECKING:
    from everymask.segmenter import Segmenter

_DEPTH = {"metric": "metric, in metres", "relative": "relative, an inverse depth without a unit: larger is nearer"}


def describe(model: "Segmenter") -> dict[str, str]:
    """The facts about a model by what they are about, for people: tasks, classes, input, engine, licence and more."""
    network = f"{type(model.network).__name__}, {sum(each.numel() for each in model.network.parameters()) / 1e6:.1f} M"
    facts = {"model": model.name, "tasks": ", ".join(model.tasks), "network": f"{network} parameters"}
    if model.description is not None:
        facts["note"] = model.description
    classes = [model.labels.names[index] for index in model.labels.classes]
    if classes:
        shown = ", ".join(classes[:6]) + (", ..." if len(classes) > 6 else "")
        facts["classes"] = f"{len(classes)}: {shown}"
    if model.depth_kind is not None:
        facts["depth"] = _DEPTH[model.depth_kind]
    facts["input"] = _input(model.preprocessing)
    engine = model.engine
    facts["engine"] = f"{engine.name} in {dtype_name(engine.dtype)} on {engine.device}"
    facts["licence"] = model.license or "not stated"
    return facts


def _input(preprocessing: Preprocessing) -> str:
    """How images come to the network's size."""
    rule = preprocessing.resize
    if rule is None:
        text = "images keep their size"
    elif isinstance(rule, FixedSize):
        text = f"stretched to {_pixels(*rule.size)}"
    elif isinstance(rule, FitOneSide):
        text = f"one side fits {_pixels(*rule.size)}"
    else:
        limit = "" if rule.longest is None else f", longer one at most {rule.longest}"
        text = f"shorter side {rule.shortest} pixels{limit}"
    divisor = preprocessing.size_divisor
    if rule is not None and divisor > 1:
        text += f", multiples of {divisor}"
    if preprocessing.pad_to is not None:
        text += f", padded to {_pixels(*preprocessing.pad_to)}"
    if preprocessing.pad_divisor > 1:
        text += f", padded to multiples of {preprocessing.pad_divisor}"
    tiling = preprocessing.tiling
    if tiling is not None:
        step = "overlapping evenly" if tiling.stride is None else f"every {_pixels(*tiling.stride)}"
        average = "smoothly" if tiling.smooth else "plainly"
        text += f"; windows of {_pixels(*tiling.window)} {step}, averaged {average}"
    return text


def _pixels(height: int, width: int) -> str:
    return f"{height} x {width} pixels"
