"""Loading from start to end."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_server import FakeHub
from safetensors.torch import load_file, save_file
from small_checkpoint import make_checkpoint

from everymask.checkpoints import Checkpoint, find, load_checkpoint
from everymask.checkpoints.layouts.mask2former import build
from everymask.errors import CheckpointError
from everymask.labels import label_set
from everymask.segmentation import TASKS
from parity import relative_error

CITYSCAPES = list(label_set("cityscapes-instance").names)
GOLDEN = [
    "transformers-4.57/mask2former_swin",
    "transformers-5.23/mask2former_swin",
    "transformers-4.57/mask2former_resnet",
]


def assert_same_weights(checkpoint: Checkpoint, published: dict[str, torch.Tensor]) -> None:
    content = json.loads((checkpoint.folder / "config.json").read_text())
    _, layout = build(content, len(checkpoint.labels))
    loaded = layout.to_published(checkpoint.network)
    assert loaded.keys() == published.keys()
    needed = layout.published_shapes(checkpoint.network)  # the file's other tensors are constants of the layout
    assert all(torch.equal(loaded[key], published[key].to(loaded[key].dtype)) for key in needed)


@pytest.mark.parametrize("family", GOLDEN)
@pytest.mark.parametrize("form", ["as it is", "shards", "bin", "sharded bin"])
def test_golden_checkpoints_give_the_published_numbers(shared: Path, tmp_path: Path, family: str, form: str) -> None:
    golden = shared / "golden" / family
    tensors = load_file(golden / "model.safetensors")
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for name in ("config.json", "preprocessor_config.json"):
        shutil.copy(golden / name, folder)
    stem, kind = ("pytorch_model", "bin") if "bin" in form else ("model", "safetensors")
    write: Any = torch.save if kind == "bin" else save_file
    if "shard" in form:
        keys = list(tensors)
        parts = {f"{stem}-{i}-of-3.{kind}": keys[i::3] for i in range(3)}
        weight_map = {key: name for name, part in parts.items() for key in part}
        (folder / f"{stem}.{kind}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    else:
        parts = {f"{stem}.{kind}": list(tensors)}
    for name, part in parts.items():
        write({key: tensors[key] for key in part}, folder / name)

    checkpoint = load_checkpoint(folder)
    assert not checkpoint.network.training
    expected = load_file(golden / "expected.safetensors")
    with torch.inference_mode():
        queries = checkpoint.network(expected["pixel_values"])
    assert relative_error(queries.class_logits, expected["class_logits"]) < 1e-4
    assert relative_error(queries.mask_logits, expected["mask_logits"]) < 1e-4
    assert checkpoint.labels.names == tuple(f"class {index}" for index in range(7))


def test_a_bundled_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = make_checkpoint(tmp_path / "street", list(label_set("camvid").names))
    monkeypatch.setattr(find, "BUNDLED", tmp_path)
    checkpoint = load_checkpoint("street")
    assert_same_weights(checkpoint, published)
    assert checkpoint.name == "street"
    assert checkpoint.folder == tmp_path / "street"
    assert checkpoint.labels == label_set("camvid")
    assert checkpoint.tasks == TASKS
    assert checkpoint.license == "CC BY-NC 4.0"
    assert checkpoint.preprocessing.geometry((480, 640)).resized == (64, 96)


def test_what_nothing_is_known_about(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, ["cat ", "dog"])
    checkpoint = load_checkpoint(str(tmp_path))
    assert checkpoint.name == str(tmp_path)
    assert checkpoint.labels.names == ("cat", "dog")
    assert checkpoint.labels.things == (True, True)
    assert checkpoint.labels.colors == (None, None)
    assert checkpoint.tasks == TASKS
    assert checkpoint.license is None


def test_the_checkpoints_own_word_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    palette = [[index, 0, 0] for index in range(8)]
    block = {"things": [0, 7], "palette": palette, "tasks": ["semantic", "instance"], "license": "CC0"}
    published_name = "facebook/mask2former-swin-tiny-cityscapes-instance"
    make_checkpoint(tmp_path / published_name, CITYSCAPES, everymask=block)
    monkeypatch.chdir(tmp_path)
    checkpoint = load_checkpoint(published_name)
    assert checkpoint.labels.things == (True, *[False] * 6, True)
    assert checkpoint.labels.colors == tuple((index, 0, 0) for index in range(8))
    assert checkpoint.tasks == ("instance", "semantic")
    assert checkpoint.license == "CC0"


def test_the_catalogue_knows_a_name_whatever_the_classes_are_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "facebook/mask2former-swin-tiny-cityscapes-instance"
    make_checkpoint(tmp_path / name, [f"class {index}" for index in range(8)])
    monkeypatch.chdir(tmp_path)
    checkpoint = load_checkpoint(name)
    assert checkpoint.tasks == ("instance",)
    assert checkpoint.labels.colors == label_set("cityscapes-instance").colors
    assert checkpoint.labels.names[3] == "class 3"


def test_classes_without_a_name_get_that_of_the_catalogued_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "facebook/mask2former-swin-tiny-cityscapes-instance"
    make_checkpoint(tmp_path / name, [f"LABEL_{index}" for index in range(8)])
    monkeypatch.chdir(tmp_path)
    assert load_checkpoint(name).labels == label_set("cityscapes-instance")
    # Without an entry nobody knows what the numbers stand for.
    assert load_checkpoint(tmp_path / name).labels.names[3] == "LABEL_3"


def test_the_origin_counts_only_with_its_own_classes(tmp_path: Path) -> None:
    origin = "facebook/mask2former-swin-tiny-cityscapes-instance"
    make_checkpoint(tmp_path / "copy", CITYSCAPES, _name_or_path=origin)
    make_checkpoint(tmp_path / "tuned", [*CITYSCAPES[:7], "scooter"], _name_or_path=origin)
    assert load_checkpoint(tmp_path / "copy").tasks == ("instance",)
    tuned = load_checkpoint(tmp_path / "tuned")
    assert tuned.tasks == TASKS
    assert tuned.labels.colors == (None,) * 8


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_files_become_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = make_checkpoint(tmp_path, ["a", "b"])
    half = {key: t.to(dtype) if t.is_floating_point() else t for key, t in tensors.items()}
    save_file(half, tmp_path / "model.safetensors")
    checkpoint = load_checkpoint(tmp_path)
    assert {parameter.dtype for parameter in checkpoint.network.parameters()} == {torch.float32}
    assert_same_weights(checkpoint, half)


def test_the_files_may_change_after_loading(tmp_path: Path) -> None:
    published = make_checkpoint(tmp_path, ["a"])
    checkpoint = load_checkpoint(tmp_path)
    path = tmp_path / "model.safetensors"
    with path.open("r+b") as file:  # in place: a mapping of the file would see it
        file.write(b"\0" * path.stat().st_size)
    assert_same_weights(checkpoint, published)


def test_loading_leaves_the_random_numbers_alone(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, ["a"])
    state = torch.get_rng_state()
    load_checkpoint(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)


def test_configs_that_do_not_fit(tmp_path: Path) -> None:
    tensors = make_checkpoint(tmp_path, ["a", "b"])
    config = json.loads((tmp_path / "config.json").read_text())

    def write(**changes: Any) -> None:
        (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))

    write(model_type="sam")
    with pytest.raises(CheckpointError, match=r'of model_type "sam"; supported are .*mask2former, '):
        load_checkpoint(tmp_path)
    write(id2label={"0": "a", "1": "b", "2": "c"})
    with pytest.raises(
        CheckpointError, match=r"2 of another shape: class_predictor\.weight \(3, 32\) instead of \(4, 32\)"
    ):
        load_checkpoint(tmp_path)
    write()
    save_file({key: t for key, t in tensors.items() if key != "class_predictor.bias"}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"1 missing: class_predictor\.bias\)"):
        load_checkpoint(tmp_path)
    save_file({**tensors, "head.bias": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"1 unexpected: head\.bias\)"):
        load_checkpoint(tmp_path)
    save_file({**tensors, "criterion.empty_weight": torch.zeros(3)}, tmp_path / "model.safetensors")
    assert_same_weights(load_checkpoint(tmp_path), tensors)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no preprocessor_config\.json; a checkpoint in the"):
        load_checkpoint(tmp_path)


SCRIPT = """
import sys
from everymask.checkpoints import load_checkpoint
checkpoint = load_checkpoint("facebook/mask2former-swin-tiny-cityscapes-instance", token="t", cache_dir=sys.argv[1])
assert checkpoint.name.startswith("facebook/"), checkpoint.name
assert checkpoint.tasks == ("instance",), checkpoint.tasks
assert checkpoint.labels.names[0] == "person", checkpoint.labels
print(checkpoint.folder)
"""


def test_from_the_hub(tmp_path: Path) -> None:
    source = tmp_path / "source"
    make_checkpoint(source, CITYSCAPES)
    with FakeHub() as hub:
        files = {path.name: path.read_bytes() for path in source.iterdir()}
        commit = hub.add("facebook/mask2former-swin-tiny-cityscapes-instance", files, token="t")
        for offline in ("0", "1"):
            done = subprocess.run(
                [sys.executable, "-c", SCRIPT, str(tmp_path / "cache")],
                env={**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": offline, "NO_PROXY": "127.0.0.1"},
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, done.stderr[-3000:]
            folder = Path(done.stdout.strip())
            assert folder.name == commit
            assert folder.is_relative_to(tmp_path / "cache")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
