"""Reading the tensors of a checkpoint. Nothing in a checkpoint is ever executed."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from everymask.checkpoints.files import INDEX_SUFFIX, WEIGHTS, mmcv_weights, read_shard_index
from everymask.errors import CheckpointError

LFS_POINTER = b"version https://git-lfs"


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint by their published names, on the CPU, in the dtype they are stored in.

    Looks for model.safetensors, its shards, pytorch_model.bin, and its shards, in this order, and then for a file that
    mmcv saved. Where the format allows it the tensors are views of the file, which must stay as it is while they are in
    use.
    Raises CheckpointError if there are no weights, a file is damaged or missing, or a pickle holds more than tensors.
    """
    path = next((folder / name for name in WEIGHTS if (folder / name).exists()), None)
    if path is None and (path := mmcv_weights(folder)) is not None:
        return _read_file(path)
    if path is None:
        raise CheckpointError(f"{folder} has no weights: none of {', '.join(WEIGHTS)}; save or download it again")
    if not path.name.endswith(INDEX_SUFFIX):
        return _read_file(path)
    shard_of = read_shard_index(path)
    shards = {shard: _read_file(folder / shard) for shard in sorted(set(shard_of.values()))}
    lost = sorted(key for key, shard in shard_of.items() if key not in shards[shard])
    if lost:
        raise CheckpointError(
            f"{len(lost)} keys are not in the shards that {path} names for them: {', '.join(lost[:10])}; download again"
        )
    return {key: tensor for shard in shards.values() for key, tensor in shard.items()}


def _read_file(path: Path) -> dict[str, Tensor]:
    if not path.exists():
        raise CheckpointError(f"{path} is missing, though the index beside it names it; download the checkpoint again")
    try:
        with path.open("rb") as file:
            start = file.read(len(LFS_POINTER))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}; check the file and its permissions") from error
    if start == LFS_POINTER:
        raise CheckpointError(f"{path} is only a Git LFS pointer to the weights; run `git lfs pull` in its repository")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    content = _unpickle(path)
    return _state_dict(content if path.suffix == ".bin" else _unwrapped(content), path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    # A damaged header shows as SafetensorError, or as whatever torch says to an impossible dtype or size.
    except Exception as error:
        raise CheckpointError(f"{path} is damaged ({error}); download or save the checkpoint again") from error


def _unpickle(path: Path) -> object:
    try:
        content: object = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    # A damaged pickle can fail in any opcode with any exception; a forbidden one is an UnpicklingError.
    except Exception as error:
        raise CheckpointError(
            f"{path} is damaged or holds more than tensors ({type(error).__name__}). Nothing in a checkpoint is "
            "executed, so such a file is not read: download it again, or have its owner save it as model.safetensors"
        ) from error
    return content


def _unwrapped(content: object) -> object:
    """What mmcv saved, without what it puts around a state dict: other entries, and a prefix to every name."""
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if isinstance(content, Mapping) and all(str(key).startswith("module.") for key in content):
        content = {str(key).removeprefix("module."): value for key, value in content.items()}
    return content


def _state_dict(content: object, path: Path) -> dict[str, Tensor]:
    if not isinstance(content, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        raise CheckpointError(
            f"{path} is not a plain state dict (names and tensors); save it again with torch.save(network.state_dict())"
        )
    return dict(content)
