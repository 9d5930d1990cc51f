"""Where everymask keeps what it can make again: compiled networks."""

import os
from contextlib import suppress
from pathlib import Path

_LIMIT = 8 * 2**30  # bytes of all files of one kind together


def cache_folder(kind: str) -> Path:
    """The folder for files of a ``kind``; it need not exist.

    $EVERYMASK_CACHE, else everymask in $XDG_CACHE_HOME, else ~/.cache/everymask.
    """
    chosen = os.environ.get("EVERYMASK_CACHE")
    base = Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "everymask"
    return base / kind


def private_folder(kind: str) -> Path:
    """``cache_folder(kind)``, made where it is missing, for files that will be executed.

    Raises PermissionError where others can write to it, and OSError where it cannot be made.
    """
    folder = cache_folder(kind)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o022):
        raise PermissionError(f"others can write to {folder}: what is there is not to be executed")
    return folder


def drop_oldest(folder: Path, limit: int = _LIMIT) -> None:
    """Deletes the files of ``folder`` that were used longest ago, until all of them have ``limit`` bytes at most.

    A file's modification time says when it was used last. Files that other processes delete meanwhile are no error;
    those that cannot be deleted, such as those in use on Windows, stay.
    """
    files = []
    for path in folder.iterdir():
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        files.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= limit:
            return
        with suppress(OSError):
            path.unlink(missing_ok=True)
            total -= size
