"""Files and folders that are complete or not there: written aside in the same folder, then renamed."""

import os
import re
import secrets
import shutil
from pathlib import Path

from everymask.errors import OptionError

Content = bytes | dict[str, bytes]  # of a file, or of the files of a folder by name

# What `masks` names the files of its folder: a folder that holds others is not ours to replace.
OWN_FILE = re.compile(r"\d{3,}-.*\.png")


def ready_folder(folder: Path) -> Path:
    """Makes ``folder`` and its parents where missing and returns it. Raises OptionError when that cannot be done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error
    return folder


def write(path: Path, content: Content) -> Path:
    """Writes a file, or a folder of files, at ``path``, replacing what an earlier call wrote there. Returns ``path``.

    Whenever this fails, ``path`` is as it was before. Raises OptionError when the disk refuses, or when a folder to be
    replaced holds files of someone else.
    """
    aside = path.parent / f".{secrets.token_hex(8)}.part"
    try:
        if isinstance(content, bytes):
            aside.write_bytes(content)
            os.replace(aside, path)
        else:
            aside.mkdir()
            for name, data in content.items():
                (aside / name).write_bytes(data)
            _replace_folder(aside, path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        if aside.is_dir():
            shutil.rmtree(aside)
        else:
            aside.unlink(missing_ok=True)
    return path


def _replace_folder(source: Path, target: Path) -> None:
    """Renames ``source`` to ``target``. A folder that is there has to go first: no rename replaces one with files."""
    if target.is_dir():
        strangers = sorted(entry.name for entry in target.iterdir() if not OWN_FILE.fullmatch(entry.name))
        if strangers:
            raise OptionError(
                f"{target} holds files that are no masks ({', '.join(strangers[:3])}), so it is not replaced; "
                "move them away or choose another stem or folder"
            )
        former = target.parent / f".{secrets.token_hex(8)}.part"
        os.replace(target, former)
        try:
            os.replace(source, target)
        except OSError:
            os.replace(former, target)
            raise
        shutil.rmtree(former)
    else:
        os.replace(source, target)


def _unwritable(path: Path, error: OSError) -> OptionError:
    reason = error.strerror or str(error)
    return OptionError(f"cannot write {path}: {reason}; choose a folder that can be written and has space left")
