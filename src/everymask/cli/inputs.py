"""From what stands on the command line to images, and from images to the names of their results."""

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from everymask.errors import OptionError

_URL_SCHEMES = ("http:", "https:", "file:")
_IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif"}


@dataclass(frozen=True, slots=True)
class Inputs:
    """``sources``: paths and URLs, each once; ``missing``: for each argument that led to no image, the reason."""

    sources: tuple[str, ...]
    missing: tuple[str, ...]


def find_inputs(arguments: Sequence[str]) -> Inputs:
    """Expands files, folders (the image files directly inside, by name), globs (``**`` included) and URLs, in order.

    Raises OptionError where nothing at all is found.
    """
    sources: dict[str, None] = {}  # a set that keeps the order
    missing: list[str] = []
    for argument in arguments:
        path = Path(argument)
        if argument.lower().startswith(_URL_SCHEMES) or path.is_file():
            found = [argument]
        elif path.is_dir():
            found = [str(file) for file in sorted(path.iterdir()) if _is_image_file(file)]
        else:
            found = [file for file in sorted(glob.glob(argument, recursive=True)) if _is_image_file(Path(file))]
        if not found:
            missing.append(_why_nothing(argument, path))
        sources.update(dict.fromkeys(found))
    if not sources:
        raise OptionError(f"no input found: {'; '.join(missing)}")
    return Inputs(tuple(sources), tuple(missing))


def result_stems(sources: Sequence[str]) -> tuple[str, ...]:
    """A name for each source's results, no two alike, also where the file system ignores case.

    It is the file's name without suffix; where an earlier source has taken that, "-2", "-3" ... is appended.
    """
    taken: set[str] = set()
    stems: list[str] = []
    for source in sources:
        plain = _stem(source)
        stem, count = plain, 1
        while stem.casefold() in taken:
            count += 1
            stem = f"{plain}-{count}"
        taken.add(stem.casefold())
        stems.append(stem)
    return tuple(stems)


def _is_image_file(path: Path) -> bool:
    return path.suffix.lower() in _IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _why_nothing(argument: str, path: Path) -> str:
    if path.is_dir():
        return f"{argument} holds no image files (folders inside it are not searched: use '{argument}/**/*.jpg')"
    if glob.has_magic(argument):
        return f"{argument} matches no image file"
    return f"{argument} does not exist"


def _stem(source: str) -> str:
    if source.lower().startswith(_URL_SCHEMES):
        source = unquote(urlsplit(source).path).replace("\\", "/")
    return Path(source).stem.replace("\0", "").lstrip(".") or "image"
