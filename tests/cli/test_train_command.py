"""everymask train, from a folder of images to a model that segments them."""

import json

import numpy as np
import pytest
from PIL import Image

import everymask
from everymask.cli import main
from trainable import CONFIGS, FEW_POINTS, LABELS, PROCESSORS, SOURCE_LABELS, DrawnData, save_source


@pytest.fixture
def data(tmp_path):
    """Drawn boxes as a plain folder with the splits train and val."""
    folder, drawn = tmp_path / "boxes", DrawnData(6)
    for split, indices in (("train", range(4)), ("val", (4, 5))):
        for kind in ("images", "labels", "instances"):
            (folder / kind / split).mkdir(parents=True)
        for index in indices:
            truth = drawn.read_truth(index)
            classes = truth.class_map()
            instances = np.where(classes > 0, classes * 256 + truth.id_map, 0)
            Image.fromarray(drawn.read_image(index)).save(folder / "images" / split / f"{index}.png")
            Image.fromarray(classes.astype(np.uint8)).save(folder / "labels" / split / f"{index}.png")
            Image.fromarray(instances.astype(np.uint16)).save(folder / "instances" / split / f"{index}.png")
    things = [name for name, thing in zip(LABELS.names, LABELS.things, strict=True) if thing]
    (folder / "classes.json").write_text(json.dumps({"names": list(LABELS.names), "things": things}))
    return folder


@pytest.fixture
def command(capsys, tmp_path, monkeypatch):
    """Runs ``everymask train`` with small settings; returns exit status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, small=True):
        settings = ["--steps", 2, "--batch-size", 2, "--crop", "64x64", "--precision", "32-true", "--device", "cpu"]
        with pytest.raises(SystemExit) as end:
            main([str(each) for each in ("train", *(settings if small else ()), *arguments)])
        captured = capsys.readouterr()
        return end.value.code or 0, captured.out, captured.err

    return run


def test_from_a_model_to_a_model(command, data, tmp_path):
    save_source(tmp_path / "start", "mask2former")
    (tmp_path / "recipe.json").write_text(json.dumps({"loss": FEW_POINTS}))
    status, out, _ = command(
        "--model", "start", "--data", data, "--output", "run", "--task", "panoptic", "--recipe", "recipe.json"
    )  # fmt: skip
    assert status == 0
    assert "mask2former for panoptic, 2 steps of 2 images out of 4, 2 to validate" in out
    assert "the classes are new to start: its class head starts afresh" in out
    assert "one batch: 2 images, 0.0% without a label" in out
    assert "on this batch alone the loss went from" in out
    assert out.splitlines()[-1] == "the network is in run/best: everymask segment PHOTO --model run/best"
    model = everymask.load(tmp_path / "run" / "best", device="cpu", dtype="float32")
    assert model.labels.names == LABELS.names
    assert model.labels.things == LABELS.things
    assert model.license == "MIT"
    assert model(DrawnData(1).read_image(0)).task == "panoptic"
    card = (tmp_path / "run" / "best" / "README.md").read_text()
    assert "Trained with everymask from start on" in card
    assert str(tmp_path) not in card


def test_from_scratch_with_a_recipe_of_ones_own(command, data, tmp_path):
    config = tmp_path / "tiny.json"
    config.write_text(json.dumps(CONFIGS["segformer"]))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PROCESSORS["segformer"]))
    (tmp_path / "recipe.yaml").write_text("seed: 7\nschedule: cosine\nema_decay: 0.5\n")
    status, out, _ = command(
        "--model", config, "--from-scratch", "--data", data, "--output", "run", "--recipe", "recipe.yaml",
        "--license", "CC0-1.0", "--validation-split", "", "--seed", 9,
    )  # fmt: skip
    assert status == 0
    assert "segformer for semantic" in out
    assert "0 to validate" in out
    model = everymask.load(tmp_path / "run" / "last", device="cpu", dtype="float32")
    assert (model.tasks, model.license) == (("semantic",), "CC0-1.0")
    card = (tmp_path / "run" / "last" / "README.md").read_text()
    for line in ("from random weights on", "| seed | 9 |", "| schedule | cosine |", "| ema_decay | 0.5 |"):
        assert line in card


def test_resume_goes_on_without_another_look(command, data, tmp_path):
    save_source(tmp_path / "start", "segformer")
    arguments = ("--model", "start", "--data", data, "--output", "run")
    assert command(*arguments)[0] == 0
    status, _, err = command(*arguments)
    assert (status, err.splitlines()[-1]) == (
        2,
        "error: run holds a run of 2 steps: resume it (--resume), or choose another folder",
    )
    status, out, _ = command(*arguments, "--resume")
    assert status == 0
    assert "one batch" not in out


def test_classes_that_are_connected_parts_need_no_instances(command, data, tmp_path):
    for path in (data / "instances").rglob("*.png"):
        path.unlink()
    save_source(tmp_path / "start", "mask2former")
    (tmp_path / "recipe.json").write_text(json.dumps({"instances_from": "components", "loss": FEW_POINTS}))
    arguments = ("--model", "start", "--data", data, "--output", "run", "--task", "panoptic")
    status, _, err = command(*arguments)
    assert status == 1
    assert "panoptic" in err
    status, out, _ = command(*arguments, "--recipe", "recipe.json")
    assert status == 0
    assert "2 steps taken: mIoU" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "depths"], "there is no task 'depths': choose panoptic, instance, semantic or depth"),
        (["--task", "panoptic"], "cannot be trained for the task 'panoptic': choose semantic"),
        (["--crop", "big"], "--crop is 'big': give a side such as 512, or HEIGHTxWIDTH such as 512x1024"),
        (["--learning-rate", -1], "learning_rate is -1"),
        (["--precision", "64"], "precision"),
        (["--split", "nothing"], "nothing"),
    ],
)
def test_wrong_options_are_one_line(command, data, tmp_path, arguments, message):
    save_source(tmp_path / "start", "segformer", SOURCE_LABELS)
    status, _, err = command("--model", "start", "--data", data, "--output", "run", *arguments)
    assert status in (1, 2)
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "run").exists()


def test_a_config_without_weights_needs_from_scratch(command, data, tmp_path):
    config = tmp_path / "tiny.json"
    config.write_text(json.dumps(CONFIGS["segformer"]))
    status, _, err = command("--model", config, "--data", data, "--output", "run")
    assert status == 2
    assert "holds no weights: add --from-scratch, or give the folder of a model" in err
