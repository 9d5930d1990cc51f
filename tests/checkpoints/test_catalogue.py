"""The catalogue, against the configs of the public checkpoints."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from everymask.checkpoints.catalogue import catalogue, entry
from everymask.labels import LABEL_SETS, label_set, match_labels
from everymask.segmentation import TASKS


def test_every_entry_is_whole() -> None:
    names = [each.name for each in catalogue()]
    assert len(set(names)) == len(names)
    assert names[0] == "street"
    for each in catalogue():
        assert each.labels in LABEL_SETS
        assert each.tasks == tuple(task for task in TASKS if task in each.tasks) != ()
        assert each.metric in ("PQ", "AP", "mIoU")


def test_lookup_by_name() -> None:
    street = entry("street")
    assert street is not None
    assert street.license == "CC BY-NC 4.0"
    assert street.tasks == TASKS
    assert entry("facebook/mask2former-swin-tiny-coco-instance") in catalogue()
    assert entry("Street") is None
    assert entry(None) is None


def test_the_public_checkpoints_of_mask2former_are_all_there(shared: Path) -> None:
    paths = sorted((shared / "checkpoints" / "configs").glob("facebook--mask2former-*.json"))
    configs = {path.stem.replace("--", "/"): path for path in paths if ".preprocessor" not in path.name}
    published = [each for each in catalogue() if each.name != "street"]
    assert {each.name for each in published} == set(configs)
    for each in published:
        id2label = json.loads(configs[each.name].read_text())["id2label"]
        assert match_labels(tuple(id2label[str(i)] for i in range(len(id2label)))) == label_set(each.labels)
        size = json.loads(configs[each.name].with_suffix(".preprocessor.json").read_text())["size"]
        assert each.input_size == f"{size['height']} x {size['width']}"
        kind = each.name.rpartition("-")[2]
        assert each.tasks == (TASKS if kind == "panoptic" else (kind,))
        assert each.metric == {"panoptic": "PQ", "instance": "AP", "semantic": "mIoU"}[kind]
        assert each.license is None  # no source states one


@pytest.mark.parametrize(
    ("name", "value", "megabytes"),
    [
        ("facebook/mask2former-swin-large-coco-panoptic", 57.8, 866),
        ("facebook/mask2former-swin-base-IN21k-coco-instance", 48.1, 432),
        ("facebook/mask2former-swin-small-cityscapes-panoptic", 64.8, 276),
        ("facebook/mask2former-swin-tiny-ade-semantic", 47.7, 190),
    ],
)
def test_published_figures(name: str, value: float, megabytes: float) -> None:
    found = entry(name)
    assert found is not None
    assert (found.value, found.weights_mb) == (value, megabytes)


def test_the_catalogue_and_the_labels_load_no_torch() -> None:
    script = (
        "import sys; from everymask.checkpoints.catalogue import catalogue; from everymask.labels import label_set; "
        "catalogue(); label_set('camvid'); import everymask.checkpoints.find; "
        "assert not {'torch', 'huggingface_hub', 'safetensors'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
