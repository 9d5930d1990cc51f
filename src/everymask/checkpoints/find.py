"""From a name to a folder: a bundled model, a local folder, or a repository of the Hub."""

import os.path
import re
from pathlib import Path

from everymask.checkpoints import hub, modelscope
from everymask.errors import CheckpointError, OptionError

MODELSCOPE = "modelscope:"
BUNDLED = Path(__file__).parent.parent / "bundled"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def bundled_names() -> tuple[str, ...]:
    """The models that come with everymask, sorted."""
    return tuple(sorted(each.parent.name for each in BUNDLED.glob("*/config.json")))


def find(
    name: str | Path,
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | Path | None = None,
) -> Path:
    """The folder of a checkpoint; a Hub id is downloaded if need be (see ``hub.download`` for the three options).

    A str that is a bundled name means the bundled model (write "./street" for a folder of that name), one that exists
    as a folder the folder, one of the form owner/name a repository of the Hub, and modelscope:owner/name one of
    ModelScope. A Path is always a folder.
    Raises CheckpointError if nothing of that name exists, OptionError if ``revision`` is given with anything that has
    no revisions, and MissingExtraError where ModelScope's package is needed and missing.
    """
    if isinstance(name, str) and name in bundled_names():
        _refuse_revision(revision, "a bundled model")
        return BUNDLED / name
    # os.path answers False where Path raises: no such user, a name that is too long.
    folder = os.path.expanduser(name)
    if os.path.isdir(folder):
        _refuse_revision(revision, "a local folder")
        return Path(folder)
    if os.path.exists(folder):
        raise CheckpointError(f"{name} is a file; give the folder it lies in, which must hold config.json, too")
    if isinstance(name, str) and HUB_ID.fullmatch(name):
        return hub.download(name, revision=revision, token=token, cache_dir=cache_dir)
    if isinstance(name, str) and name.startswith(MODELSCOPE) and HUB_ID.fullmatch(name.removeprefix(MODELSCOPE)):
        repository = name.removeprefix(MODELSCOPE)
        return modelscope.download(repository, revision=revision, token=token, cache_dir=cache_dir)
    raise CheckpointError(
        f'"{name}" is neither an existing folder nor a bundled model ({", ".join(bundled_names()) or "none here"}) '
        "nor a Hub id of the form owner/name, nor modelscope:owner/name"
    )


def _refuse_revision(revision: str | None, what: str) -> None:
    if revision is not None:
        raise OptionError(
            f"revision={revision!r} has no meaning for {what}; only repositories of the Hub have revisions"
        )
