"""Downloading a checkpoint from ModelScope, through its own package."""

from pathlib import Path

from everymask.checkpoints.files import CONFIG, MODELSCOPE_CONFIG, MODELSCOPE_WEIGHTS, PREPROCESSOR
from everymask.errors import CheckpointError, MissingExtraError

FILES = [CONFIG, PREPROCESSOR, MODELSCOPE_CONFIG, MODELSCOPE_WEIGHTS, "model*.safetensors*"]
"""What is downloaded; never the code that comes with a checkpoint there."""


def download(
    repository: str,
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | Path | None = None,
) -> Path:
    """The folder with the files of ``repository`` (owner/name), in ModelScope's cache or under ``cache_dir``.

    ``revision`` is a branch or tag (default: ModelScope's own), ``token`` an access token (default: the one of
    ``modelscope login``). Files that are there already are not downloaded again. Raises MissingExtraError without the
    package ``modelscope``, and CheckpointError for whatever goes wrong.
    """
    try:
        from modelscope.hub.snapshot_download import snapshot_download
    except ImportError as error:
        raise MissingExtraError(
            f"modelscope:{repository} is downloaded by ModelScope's package: pip install modelscope (or "
            "'everymask[modelscope]'), or download it otherwise and give the folder"
        ) from error
    given = {"revision": revision, "token": token, "cache_dir": cache_dir}
    options = {name: str(value) for name, value in given.items() if value is not None}
    try:
        return Path(snapshot_download(repository, allow_patterns=FILES, **options))
    # The package lets the errors of its layers through (HTTP, files, its own kinds); all mean the same here.
    except Exception as error:
        raise CheckpointError(
            f"{repository} could not be downloaded from ModelScope ({type(error).__name__}: {error}); check the name, "
            "the revision and the network, or give a local folder"
        ) from error
