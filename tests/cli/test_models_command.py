"""everymask models and everymask itself."""

import json

from everymask.checkpoints.catalogue import catalogue


def test_the_table_names_every_model(everymask_command):
    done = everymask_command("models")
    assert (done.status, done.err) == (0, "")
    for entry in catalogue():
        assert entry.name in done.out
    for heading in ("name", "tasks", "data", "MB", "accuracy", "licence"):
        assert heading in done.out


def test_json_holds_the_catalogue(everymask_command):
    rows = json.loads(everymask_command("models", "--json").out)
    assert [row["name"] for row in rows] == [entry.name for entry in catalogue()]
    assert rows[0]["tasks"] == list(catalogue()[0].tasks)
    assert rows[1]["published_size"] == {"shortest": 800, "longest": 1333, "divisor": 32}


def test_commercial_hides_the_others_and_counts_them(everymask_command):
    done = everymask_command("models", "--commercial", "--json")
    names = {row["name"] for row in json.loads(done.out)}
    assert "facebook/detr-resnet-50-panoptic" in names
    assert not {"street", "facebook/mask2former-swin-tiny-coco-panoptic"} & names
    hidden = len(catalogue()) - len(names)
    assert (
        done.err == f"{hidden} models are hidden: no licence is stated, or none that is known to allow commercial use\n"
    )
    table = everymask_command("models", "--commercial")
    assert table.err == done.err
    assert "facebook/detr-resnet-50-panoptic" in table.out
    assert "street" not in table.out


def test_the_help_names_the_verbs(everymask_command):
    done = everymask_command("--help")
    assert done.status == 0
    for verb in ("segment", "demo", "models", "evaluate"):
        assert verb in done.out


def test_an_unknown_verb_is_wrong_usage(everymask_command):
    done = everymask_command("segmnt")
    assert done.status == 2
    assert "segmnt" in done.err
