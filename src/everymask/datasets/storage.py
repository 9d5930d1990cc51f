"""The files of a data set, wherever they lie."""

import os
import posixpath
import re
from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path

from everymask.datasets.sources import ARCHIVES, Archive, Folder, Remote, Source
from everymask.errors import DataError

_LITTER = ("__MACOSX", "Thumbs.db", "desktop.ini")
"""What operating systems leave behind, beside what begins with a dot."""


@dataclass(frozen=True, slots=True)
class Storage:
    """Files to be read by name: of a folder, of a zip or tar file that stays packed, or behind an fsspec URL.

    ``location``: what was opened. ``names``: of all files, sorted, with "/" between their parts, relative to ``root``.
    Hidden files are left out, and where everything lies in one folder ("VOCdevkit/VOC2012/..."), ``root`` is that
    folder. The files are listed once. A storage can be sent to other processes and used from several threads.
    """

    location: str
    names: tuple[str, ...]
    root: str
    source: Source

    @classmethod
    def open(cls, location: str | Path) -> "Storage":
        """Opens a folder, an archive (.zip, .tar, .tar.gz, .tar.bz2, .tar.xz), or an fsspec URL of a folder or archive.

        A folder of an archive is opened by a URL such as ``zip://folder::https://host/data.zip``. Raises DataError
        where nothing is there or it cannot be listed, MissingExtraError where a kind of URL needs another package.
        """
        source, folder = _source(os.fspath(location))
        prefix = folder + "/" if folder else ""
        visible = [name for name in source.names() if name.startswith(prefix) and not _is_litter(name)]
        if not visible:
            raise DataError(f"{source.where(folder)} holds no files: check the location")
        root = prefix + _common_folder([name.removeprefix(prefix) for name in visible])
        return cls(os.fspath(location), tuple(sorted(name.removeprefix(root) for name in visible)), root, source)

    def read(self, name: str) -> bytes:
        """The content of the file of that name. Raises DataError where there is none or it cannot be read."""
        if name not in self:
            raise DataError(f"{self.where(name)} does not exist: check that the data set is complete")
        return self.source.read(self.root + name)

    def where(self, name: str = "") -> str:
        """A file or folder, or with "" all of it, as people would look for it: for messages."""
        return self.source.where((self.root + name).rstrip("/"))

    def below(self, folder: str) -> tuple[str, ...]:
        """The names of all files in a folder and its folders."""
        prefix = folder.rstrip("/") + "/"
        # "0" is the character after "/": all names with the prefix sort before it.
        return self.names[bisect_left(self.names, prefix) : bisect_left(self.names, prefix[:-1] + "0")]

    def folders(self, folder: str = "") -> tuple[str, ...]:
        """The folders directly in a folder, or with "" at the top, by their own names."""
        prefix = folder.rstrip("/") + "/" if folder else ""
        inner = (name[len(prefix) :] for name in (self.below(folder) if folder else self.names))
        return tuple(sorted({name.split("/", 1)[0] for name in inner if "/" in name}))

    def __contains__(self, name: str) -> bool:
        place = bisect_left(self.names, name)
        return place < len(self.names) and self.names[place] == name


def _source(location: str) -> tuple[Source, str]:
    """The source at a location, and the folder in it that is meant."""
    if "://" not in location and "::" not in location:
        return _local(location), ""
    inner, _, outer = location.partition("::")
    for scheme in ("zip", "tar"):
        if outer and inner.startswith(f"{scheme}://"):
            suffix = _archive_suffix(outer) if scheme == "tar" else ".zip"
            return Archive(outer, suffix or ".tar"), inner.removeprefix(f"{scheme}://").strip("/")
    if location.startswith("file://"):
        from fsspec.core import url_to_fs

        return _local(url_to_fs(location)[1]), ""
    suffix = _archive_suffix(location)
    return (Archive(location, suffix) if suffix else Remote(location)), ""


def _local(path: str) -> Source:
    if os.path.isdir(path):
        return Folder(path)
    if not os.path.exists(path):
        raise DataError(f"{path}: there is no such folder or file; check the path, taken from the working folder")
    suffix = _archive_suffix(path)
    if suffix is None:
        raise DataError(
            f"{path} is a file, but no archive: pass the folder that holds the data set, or a {', '.join(ARCHIVES)}"
        )
    return Archive(path, suffix)


def _archive_suffix(location: str) -> str | None:
    path = re.split("[?#]", location)[0] if location.startswith("http") else location  # without "?download=1"
    return next((suffix for suffix in ARCHIVES if path.lower().endswith(suffix)), None)


def _is_litter(name: str) -> bool:
    return any(part.startswith(".") or part in _LITTER for part in name.split("/"))


def _common_folder(names: list[str]) -> str:
    """The folder that holds all files, with its "/"; "" where several folders or files are at the top."""
    folders = [posixpath.dirname(name) for name in (min(names), max(names))]  # what these two share, all do
    common = posixpath.commonpath(folders)
    return common + "/" if common else ""
