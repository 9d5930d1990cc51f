"""Downloads, from a Hub on 127.0.0.1. huggingface_hub reads its environment on import, so each case is a process."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_server import FakeHub

CONFIG = {"config.json": b"{}", "preprocessor_config.json": b'{"a": 1}'}
INDEX = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}).encode()
BIN_INDEX = INDEX.replace(b".safetensors", b".bin")

# Waiting between retries is huggingface_hub's; here nothing gets better by waiting.
SCRIPT = """
import json, sys, time
time.sleep = lambda seconds: None
from everymask.checkpoints.hub import download
from everymask.errors import CheckpointError
results = []
for name, options in json.loads(sys.argv[1]):
    try:
        folder = download(name, **options)
        results.append({"folder": str(folder), "files": sorted(each.name for each in folder.iterdir())})
    except CheckpointError as error:
        results.append({"error": str(error)})
assert "torch" not in sys.modules
print(json.dumps(results))
"""


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as hub:
        yield hub


def download(hub_url: str, home: Path, *calls: tuple[str, dict[str, str]], **environment: str) -> list[dict[str, Any]]:
    """What ``download`` gives or raises for each call, in one new process."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING", "TRANSF"))}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(calls)],
        env={**inherited, "HF_ENDPOINT": hub_url, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results: list[dict[str, Any]] = json.loads(done.stdout)
    return results


def test_only_the_needed_files_of_each_kind_of_repository_are_downloaded(hub: FakeHub, tmp_path: Path) -> None:
    clutter = {"README.md": b"r", "tf_model.h5": b"t", "training_args.bin": b"p", "modeling.py": b"raise"}
    st, st_index, bin_, bin_index = (
        {"model.safetensors": b"s"},
        {"model.safetensors.index.json": INDEX, "model-1.safetensors": b"1", "model-2.safetensors": b"2"},
        {"pytorch_model.bin": b"b"},
        {"pytorch_model.bin.index.json": BIN_INDEX, "model-1.bin": b"3", "model-2.bin": b"4"},
    )
    kinds = {
        "a/everything": (st, {**st, **st_index, **bin_, **bin_index}),
        "a/sharded": (st_index, {**st_index, **bin_, **bin_index}),
        "a/bin": (bin_, {**bin_, **bin_index}),
        "a/sharded-bin": (bin_index, bin_index),
    }
    for name, (_, weights) in kinds.items():
        hub.add(name, {**CONFIG, **weights, **clutter})
    results = download(hub.url, tmp_path, *((name, {}) for name in kinds))
    for (needed, _), result in zip(kinds.values(), results, strict=True):
        assert result["files"] == sorted({**CONFIG, **needed})
    assert sorted(hub.downloaded()) == sorted(file for needed, _ in kinds.values() for file in {**CONFIG, **needed})


def test_a_network_that_is_told_its_task_comes_with_its_tokenizer(hub: FakeHub, tmp_path: Path) -> None:
    config = {**CONFIG, "config.json": b'{"model_type": "oneformer"}', "pytorch_model.bin": b"b"}
    tokenizer = {"vocab.json": b"v", "merges.txt": b"m"}
    clutter = {"special_tokens_map.json": b"s", "tokenizer_config.json": b"t"}
    hub.add("a/with", {**config, **tokenizer, **clutter})
    hub.add("a/without", config)
    hub.add("a/other", {**CONFIG, **tokenizer, "pytorch_model.bin": b"b"})
    names = ("a/with", "a/without", "a/other")
    results = download(hub.url, tmp_path, *((name, {}) for name in names))
    wanted = [{**config, **tokenizer}, config, {**CONFIG, "pytorch_model.bin": b"b"}]
    assert [result["files"] for result in results] == [sorted(files) for files in wanted]
    again = download(hub.url, tmp_path, *((name, {}) for name in names), HF_HUB_OFFLINE="1")
    assert again == results


def test_a_revision_is_a_branch_a_tag_or_a_commit(hub: FakeHub, tmp_path: Path) -> None:
    for revision in ("main", "refs/pr/10", "v1"):
        commit = hub.add("a/b", {**CONFIG, "model.safetensors": revision.encode()}, revision)
    calls = [("a/b", {"revision": revision}) for revision in ("refs/pr/10", "v1", commit, "v2")]
    *found, missing = download(hub.url, tmp_path, ("a/b", {}), *calls)
    contents = [(Path(each["folder"]) / "model.safetensors").read_bytes() for each in found]
    assert contents == [b"main", b"refs/pr/10", b"v1", b"v1"]
    assert "a/b has no revision 'v2'" in missing["error"]


def test_all_files_are_of_the_commit_the_config_came_from(hub: FakeHub, tmp_path: Path) -> None:
    commit = hub.add("a/b", {**CONFIG, "model.safetensors": b"s"})
    download(hub.url, tmp_path, ("a/b", {}))
    assert {(file, revision) for _, _, revision, file in hub.requests} == {
        ("config.json", "main"),
        ("preprocessor_config.json", commit),
        ("model.safetensors", commit),
    }


def test_a_private_repository_needs_its_token(hub: FakeHub, tmp_path: Path) -> None:
    hub.add("a/b", {**CONFIG, "model.safetensors": b"s"}, token="secret")
    without, wrong, right = download(
        hub.url, tmp_path / "1", ("a/b", {}), ("a/b", {"token": "guess"}), ("a/b", {"token": "secret"})
    )
    for refused in (without, wrong):
        assert "no repository a/b, or it is private" in refused["error"]
        assert "token=" in refused["error"]
    assert "model.safetensors" in right["files"]
    [by_environment] = download(hub.url, tmp_path / "2", ("a/b", {}), HF_TOKEN="secret")
    assert "model.safetensors" in by_environment["files"]


def test_gated_missing_and_incomplete_repositories(hub: FakeHub, tmp_path: Path) -> None:
    hub.add("a/gated", {**CONFIG, "model.safetensors": b"s"}, members=("member",))
    hub.add("a/data", {"train.csv": b"1"})
    hub.add("a/weightless", CONFIG)
    hub.add("a/lost-shard", {**CONFIG, "model.safetensors.index.json": INDEX, "model-1.safetensors": b"1"})
    hub.add("a/bare", {"config.json": b"{}", "model.safetensors": b"s"})
    evil = INDEX.replace(b"model-2", b"../../evil")
    hub.add("a/evil", {**CONFIG, "model.safetensors.index.json": evil, "model-1.safetensors": b"1"})
    results = download(
        hub.url,
        tmp_path,
        ("a/gated", {}),
        ("a/gated", {"token": "stranger"}),
        ("a/gated", {"token": "member"}),
        ("a/nothing", {}),
        ("a/data", {}),
        ("a/weightless", {}),
        ("a/lost-shard", {}),
        ("a/evil", {}),
        ("a/bare", {}),
    )
    errors = [result.get("error", "") for result in results]
    for gated in errors[:2]:
        assert f"a/gated is gated: accept its terms at {hub.url}/a/gated" in gated
    assert "model.safetensors" in results[2]["files"]
    assert "no repository a/nothing" in errors[3]
    assert "a/data has no config.json" in errors[4]
    assert "has none of model.safetensors" in errors[5]
    assert "has no model-2.safetensors" in errors[6]
    assert "names the shard '../../evil.safetensors'" in errors[7]
    assert not [file for _, _, _, file in hub.requests if "evil" in file]
    assert results[8]["files"] == ["config.json", "model.safetensors"]  # loading will miss the preprocessor config


def test_without_a_network_the_cache_is_used(hub: FakeHub, tmp_path: Path) -> None:
    hub.add("a/bin", {**CONFIG, "pytorch_model.bin": b"b"})
    hub.add("a/late", {**CONFIG, "model.safetensors": b"b"})
    [online] = download(hub.url, tmp_path, ("a/bin", {}))
    hub.requests.clear()
    offline, uncached = download(hub.url, tmp_path, ("a/bin", {}), ("a/late", {}), HF_HUB_OFFLINE="1")
    assert offline == online
    assert "config.json of a/late is not in the cache and HF_HUB_OFFLINE is set" in uncached["error"]
    assert hub.requests == []


def test_an_unreachable_or_broken_hub(hub: FakeHub, tmp_path: Path) -> None:
    hub.add("a/b", {**CONFIG, "model.safetensors": b"s"})
    [online] = download(hub.url, tmp_path / "cached", ("a/b", {}))
    hub.broken_status = 503
    [failing] = download(hub.url, tmp_path / "new", ("a/b", {}))
    assert "answered HTTP 503 for config.json of a/b; try again later" in failing["error"]
    hub.broken_status, hub.is_hub = None, False
    [no_hub] = download(hub.url, tmp_path / "new", ("a/b", {}))
    assert "check the network, the proxy settings and HF_ENDPOINT" in no_hub["error"]
    with FakeHub() as gone:
        pass
    [unreachable] = download(gone.url, tmp_path / "new", ("a/b", {}))
    assert f"could not be downloaded from {gone.url} (ConnectError" in unreachable["error"]
    [from_cache] = download(gone.url, tmp_path / "cached", ("a/b", {}))
    assert from_cache == online


def test_a_download_that_breaks_off_leaves_no_file(hub: FakeHub, tmp_path: Path) -> None:
    hub.add("a/b", {"config.json": b'{"model_type": "mask2former"}'})
    hub.cut = 5
    [broken] = download(hub.url, tmp_path, ("a/b", {}))
    assert "config.json of a/b could not be downloaded" in broken["error"]
    assert not list(tmp_path.rglob("config.json"))


def test_the_cache_is_where_it_is_asked_to_be(hub: FakeHub, tmp_path: Path) -> None:
    hub.add("a/b", {**CONFIG, "model.safetensors": b"s"})
    (tmp_path / "file").touch()
    here, nowhere = download(
        hub.url,
        tmp_path / "home",
        ("a/b", {"cache_dir": str(tmp_path / "cache")}),
        ("a/b", {"cache_dir": str(tmp_path / "file")}),
    )
    assert Path(here["folder"]).is_relative_to(tmp_path / "cache")
    assert not (tmp_path / "home" / "hub").exists()
    assert "cannot be written" in nowhere["error"]
    assert "cache_dir=" in nowhere["error"]
