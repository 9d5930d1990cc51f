"""Where the files of a data set can lie: a folder, an archive, a place that fsspec reaches.

A source lists its files and reads them by the names it listed, parts separated by "/". It may be used from several
threads and can be sent to other processes: what it holds open belongs to one process and is opened anew in another,
because forked processes share one position in a file.
"""

import os
import re
import shutil
import tarfile
import tempfile
import threading
import weakref
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from everymask.errors import DataError, MissingExtraError

COMPRESSIONS = {".tar.gz": "gzip", ".tgz": "gzip", ".tar.bz2": "bz2", ".tbz2": "bz2", ".tar.xz": "xz", ".txz": "xz"}
ARCHIVES = (".zip", ".tar", *COMPRESSIONS)


class Source(Protocol):
    """Files by name."""

    def names(self) -> list[str]:
        """The names of all files, in any order. Raises DataError."""

    def read(self, name: str) -> bytes:
        """The content of a listed file. Raises DataError."""

    def where(self, name: str) -> str:
        """A file, or with "" the whole, as messages call it."""


@dataclass(frozen=True)
class Folder:
    """A local folder, links followed."""

    path: str

    def names(self) -> list[str]:
        names: list[str] = []
        seen: set[str] = set()
        for folder, inner, files in os.walk(self.path, followlinks=True):
            real = os.path.realpath(folder)
            if real in seen:  # a link to a folder above it would be followed for ever
                inner.clear()
                continue
            seen.add(real)
            prefix = "" if folder == self.path else Path(os.path.relpath(folder, self.path)).as_posix() + "/"
            names += [prefix + file for file in files]
        return names

    def read(self, name: str) -> bytes:
        try:
            return Path(self.path, name).read_bytes()
        except OSError as error:
            raise DataError(f"{self.where(name)} cannot be read ({error.strerror}): check the file") from error

    def where(self, name: str) -> str:
        return str(Path(self.path, name))


@dataclass(frozen=True)
class Archive:
    """A zip or tar file, read without unpacking; ``target`` is a path or an fsspec URL.

    A compressed tar file has no order to jump in, so a temporary copy of it without the compression is kept while the
    object lives (in the folder that TMPDIR names).
    """

    target: str
    suffix: str
    _held: "_PerProcess" = field(default_factory=lambda: _PerProcess(), repr=False, compare=False)
    _copies: list[str] = field(default_factory=list, repr=False, compare=False)

    def names(self) -> list[str]:
        return list(self._open().members)

    def read(self, name: str) -> bytes:
        opened = self._open()
        try:
            return opened.read(name)
        except Exception as error:  # zlib.error, RuntimeError (a password), OSError, what a network raises ...
            raise DataError(
                f"{self.where(name)} cannot be read from the archive ({_text(error)}): test it with "
                f"{'unzip -t' if self.suffix == '.zip' else 'tar -tf'}, and fetch or pack it again"
            ) from error

    def where(self, name: str) -> str:
        return f"{_without_password(self.target)}/{name}".rstrip("/")

    def _open(self) -> "_OpenArchive":
        opened: _OpenArchive = self._held.get(self._open_anew)
        return opened

    def _open_anew(self) -> "_OpenArchive":
        import fsspec

        name = self.where("")
        try:
            if self.suffix in COMPRESSIONS:
                return _open_tar(open(self._plain_copy(), "rb"))  # stays open
            file = fsspec.open(self.target, "rb").open()
            return _open_zip(file) if self.suffix == ".zip" else _open_tar(file)
        except FileNotFoundError as error:
            raise DataError(f"{name}: there is no such file; check the location") from error
        except ImportError as error:
            raise _missing(name, error) from error
        except Exception as error:  # zipfile.BadZipFile, tarfile.ReadError, OSError, what a network raises ...
            raise DataError(
                f"{name} cannot be opened as a {self.suffix} archive ({_text(error)}): fetch or pack it again"
            ) from error

    def _plain_copy(self) -> str:
        """The path of the copy without compression, which the process that made it removes."""
        import fsspec

        for path in self._copies:
            if os.path.exists(path):
                return path
        packed = fsspec.open(self.target, "rb", compression=COMPRESSIONS[self.suffix])
        with packed as source, tempfile.NamedTemporaryFile(suffix=".tar", delete=False) as copy:
            weakref.finalize(self, _remove, copy.name, os.getpid())
            shutil.copyfileobj(source, copy, 1 << 20)
        self._copies[:] = [copy.name]
        return copy.name


@dataclass(frozen=True)
class Remote:
    """Whatever else an fsspec URL names, say a prefix of a bucket or a folder of the Hub (``hf://datasets/...``)."""

    url: str
    _held: "_PerProcess" = field(default_factory=lambda: _PerProcess(), repr=False, compare=False)

    def names(self) -> list[str]:
        files, root = self._open()
        try:
            found = files.find(root)
        except Exception as error:  # each file system has its own errors
            raise DataError(
                f"{self.where('')} cannot be listed ({_text(error)}): check the URL and the access"
            ) from error
        prefix = root.rstrip("/") + "/" if root else ""
        return [path.removeprefix(prefix) for path in found if path.startswith(prefix)]

    def read(self, name: str) -> bytes:
        files, root = self._open()
        try:
            content: bytes = files.cat_file(f"{root.rstrip('/')}/{name}" if root else name)
        except Exception as error:  # each file system has its own errors
            raise DataError(
                f"{self.where(name)} cannot be read ({_text(error)}): check the URL and the access"
            ) from error
        return content

    def where(self, name: str) -> str:
        return f"{_without_password(self.url).rstrip('/')}/{name}".rstrip("/")

    def _open(self) -> tuple[Any, str]:
        opened: tuple[Any, str] = self._held.get(self._open_anew)
        return opened

    def _open_anew(self) -> tuple[Any, str]:
        from fsspec.core import url_to_fs

        try:
            files, root = url_to_fs(self.url)
        except ImportError as error:
            raise _missing(self.where(""), error) from error
        except Exception as error:  # each file system has its own errors
            raise DataError(
                f"{self.where('')} cannot be opened ({_text(error)}): check the URL and the access"
            ) from error
        return files, root


class _PerProcess:
    """Something opened once in each process; not copied into others."""

    def __init__(self) -> None:
        self._opened: tuple[int, Any] | None = None

    def get(self, make: Callable[[], Any]) -> Any:
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), make())
        return self._opened[1]

    def __getstate__(self) -> dict[str, None]:
        return {"_opened": None}


@dataclass(frozen=True, slots=True)
class _OpenArchive:
    """An open archive: its files by their cleaned names, and how to read one."""

    members: dict[str, Any]
    open_member: Callable[[Any], Any]
    lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, name: str) -> bytes:
        with self.lock, self.open_member(self.members[name]) as file:
            content: bytes = file.read()
        return content


def _open_zip(file: Any) -> _OpenArchive:
    archive = zipfile.ZipFile(file)
    return _OpenArchive({_clean(each.filename): each for each in archive.infolist() if not each.is_dir()}, archive.open)


def _open_tar(file: Any) -> _OpenArchive:
    archive = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115  # stays open
    # Links are files of their own; extractfile follows them inside the archive.
    files = {_clean(each.name): each for each in archive if each.isfile() or each.islnk() or each.issym()}
    return _OpenArchive(files, archive.extractfile)


def _clean(name: str) -> str:
    """``./a//b`` as ``a/b``."""
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def _remove(path: str, owner: int) -> None:
    if os.getpid() == owner and os.path.exists(path):
        os.unlink(path)


def _missing(name: str, error: ImportError) -> MissingExtraError:
    cure = "pip install 'everymask[http]'" if re.search(r"(^|::)https?://", name) else str(error)
    return MissingExtraError(f"{name} needs a package that is not installed: {cure}")


def _text(error: Exception) -> str:
    return _without_password(str(error) or type(error).__name__)


def _without_password(location: str) -> str:
    return re.sub(r"(?<=://)[^/@]*@", "", location)
