"""Reading config.json."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everymask.checkpoints.config import ModelConfig, Statement, read_config
from everymask.errors import CheckpointError


def read(folder: Path, **content: Any) -> ModelConfig:
    (folder / "config.json").write_text(json.dumps({"model_type": "mask2former", **content}))
    return read_config(folder)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(names=st.lists(st.text(), min_size=1, max_size=200), seed=st.integers(0, 100))
def test_names_come_by_index_whatever_the_order_in_the_file(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], seed: int
) -> None:
    rows = [(str(index), name) for index, name in enumerate(names)]
    random.Random(seed).shuffle(rows)
    config = read(tmp_path_factory.mktemp("c"), id2label=dict(rows), backbone_config={"id2label": {"0": "tench"}})
    assert config.names == tuple(name.strip() for name in names)


def test_without_names_the_classes_are_counted(tmp_path: Path) -> None:
    assert read(tmp_path, num_labels=3).names == ("LABEL_0", "LABEL_1", "LABEL_2")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"id2label": {"0": "a", "2": "b"}}, 'from "0" to "1", no gaps'),
        ({"id2label": {"1": "a", "2": "b"}}, 'from "0" to "1", no gaps'),
        ({"id2label": {"0": "a", "one": "b"}}, 'from "0" to "1", no gaps'),
        ({"id2label": {"0": "a", "01": "b"}}, 'from "0" to "1", no gaps'),
        ({"id2label": {}}, "must map the index of every class"),
        ({"id2label": ["a"]}, "must map the index of every class"),
        ({"id2label": {"0": None}}, "must map the index of every class"),
        ({"num_labels": -1}, '"num_labels" in .* must be the number of classes'),
        ({"num_labels": "3"}, '"num_labels" in .* must be the number of classes'),
        ({"model_type": None, "num_labels": 1}, 'has no "model_type"'),
    ],
)
def test_bad_configs(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read(tmp_path, **content)


@pytest.mark.parametrize("text", ["", "{", "nonsense", "[" * 100_000, "\udcff", '{"a": 1}}'])
def test_files_that_are_not_json(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointError, match="is not valid JSON"):
        read_config(tmp_path)


def test_missing_and_odd_files(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no config\.json; a checkpoint in the transformers layout has"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="holds a JSON list where an object is needed"):
        read_config(tmp_path)
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").mkdir()
    with pytest.raises(CheckpointError, match="cannot be read: Is a directory"):
        read_config(tmp_path)


def test_the_block_of_everymask(tmp_path: Path) -> None:
    assert read(tmp_path, num_labels=2).statement == Statement()
    block = {
        "things": [1],
        "palette": [[255, 0, 7], None],
        "tasks": ["semantic", "panoptic"],
        "license": "CC0",
        "dataset": "mine",
    }
    assert read(tmp_path, num_labels=2, everymask=block).statement == Statement(
        things=frozenset({1}), palette=((255, 0, 7), None), tasks=("panoptic", "semantic"), license="CC0"
    )
    assert read(tmp_path, num_labels=2, everymask={"things": []}).statement.things == frozenset()


@pytest.mark.parametrize(
    "block",
    [
        [],
        {"things": [2]},
        {"things": [-1]},
        {"things": [True]},
        {"things": "0"},
        {"palette": [[0, 0, 0]]},
        {"palette": [[0, 0, 0], [0, 0, 256]]},
        {"palette": [[0, 0, 0], [0, 0]]},
        {"palette": {}},
        {"tasks": []},
        {"tasks": ["colour"]},
        {"tasks": [["panoptic"]]},
        {"license": 3},
    ],
)
def test_bad_blocks(tmp_path: Path, block: object) -> None:
    with pytest.raises(CheckpointError, match=r'the "everymask" block in .* is wrong'):
        read(tmp_path, num_labels=2, everymask=block)
