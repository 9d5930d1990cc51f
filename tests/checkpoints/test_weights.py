"""Reading tensors: every format, and nothing but tensors."""

import json
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file
from torch import Tensor

from everymask.checkpoints.weights import read_weights
from everymask.errors import CheckpointError

TENSORS = {
    "a.weight": torch.arange(6.0).reshape(2, 3),
    "b.half": torch.tensor([0.5, -2.0], dtype=torch.float16),
    "c.bfloat16": torch.tensor([[1.5]], dtype=torch.bfloat16),
    "d.count": torch.tensor(7),
}


def assert_equal(read: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert read.keys() == expected.keys()
    for key, tensor in expected.items():
        assert read[key].dtype == tensor.dtype
        assert torch.equal(read[key], tensor)


def write_shards(folder: Path, kind: str, **changes: str) -> None:
    """Two shards and their index; ``changes`` to the index's map are by key, with _ for the dot."""
    keys = list(TENSORS)
    shards = {f"part-1.{kind}": keys[:2], f"part-2.{kind}": keys[2:]}
    for name, part in shards.items():
        content = {key: TENSORS[key] for key in part}
        save_file(content, folder / name) if kind == "safetensors" else torch.save(content, folder / name)
    weight_map = {key: name for name, part in shards.items() for key in part}
    weight_map |= {key.replace("_", "."): name for key, name in changes.items()}
    stem = "model" if kind == "safetensors" else "pytorch_model"
    (folder / f"{stem}.{kind}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def test_one_safetensors_file(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors")
    assert_equal(read_weights(tmp_path), TENSORS)


@pytest.mark.parametrize("zipped", [True, False])
def test_one_pickle_of_either_age(tmp_path: Path, zipped: bool) -> None:
    torch.save(OrderedDict(TENSORS), tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    assert_equal(read_weights(tmp_path), TENSORS)


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_shards(tmp_path: Path, kind: str) -> None:
    write_shards(tmp_path, kind)
    assert_equal(read_weights(tmp_path), TENSORS)


def test_safetensors_come_before_pickles_and_one_file_before_shards(tmp_path: Path) -> None:
    write_shards(tmp_path, "bin")
    expected = {"which": torch.zeros(1)}
    torch.save(expected, tmp_path / "pytorch_model.bin")
    assert_equal(read_weights(tmp_path), expected)
    write_shards(tmp_path, "safetensors")
    assert_equal(read_weights(tmp_path), TENSORS)
    save_file(expected, tmp_path / "model.safetensors")
    assert_equal(read_weights(tmp_path), expected)


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
@pytest.mark.parametrize(
    "shard", ["../part-1.{}", "/part-1.{}", "sub/part-1.{}", "..\\part-1.{}", "part-1.{}\0", "x.py", ""]
)
def test_shards_outside_the_folder_are_refused(tmp_path: Path, kind: str, shard: str) -> None:
    inside = tmp_path / "inside"
    for folder in (tmp_path, inside, inside / "sub"):
        folder.mkdir(exist_ok=True)
        write_shards(folder, kind)
    write_shards(inside, kind, a_weight=shard.format(kind))
    with pytest.raises(CheckpointError, match="names the shard"):
        read_weights(inside)


def test_indices_that_promise_too_much(tmp_path: Path) -> None:
    write_shards(tmp_path, "safetensors", z_missing="part-1.safetensors")
    with pytest.raises(CheckpointError, match=r"1 keys are not in the shards .*: z\.missing; download again"):
        read_weights(tmp_path)
    (tmp_path / "part-1.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"part-1\.safetensors is missing"):
        read_weights(tmp_path)
    for content in ("{}", '{"weight_map": {}}', '{"weight_map": []}', '{"weight_map": {"a": 3}}', "[]", "{"):
        (tmp_path / "model.safetensors.index.json").write_text(content)
        with pytest.raises(CheckpointError):
            read_weights(tmp_path)


class Trap:
    """Pickles to a call that makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("how", ["pickle", "torch", "old torch", "beside tensors"])
def test_nothing_in_a_pickle_is_executed(tmp_path: Path, how: str) -> None:
    trap, path = tmp_path / "sprung", tmp_path / "pytorch_model.bin"
    if how == "pickle":
        path.write_bytes(pickle.dumps(Trap(trap), protocol=2))
    elif how == "beside tensors":
        torch.save({**TENSORS, "z": Trap(trap)}, path)
    else:
        torch.save(Trap(trap), path, _use_new_zipfile_serialization=how == "torch")
    with pytest.raises(CheckpointError, match="Nothing in a checkpoint is executed"):
        read_weights(tmp_path)
    assert not trap.exists()
    torch.load(path, weights_only=False) if how != "pickle" else pickle.loads(path.read_bytes())
    assert trap.exists(), "the trap does not work, so this test proves nothing"


@pytest.mark.parametrize(
    "content", [[1.0], {"state_dict": dict(TENSORS)}, {1: torch.zeros(1)}, torch.zeros(2), {"a": 1}]
)
def test_pickles_of_other_things_are_no_state_dict(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="not a plain state dict"):
        read_weights(tmp_path)


def test_folders_without_weights(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no weights: none of model\.safetensors, "):
        read_weights(tmp_path)
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(CheckpointError, match="cannot be read: Is a directory"):
        read_weights(tmp_path)


def test_a_git_lfs_pointer_is_recognised(tmp_path: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"
    (tmp_path / "model.safetensors").write_text(pointer)
    with pytest.raises(CheckpointError, match="git lfs pull"):
        read_weights(tmp_path)


GOOD_SAFETENSORS = save(TENSORS)


@pytest.fixture(scope="module")
def good_pickle(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("good") / "x.bin"
    torch.save(TENSORS, path)
    return path.read_bytes()


@settings(derandomize=True, deadline=None, max_examples=60)
@given(data=st.data(), kind=st.sampled_from(["safetensors", "bin"]))
def test_a_truncated_file_is_a_checkpoint_error(
    tmp_path_factory: pytest.TempPathFactory, good_pickle: bytes, data: st.DataObject, kind: str
) -> None:
    good = GOOD_SAFETENSORS if kind == "safetensors" else good_pickle
    folder = tmp_path_factory.mktemp("cut")
    name = "model.safetensors" if kind == "safetensors" else "pytorch_model.bin"
    (folder / name).write_bytes(good[: data.draw(st.integers(0, len(good) - 1))])
    with pytest.raises(CheckpointError, match="damaged"):
        read_weights(folder)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(data=st.data(), kind=st.sampled_from(["safetensors", "bin"]))
def test_a_changed_byte_gives_tensors_or_a_checkpoint_error(
    tmp_path_factory: pytest.TempPathFactory, good_pickle: bytes, data: st.DataObject, kind: str
) -> None:
    content = bytearray(GOOD_SAFETENSORS if kind == "safetensors" else good_pickle)
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("flip")
    (folder / ("model.safetensors" if kind == "safetensors" else "pytorch_model.bin")).write_bytes(content)
    try:
        read = read_weights(folder)
    except CheckpointError:
        return
    assert all(isinstance(tensor, Tensor) for tensor in read.values())
