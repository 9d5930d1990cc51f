"""Checking a data set: every file is looked at once, then the checks compare what they tell."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from everymask.datasets.dataset import DepthDataSet
from everymask.datasets.opening import open_dataset, recognise_formats
from everymask.datasets.storage import Storage
from everymask.doctor.classes import check_classes
from everymask.doctor.coco import annotation_files, examine_coco
from everymask.doctor.depth import examine_images
from everymask.doctor.duplicates import check_duplicates
from everymask.doctor.examination import Examined, Progress
from everymask.doctor.files import check_partners, check_readable, check_sizes
from everymask.doctor.findings import Finding, Report, finding, in_order
from everymask.doctor.index_maps import examine_index_maps
from everymask.doctor.instances import instance_rule
from everymask.doctor.layouts import DEPTH_ALONE, LAYOUTS, has_depth_alone, list_entries, read_convention
from everymask.doctor.listing import Listing
from everymask.errors import DataError, ImageError


def _nothing(done: int, total: int) -> None:
    """Progress that nobody watches."""


def check(
    location: str | Path,
    *,
    format: str | None = None,
    split: str | None = None,
    model: str | None = None,
    progress: Progress = _nothing,
) -> Report:
    """Looks for faults in annotated data.

    ``location`` and ``format`` as ``open_dataset`` takes them. ``split``: the only one to check; None checks all, and
    whether they share images. ``model``: a name as ``everymask.load`` takes it; its classes, and what it predicts for
    up to 8 images, are compared with the annotations. ``progress`` is told how many files were looked at, of how many.

    Raises DataError where there is no data, its format is not recognised or there is no such split; OptionError for an
    unknown format; and for a model what ``everymask.load`` raises.
    """
    storage = Storage.open(location)
    known = recognise_formats(storage) if format is None else (format,)
    if len(known) != 1 or known[0] not in (*LAYOUTS, "coco-panoptic", "coco-instances"):
        open_dataset(location, format=format, split=split)  # says what is wrong, better than could be said here
    name = known[0]
    if has_depth_alone(storage, name):
        examined = examine_images(storage, list_entries(storage, DEPTH_ALONE, split), progress)
    elif name in LAYOUTS:
        entries = list_entries(storage, LAYOUTS[name], split)
        try:
            convention = read_convention(storage, name)
        except DataError as error:
            return Report(storage.where(), name, {}, (_refusal("class-list", "list of classes", [str(error)]),))
        examined = examine_index_maps(storage, Listing(entries, convention), instance_rule(name), progress)
    else:
        files = annotation_files(storage, split, panoptic=name == "coco-panoptic")
        try:
            examined = examine_coco(
                storage, files, panoptic=name == "coco-panoptic", complete=split is None, progress=progress
            )
        except DataError as error:
            return Report(storage.where(), name, {}, (_refusal("bad-json", "JSON of annotations", [str(error)]),))
    findings = _shared(examined)
    if not any(each.severity == "error" for each in findings):
        findings += _refused(location, name, examined.splits)
    if model is not None and examined.labels.names:  # depth has no classes to compare
        findings += _against(model, location, name, examined)
    return Report(storage.where(), name, examined.splits, in_order(findings))


def _shared(examined: Examined) -> list[Finding]:
    """The findings of the format, and those that any format can have."""
    return [
        *check_readable(examined.problems),
        *check_partners(examined.entries),
        *check_sizes(examined.pairs, maps=examined.convention is not None),
        *examined.findings,
        *check_duplicates(examined.images),
        *check_classes(examined.labels, examined.pixels, examined.convention),
    ]


def _refused(location: str | Path, format: str, splits: Iterable[str]) -> list[Finding]:
    """What the reader does not take, in data in which nothing else is wrong."""
    refused: list[str] = []
    for split in splits:
        try:
            data = open_dataset(location, format=format, split=split or None)
        except DataError as error:
            refused.append(str(error))
            continue
        for index in range(len(data.names)):
            try:
                data.read_truth(index)
                if isinstance(data, DepthDataSet):
                    data.read_depth(index)
            except (DataError, ImageError) as error:
                refused.append(str(error))
    return [_refusal("refused", "annotations", refused)] if refused else []


def _refusal(kind: str, what: str, errors: Sequence[str]) -> Finding:
    """A finding from the errors of a reader, which end with their cure."""
    cure = errors[0].rpartition(": ")[2]
    return finding(kind, "error", f"the {what} cannot be read", errors, cure)


def _against(model: str, location: str | Path, format: str, examined: Examined) -> list[Finding]:
    from everymask.doctor.against_model import check_model
    from everymask.loading import load

    segmenter = load(model)
    data = []
    for split in examined.splits:
        try:
            data.append(open_dataset(location, format=format, split=split or None))
        except DataError:  # which other findings tell
            continue
    return check_model(segmenter, examined.labels, data, examined.convention)
