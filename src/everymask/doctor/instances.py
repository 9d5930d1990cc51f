"""Pictures of instances beside pictures of classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from everymask.datasets import cityscapes
from everymask.doctor.facts import LabelFacts
from everymask.doctor.findings import Finding, finding
from everymask.doctor.listing import Entry
from everymask.labels import LabelSet, label_set


@dataclass(frozen=True, slots=True)
class InstanceRule:
    """A number is a class times ``divisor`` plus an instance. ``indices``: the class index of that class's number.

    ``first``: the smallest instance that stands for one thing among others.
    """

    divisor: int
    indices: Mapping[int, int]
    labels: LabelSet
    first: int


def instance_rule(format: str) -> InstanceRule | None:
    """The rule of a published layout; None where instances are stored otherwise, or not at all."""
    if format == "cityscapes":
        ids = {id: index for index, id in enumerate(cityscapes.IDS)}
        return InstanceRule(1000, ids, label_set("cityscapes"), 0)
    if format == "mapillary-vistas":
        labels = label_set("mapillary-vistas")
        return InstanceRule(256, {index: index for index in labels.classes}, labels, 1)
    return None


def check_instances(looked: Sequence[tuple[Entry, LabelFacts]], rule: InstanceRule) -> list[Finding]:
    """Findings about pictures of instances: too few bits for a class and an instance, instances of stuff."""
    narrow = [entry for entry, facts in looked if facts.mode in ("1", "L", "P")]
    findings = []
    if narrow:
        findings.append(
            finding(
                "bit-depth",
                "error",
                f"instances are the class times {rule.divisor} plus the instance, in 16 bits: files of 8 bits lost the "
                "classes",
                (str(entry.instances) for entry in narrow),
                "get the original files, or write them as 16 bits: Image.fromarray(ids.astype('uint16')).save(file)",
            )
        )
    stuff = []
    for entry, facts in looked:
        if facts.mode in ("1", "L", "P") or facts.channels != 1:
            continue
        for value in facts.histogram():
            number, instance = divmod(value, rule.divisor)
            index = rule.indices.get(number)
            if index is not None and instance >= rule.first and number and not rule.labels.things[index]:
                stuff.append(f"{entry.instances}: {rule.labels.names[index]} {instance}")
    if stuff:
        findings.append(stuff_instances(stuff, "make them one segment, or list the class among the things"))
    return findings


def stuff_instances(where: Sequence[str], fix: str) -> Finding:
    """The finding about classes of stuff that have several segments in one image."""
    return finding("stuff-instances", "warning", "stuff, which cannot be counted, has instances of its own", where, fix)
