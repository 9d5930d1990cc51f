"""Downloading a checkpoint from the Hugging Face Hub: the files that are needed, and no others."""

import errno
from dataclasses import dataclass, replace
from pathlib import Path

from everymask.checkpoints.files import (
    CONFIG,
    INDEX_SUFFIX,
    MERGES,
    PREPROCESSOR,
    TOKENIZER,
    VOCABULARY,
    WEIGHTS,
    read_json,
    read_shard_index,
)
from everymask.errors import CheckpointError


def download(
    repository: str,
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | Path | None = None,
) -> Path:
    """The folder in the Hub's cache with config, preprocessor config and weights of ``repository`` (owner/name).

    With OneFormer, whose task is a text, come the files of the tokenizer that the repository has.
    ``revision`` is a branch, tag or commit (default: main); ``token`` an access token (default: HF_TOKEN or the one
    saved by ``hf auth login``); ``cache_dir`` the cache (default: the Hub's own, HF_HOME). HF_ENDPOINT and
    HF_HUB_OFFLINE hold as huggingface_hub reads them, when it is first imported.
    Files that are in the cache are not downloaded again; without a network they are used as they are.
    Raises CheckpointError, and nothing else, for whatever goes wrong.
    """
    repo = _Repository(repository, revision, token, cache_dir)
    config = repo.fetch(CONFIG)
    if config is None:
        raise CheckpointError(
            f"{repo} has no {CONFIG}: it is not a checkpoint in the transformers layout; choose another repository"
        )
    folder = config.parent
    # The folder is named after the commit that the revision meant: all other files must come from that commit, too.
    repo = replace(repo, revision=folder.name)
    repo.fetch(PREPROCESSOR)
    # Weights of this commit that are there already need no question to the Hub which other files there are.
    present = [name for name in WEIGHTS if (folder / name).exists()]
    if not present and read_json(config).get("model_type") == "oneformer":
        for name in (TOKENIZER, VOCABULARY, MERGES):
            repo.fetch(name)
    for name in present or WEIGHTS:
        path = repo.fetch(name)
        if path is None:
            continue
        if name.endswith(INDEX_SUFFIX):
            for shard in sorted(set(read_shard_index(path).values())):
                if repo.fetch(shard) is None:
                    raise CheckpointError(f"{repo} has no {shard}, which its {name} names; tell its owner")
        return folder
    raise CheckpointError(f"{repo} has none of {', '.join(WEIGHTS)}; everymask reads no other kind of weights")


@dataclass(frozen=True)
class _Repository:
    """A repository at a revision, and how it is reached."""

    name: str
    revision: str | None
    token: str | None
    cache_dir: str | Path | None

    def __str__(self) -> str:
        return self.name if self.revision is None else f"{self.name} (revision {self.revision})"

    def fetch(self, filename: str) -> Path | None:
        """The local path of a file, or None if the repository has no such file. Raises CheckpointError."""
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        try:
            return Path(
                hf_hub_download(self.name, filename, revision=self.revision, token=self.token, cache_dir=self.cache_dir)
            )
        except LocalEntryNotFoundError as error:  # a kind of EntryNotFoundError: not in the cache, and no answer
            raise CheckpointError(self._why(error.__cause__ or error, filename)) from error
        except EntryNotFoundError:
            return None
        # huggingface_hub lets the errors of its layers through (httpx, xet, the file system); all mean the same here.
        except Exception as error:
            raise CheckpointError(self._why(error, filename)) from error

    def _why(self, error: BaseException, filename: str) -> str:
        from huggingface_hub import constants
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            OfflineModeIsEnabled,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )

        hub = constants.ENDPOINT
        if isinstance(error, OfflineModeIsEnabled):
            return (
                f"{filename} of {self} is not in the cache and HF_HUB_OFFLINE is set; unset it, or load the model once "
                "with a network and the same cache_dir"
            )
        if isinstance(error, GatedRepoError):
            return (
                f"{self} is gated: accept its terms at {hub}/{self.name}, then pass token=... or run `hf auth login` "
                "with that account"
            )
        if isinstance(error, RepositoryNotFoundError):
            return (
                f"{hub} has no repository {self.name}, or it is private, and there is no such local folder; check the "
                "name, or pass token=... of an account that may read it"
            )
        if isinstance(error, RevisionNotFoundError):
            return f"{self.name} has no revision {self.revision!r} on {hub}; name a branch, a tag or a commit it has"
        if isinstance(error, HfHubHTTPError):
            status = error.response.status_code
            if status in (401, 403):
                return (
                    f"{hub} refused {filename} of {self} (HTTP {status}): the token is wrong, expired or may not read "
                    "this repository; pass token=... of an account that may"
                )
            return f"{hub} answered HTTP {status} for {filename} of {self}; try again later"
        if isinstance(error, OSError) and (error.filename is not None or error.errno == errno.ENOSPC):
            return (
                f"{filename} of {self} cannot be written to {error.filename or 'the cache'}: {error.strerror}; free "
                "some space, or give a folder that can be written as cache_dir=..."
            )
        return (
            f"{filename} of {self} could not be downloaded from {hub} ({type(error).__name__}: {error}); check the "
            "network, the proxy settings and HF_ENDPOINT, or give a local folder"
        )
