"""everymask models and everymask itself."""

import json

import pytest

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
    published = {row["name"]: row["published_size"] for row in rows}
    whole = {"shortest": 800, "longest": 1333, "divisor": 32, "window": None, "stride": None}
    assert published["facebook/mask2former-swin-tiny-coco-panoptic"] == whole
    windows = {"shortest": 640, "longest": 2560, "divisor": 0, "window": 640, "stride": 426}
    assert published["microsoft/beit-base-finetuned-ade-640-640"] == windows


def test_a_depth_model_has_an_accuracy_only_where_it_is_in_metres(everymask_command):
    lines = everymask_command("models").out.splitlines()
    assert sum("RMSE (m) 0.279" in line for line in lines) == 1
    assert "None" not in "".join(lines)


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


def test_one_model_is_described(everymask_command):
    done = everymask_command("models", "colors")
    assert (done.status, done.err) == (0, "")
    assert "tasks    panoptic, instance, semantic\n" in done.out
    assert "classes  4: red, green, blue, dark\n" in done.out
    assert "licence  CC0 1.0\n" in done.out
    facts = json.loads(everymask_command("models", "colors", "--json").out)
    assert facts["input"] == "images keep their size"


@pytest.mark.parametrize("option", ["--hub", "--commercial"])
def test_lists_and_one_model_do_not_mix(everymask_command, option):
    done = everymask_command("models", "colors", option)
    assert done.status != 0
    assert "are for lists: leave them out" in done.err
