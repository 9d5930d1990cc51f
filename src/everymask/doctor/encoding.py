"""Label files whose pixels are no class indices at all: lossy, in colour, interpolated, of the wrong depth."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from everymask.doctor.facts import LabelFacts
from everymask.doctor.findings import Finding, finding
from everymask.doctor.fixes import rewrite
from everymask.doctor.listing import Convention, Entry
from everymask.labels import Color, LabelSet

Looked = Sequence[tuple[Entry, LabelFacts]]

LOSSY = ("JPEG", "MPO")
# CamVid's maps, drawn by hand, have up to 0.06; resized by factors of 0.3 to 4 with bilinear, bicubic or Lanczos
# filters, 0.57 and more.
INTERPOLATED = 0.3


def check_encoding(looked: Looked, convention: Convention) -> tuple[list[Finding], Looked]:
    """The findings, and the files whose values can be taken for class indices."""
    lossy = [entry for entry, facts in looked if facts.format in LOSSY]
    rest = [pair for pair in looked if pair[1].format not in LOSSY]
    coloured = [pair for pair in rest if pair[1].channels == 3]
    rest = [pair for pair in rest if pair[1].channels == 1]
    blurred = [entry for entry, facts in rest if facts.between > INTERPOLATED]
    rest = [pair for pair in rest if pair[1].between <= INTERPOLATED]

    findings = []
    if lossy:
        findings.append(
            finding(
                "jpeg-labels",
                "error",
                "labels are stored as JPEG, which changes class indices",
                (str(entry.labels) for entry in lossy),
                "export the labels again from their source as PNG: what JPEG changed cannot be brought back",
            )
        )
    if coloured:
        findings += _colours(coloured, convention)
    if blurred:
        findings.append(
            finding(
                "interpolated-labels",
                "error",
                "labels were resized with interpolation: their borders hold values between those of their two sides",
                (str(entry.labels) for entry in blurred),
                "resize the original labels again, with Image.resize(size, Image.Resampling.NEAREST)",
            )
        )
    grey = _colours_as_grey(rest, convention)
    if grey is not None:
        return [*findings, grey], []
    findings += _depth(rest, convention)
    return findings, [pair for pair in rest if not _scaled(pair[1])]


def _colours(coloured: Looked, convention: Convention) -> list[Finding]:
    """Files in colour: the same number three times, the colours of the classes, or something else."""
    repeated = [pair for pair in coloured if _same_channels(pair[1])]
    palette = [pair for pair in coloured if not _same_channels(pair[1]) and _in_palette(pair[1], convention.labels)]
    known = {entry for entry, _ in (*repeated, *palette)}
    other = [pair for pair in coloured if pair[0] not in known]
    findings = []
    if repeated:
        findings.append(
            finding(
                "labels-in-rgb",
                "error",
                "labels hold the class index three times, as red, green and blue",
                _files(repeated),
                rewrite("np.asarray(Image.open(f).convert('RGB'))[..., 0]", convention.pattern, _files(repeated)),
            )
        )
    if palette:
        findings.append(
            finding(
                "labels-in-colour",
                "error",
                "labels hold the colours of the classes instead of their indices",
                _files(palette),
                rewrite(_lookup(convention), convention.pattern, _files(palette)),
            )
        )
    if other:
        number = len(set().union(*(facts.histogram() for _, facts in other)))
        findings.append(
            finding(
                "labels-in-colour",
                "error",
                f"labels hold colours ({number} different ones) instead of class indices",
                _files(other),
                "save each colour as its class index, in a single-channel PNG; where the colours come from a palette "
                "PNG, save np.asarray(Image.open(file)) of it before any convert('RGB')",
            )
        )
    return findings


def _files(looked: Looked) -> list[str]:
    return [str(entry.labels) for entry, _ in looked]


def _same_channels(facts: LabelFacts) -> bool:
    return all(value % 0x10101 == 0 for value in facts.histogram())


def _in_palette(facts: LabelFacts, labels: LabelSet) -> bool:
    """Whether all colours are classes', but for black and white or one other that stands for "no class"."""
    colours = {_packed(color) for color in labels.colors if color is not None} | {0, 0xFFFFFF}
    found = set(facts.histogram())
    return len(found & colours) >= 2 and len(found - colours) <= 1


def _lookup(convention: Convention) -> str:
    """The expression that turns colours into stored values."""
    nothing = min(convention.ignore, key=lambda value: (value != 255, value), default=255)
    stored = {index: value for value, index in convention.indices.items()}
    colors = convention.labels.colors
    table = {_packed(color): stored[index] for index, color in enumerate(colors) if color and index in stored}
    pixels = "(np.asarray(Image.open(f).convert('RGB')).astype(int) @ [1, 256, 65536])"
    return f"np.vectorize(lambda v: {table}.get(v, {nothing}))({pixels})"


def _packed(color: Color) -> int:
    red, green, blue = color
    return red + 256 * green + 65536 * blue


def _colours_as_grey(looked: Looked, convention: Convention) -> Finding | None:
    """Class colours that went through Image.convert("L"): every value is the lightness of one.

    With many classes their lightnesses are nearly all values there are, so that this proves nothing: the chance that
    as many values are lightnesses by accident has to be small.
    """
    colours = {color for color in convention.labels.colors if color is not None} | {(0, 0, 0)}
    row = Image.fromarray(np.array([sorted(colours)], np.uint8))
    lightness = set(np.asarray(row.convert("L")).ravel().tolist())
    used: set[int] = set().union(*(facts.histogram() for _, facts in looked))
    unknown = used - set(convention.indices) - convention.ignore
    if len(unknown) < 2 or not used <= lightness or (len(lightness) / 256) ** len(used) > 0.01:
        return None
    return finding(
        "colours-as-grey",
        "error",
        "labels hold the lightness of the classes' colours: colour-coded labels were read or saved as grey",
        _files(looked),
        "export the labels again from the colour-coded files, each colour as its class index, not with convert('L')",
    )


def _depth(looked: Looked, convention: Convention) -> list[Finding]:
    findings = []
    scaled = [pair for pair in looked if _scaled(pair[1])]
    if scaled:
        findings.append(
            finding(
                "bit-depth",
                "error",
                "16-bit labels hold multiples of 257: 8-bit indices were scaled to 16 bits",
                _files(scaled),
                rewrite("np.asarray(Image.open(f)).astype(int) // 257", convention.pattern, _files(scaled)),
            )
        )
    narrow = [entry for entry, facts in looked if facts.mode in ("1", "L", "P")]
    if convention.highest > 255 and narrow and len(narrow) == len(looked):
        findings.append(
            finding(
                "bit-depth",
                "error",
                f"labels have 8 bits, but their classes go up to the value {convention.highest}: "
                "larger indices were cut off",
                (str(entry.labels) for entry in narrow),
                "export the labels again as 16-bit PNG: Image.fromarray(labels.astype('uint16')).save(file)",
            )
        )
    return findings


def _scaled(facts: LabelFacts) -> bool:
    values = facts.histogram()
    return facts.mode.startswith("I") and max(values, default=0) > 255 and all(each % 257 == 0 for each in values)
