"""Files: missing, empty, damaged, and pictures whose sizes do not fit."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from everymask.doctor.facts import EMPTY, ImageFacts
from everymask.doctor.findings import Finding, finding
from everymask.doctor.fixes import MOST_FILES, rewrite
from everymask.doctor.listing import Entry
from everymask.geometry import Size

_UPRIGHT = {
    5: "np.asarray(Image.open(f)).T",
    6: "np.rot90(np.asarray(Image.open(f)), -1)",
    7: "np.rot90(np.asarray(Image.open(f)), 2).T",
    8: "np.rot90(np.asarray(Image.open(f)))",
}
"""For EXIF orientations that exchange width and height: a label file upright."""


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and the size of its labels; None where a file is not there or cannot be read."""

    entry: Entry
    image: ImageFacts | None
    labels_size: Size | None


def check_partners(entries: Sequence[Entry]) -> list[Finding]:
    """Images without labels, and the reverse."""
    findings = []
    without = [str(entry.image) for entry in entries if entry.image and not entry.labels]
    if without:
        findings.append(
            finding(
                "image-without-labels",
                "error",
                "images have no labels",
                without,
                "add labels of the same name up to the suffix, or remove these images: rm " + " ".join(without[:3]),
            )
        )
    without = [str(entry.labels) for entry in entries if entry.labels and not entry.image]
    if without:
        findings.append(
            finding(
                "labels-without-image",
                "error",
                "labels have no image",
                without,
                "add images of the same name up to the suffix, or remove these labels: rm " + " ".join(without[:3]),
            )
        )
    missing = [f"{entry.split}: {entry.name}" for entry in entries if not entry.image and not entry.labels]
    if missing:
        findings.append(
            finding(
                "listed-file-missing",
                "error",
                "the list of a split names images of which neither image nor labels are there",
                missing,
                "add the files, or take the names off the list",
            )
        )
    return findings


def check_readable(problems: Sequence[tuple[str, str]]) -> list[Finding]:
    """Findings about files that cannot be read, given by their names and what is wrong with them."""
    findings = []
    empty = [name for name, problem in problems if problem == EMPTY]
    if empty:
        findings.append(
            finding("empty-file", "error", "files have no content", empty, "get fresh copies: " + " ".join(empty[:3]))
        )
    damaged = [f"{name}: {problem}" for name, problem in problems if problem != EMPTY]
    if damaged:
        findings.append(
            finding(
                "damaged-file",
                "error",
                "files are truncated, damaged or no images",
                damaged,
                "get fresh copies, or remove them together with their partners",
            )
        )
    return findings


def check_sizes(pairs: Sequence[Pair], *, maps: bool) -> list[Finding]:
    """Labels of another size than their image, and images that EXIF turns without their labels.

    ``maps``: labels are pictures of class indices, which can be turned; otherwise JSON goes with them.
    """
    unturned: list[tuple[str, Pair]] = []
    resized: list[str] = []
    other: list[str] = []
    undecided: list[str] = []
    for pair in pairs:
        image, labels = pair.image, pair.labels_size
        if image is None or labels is None:
            continue
        name = f"{pair.entry.labels or pair.entry.name}: labels {_text(labels)}, image {_text(image.size)}"
        if labels == image.size:
            if image.orientation in (2, 3, 4):
                undecided.append(f"{pair.entry.image}: orientation {image.orientation}")
        elif image.orientation in _UPRIGHT and labels == image.stored:
            unturned.append((name, pair))
        elif _same_shape(labels, image.size):
            resized.append(name)
        else:
            other.append(name)
    findings = []
    if unturned:
        findings.append(
            finding(
                "exif-rotation",
                "error",
                "images carry an EXIF orientation that turns them upright, and their labels were not turned",
                (name for name, _ in unturned),
                _turn([pair for _, pair in unturned]) if maps else _drop_tag([pair for _, pair in unturned]),
            )
        )
    if resized:
        findings.append(
            finding(
                "size-mismatch",
                "error",
                "labels and images have the same shape but not the same size",
                resized,
                "resize the labels to their image: labels.resize(image.size, Image.Resampling.NEAREST)",
            )
        )
    if other:
        findings.append(
            finding(
                "size-mismatch",
                "error",
                "labels and images differ in size and shape: they are cropped, turned, or not of one picture",
                other,
                "cut or turn the labels as the image was, or find the labels that belong to it",
            )
        )
    if undecided:
        findings.append(
            finding(
                "exif-orientation",
                "note",
                "images carry an EXIF orientation; their sizes do not tell whether their labels were turned, too",
                undecided,
                "look at one of them: everymask evaluate with --save-worst draws images with their labels",
            )
        )
    return findings


def _text(size: Size) -> str:
    return f"{size.width} x {size.height}"


def _same_shape(one: Size, other: Size) -> bool:
    """Whether one is the other resized, up to rounding to whole pixels."""
    scale = one.height / other.height
    return abs(other.width * scale - one.width) <= max(1.0, scale)


def _turn(pairs: Sequence[Pair]) -> str:
    """How to turn label files as EXIF turns their images."""
    commands = []
    for orientation, expression in _UPRIGHT.items():
        only = [str(pair.entry.labels) for pair in pairs if pair.image and pair.image.orientation == orientation]
        if only:
            commands.append(rewrite(expression, only=only))
    return "; ".join(commands)


def _drop_tag(pairs: Sequence[Pair]) -> str:
    """How to leave images as they are stored, where annotations fit that."""
    files = shlex.join(str(pair.entry.image) for pair in pairs[:MOST_FILES])
    return f"exiftool -overwrite_original -Orientation= {files}"
