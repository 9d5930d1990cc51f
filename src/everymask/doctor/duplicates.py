"""The same image twice: within a split, across splits, byte for byte or nearly."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from everymask.doctor.facts import ImageFacts
from everymask.doctor.findings import Finding, finding
from everymask.doctor.listing import Entry

Looked = Sequence[tuple[Entry, ImageFacts]]

BITS = 64
# Saved again as JPEG at half the size, photographs stay below these, as few frames of a standing camera do (CamVid).
MOST_BITS_APART = 3
MOST_GREY_APART = 1.0
# A thumbnail without contrast (night, fog, a blank page) looks like many others.
LEAST_CONTRAST = 8.0
# Pictures that share a quarter of their hash are compared one by one. More of them than this are no copies.
LARGEST_BUCKET = 2000


def check_duplicates(looked: Looked) -> list[Finding]:
    """Findings about images that are there more than once."""
    same: dict[bytes, list[Entry]] = defaultdict(list)
    for entry, facts in looked:
        same[facts.digest].append(entry)
    groups = [entries for entries in same.values() if len(entries) > 1]
    across = [entries for entries in groups if len({entry.split for entry in entries}) > 1]
    within = [entries for entries in groups if len({entry.split for entry in entries}) == 1]
    findings = []
    if across:
        findings.append(
            finding(
                "splits-share-images",
                "error",
                "the same image is in more than one split: figures on it say nothing about new images",
                (" = ".join(f"{entry.split}: {entry.image}" for entry in entries) for entries in across),
                _part(across),
            )
        )
    if within:
        findings.append(
            finding(
                "duplicate-images",
                "warning",
                "images are there more than once, byte for byte",
                (" = ".join(str(entry.image) for entry in entries) for entries in within),
                "keep one of each with its labels: " + _remove([entries[-1] for entries in within]),
            )
        )
    return [*findings, *_near(looked)]


def _part(groups: Sequence[Sequence[Entry]]) -> str:
    """How to keep each image in one split."""
    first = [_first_to_remove(entries) for entries in groups]
    if any(len({entry.image for entry in entries}) < len(entries) for entries in groups):  # one file, in several lists
        names = ", ".join(dict.fromkeys(entry.name for entry in first[:3])) + (", ..." if len(first) > 3 else "")
        return f"keep each in the list of one split, say take off that of {first[0].split!r}: {names}"
    return f"keep each in one split only, say remove from the split that is trained on: {_remove(first)}"


def _first_to_remove(entries: Sequence[Entry]) -> Entry:
    return next((entry for entry in entries if "train" in entry.split), entries[0])


def _remove(entries: Sequence[Entry]) -> str:
    files = [name for entry in entries[:3] for name in dict.fromkeys((entry.image, entry.labels)) if name]
    return "rm " + " ".join(files) + (" ..." if len(entries) > 3 else "")


def _near(looked: Looked) -> list[Finding]:
    if len(looked) < 2:
        return []
    thumbs = np.stack([facts.thumb for _, facts in looked]).astype(np.float32)  # (N, 16, 16)
    pairs = [
        (looked[one][0], looked[other][0])
        for one, other in near_pairs(thumbs)
        if looked[one][1].digest != looked[other][1].digest
    ]
    findings = []
    for across in (True, False):
        chosen = [(one, other) for one, other in pairs if (one.split != other.split) == across]
        if not chosen:
            continue
        findings.append(
            finding(
                "near-duplicates-across-splits" if across else "near-duplicates",
                "warning" if across else "note",
                "images of different splits look the same: copies of another size or quality, or frames of one scene"
                if across
                else "images look the same: copies of another size or quality, or frames of one scene",
                (f"{one.image} ~ {other.image}" for one, other in chosen),
                "look at them, and keep copies in one split only"
                if across
                else "look at them, and remove copies with their labels",
            )
        )
    return findings


def near_pairs(thumbs: NDArray[np.float32]) -> list[tuple[int, int]]:
    """The pairs of grey thumbnails (N, 16, 16), 0 to 255, that look the same.

    Candidates share 16 of 64 bits of their average hashes (which cells of an 8 x 8 grid are lighter than the mean):
    with at most three bits apart, one of the four groups of 16 has to be equal.
    """
    cells = thumbs.reshape(-1, 8, 2, 8, 2).mean(axis=(2, 4)).reshape(-1, BITS)  # (N, 64)
    bits = cells > cells.mean(axis=1, keepdims=True)
    bands = np.packbits(bits, axis=1).reshape(-1, 4, 2)  # (N, 4, 2) uint8
    flat = thumbs.reshape(len(thumbs), -1)
    contrast = flat.std(axis=1) >= LEAST_CONTRAST
    found: set[tuple[int, int]] = set()
    for one, other in _candidates(bands, contrast):
        if np.count_nonzero(bits[one] != bits[other]) <= MOST_BITS_APART:
            apart = float(abs(flat[one] - flat[other]).mean())
            if apart <= MOST_GREY_APART:
                found.add((one, other))
    return sorted(found)


def _candidates(bands: NDArray[np.uint8], contrast: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    for band in range(bands.shape[1]):
        buckets: dict[bytes, list[int]] = defaultdict(list)
        for index in np.flatnonzero(contrast).tolist():
            buckets[bands[index, band].tobytes()].append(index)
        for bucket in buckets.values():
            if len(bucket) <= LARGEST_BUCKET:
                yield from combinations(bucket, 2)
