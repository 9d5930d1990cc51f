"""Depth as annotated data from start to end: checked, trained on and measured, by command."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

import everymask
from everymask.checkpoints import load_checkpoint
from everymask.cli import main
from small_models import DEPTH_ANYTHING, DEPTH_PROCESSOR, DPT_BOTH, DPT_PROCESSOR, METRIC, save_small

DPT_DEPTH = {**DPT_BOTH, "architectures": ["DPTForDepthEstimation"]}
MODELS = {
    "Depth Anything": (DEPTH_ANYTHING, DEPTH_PROCESSOR, "70x70"),
    "Depth Anything in metres": (METRIC, DEPTH_PROCESSOR, "70x70"),
    "DPT": (DPT_DEPTH, DPT_PROCESSOR, "64x64"),
}
NAMES = ("AbsRel", "SqRel", "RMSE", "log RMSE", "delta1", "delta2", "delta3")


@pytest.fixture
def command(capsys, tmp_path, monkeypatch):
    """Runs ``everymask ARGUMENTS`` in tmp_path; returns exit status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main([str(each) for each in arguments])
        captured = capsys.readouterr()
        return end.value.code or 0, captured.out, captured.err

    return run


@pytest.fixture
def data(tmp_path):
    """Grounds that come nearer towards the bottom, with a box before each, as KITTI stores depth; noise for texture."""
    folder = tmp_path / "rooms"
    for split, count in (("train", 4), ("val", 2)):
        for kind in ("images", "depth"):
            (folder / kind / split).mkdir(parents=True)
        for index in range(count):
            rng = np.random.default_rng([count, index])
            metres = np.repeat(np.linspace(10, 2, 72)[:, None], 80, 1)
            top, left = rng.integers(10, 40, 2)
            metres[top : top + 20, left : left + 20] = 1.5
            image = np.clip(255 / metres[..., None] * [1, 0.8, 0.5] + rng.normal(0, 5, (72, 80, 3)), 0, 255)
            metres[:4] = 0
            Image.fromarray(image.astype(np.uint8)).save(folder / "images" / split / f"{index}.png")
            Image.fromarray((metres * 256).astype(np.uint16)).save(folder / "depth" / split / f"{index}.png")
    (folder / "depth.yaml").write_text("scale: 1/256")
    return folder


def label(data):
    """Adds class maps: ground and box, and what lies too far."""
    for depth in (data / "depth").rglob("*.png"):
        stored = np.asarray(Image.open(depth))
        classes = np.where(stored == 0, 255, stored == 384).astype(np.uint8)
        target = data / "labels" / depth.parent.name
        target.mkdir(parents=True, exist_ok=True)
        Image.fromarray(classes).save(target / depth.name)
    (data / "classes.txt").write_text("ground\nbox")


def train(command, data, crop, *arguments):
    settings = ("--steps", 3, "--batch-size", 2, "--crop", crop, "--precision", "32-true", "--device", "cpu")
    return command("train", "--model", "start", "--data", data, "--output", "run", *settings, *arguments)


def rows(file):
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


@pytest.mark.parametrize("name", MODELS)
def test_from_a_folder_of_depths_to_a_model_and_its_figures(command, data, tmp_path, name):
    config, processor, crop = MODELS[name]
    save_small(tmp_path / "start", config, processor)
    status, out, err = train(command, data, crop, "--task", "depth")
    assert status == 0, err
    assert "for depth, 3 steps of 2 images out of 4, 2 to validate" in out
    assert "3 steps taken: delta1 " in out
    assert "RMSE" in out
    losses = [float(row["loss"]) for row in rows(tmp_path / "run" / "steps.csv")]
    assert len(losses) == 3
    assert all(0 < loss < 100 for loss in losses)
    validation = rows(tmp_path / "run" / "validation.csv")[-1]
    assert set(validation) == {"step", *NAMES}
    assert len(list((tmp_path / "run" / "pictures").rglob("*.png"))) >= 2
    before, after = load_checkpoint(tmp_path / "start"), load_checkpoint(tmp_path / "run" / "last")
    assert (after.tasks, after.depth_kind, after.labels.names) == (("depth",), before.depth_kind, ())
    kept = before.network.state_dict()
    assert any(not np.array_equal(kept[key], tensor) for key, tensor in after.network.state_dict().items())

    arguments = ("--split", "val", "--json", "figures.json", "--save-worst", 1, "--output", "worst", "--device", "cpu")
    status, out, err = command("evaluate", "run/last", data, *arguments, "--dtype", "float32")
    assert (status, err) == (0, "")
    assert "depth, 2 images" in out
    assert "class" not in out
    last = out.splitlines()[-2]
    assert last.startswith("AbsRel ")
    assert all(name in last for name in NAMES)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert [figures[each] for each in NAMES] == pytest.approx([float(validation[each]) for each in NAMES], rel=1e-4)
    assert len(list((tmp_path / "worst").iterdir())) == 1


def test_a_network_with_two_heads_learns_from_both_truths(command, data, tmp_path):
    label(data)
    save_small(tmp_path / "start", DPT_BOTH, DPT_PROCESSOR)
    status, out, err = train(command, data, "64x64")
    assert status == 0, err
    assert "dpt for semantic, 3 steps" in out
    step = rows(tmp_path / "run" / "steps.csv")[0]
    assert float(step["class"]) > 0
    assert float(step["depth"]) > 0
    validation = rows(tmp_path / "run" / "validation.csv")[-1]
    assert {"mIoU", *NAMES} < set(validation)
    result = everymask.load(tmp_path / "run" / "best", device="cpu", dtype="float32")(data / "images" / "val" / "0.png")
    assert set(result.labels.names) == {"ground", "box"}
    assert result.depth.shape == (72, 80)
    for task, figure in (("semantic", "mIoU "), ("depth", "AbsRel ")):
        arguments = ("--split", "val", "--task", task, "--device", "cpu")
        status, out, err = command("evaluate", "run/best", data, *arguments)
        assert (status, err) == (0, "")
        assert out.splitlines()[-1].startswith(figure)


def test_a_relative_truth_teaches_but_does_not_validate(command, data, tmp_path):
    (data / "depth.yaml").write_text("kind: relative")
    save_small(tmp_path / "start", DEPTH_ANYTHING, DEPTH_PROCESSOR)
    status, _, err = train(command, data, "70x70")
    assert (status, err.count("\n")) == (2, 1)
    assert "errors are measured in metres" in err
    status, out, err = train(command, data, "70x70", "--validation-split", "")
    assert (status, "3 steps taken" in out) == (0, True), err


def test_metres_cannot_be_learned_from_relative_depth(command, data, tmp_path):
    (data / "depth.yaml").write_text("kind: relative")
    save_small(tmp_path / "start", METRIC, DEPTH_PROCESSOR)
    status, _, err = train(command, data, "70x70")
    assert status == 2
    assert "predicts metres and the depth of rooms train is relative" in err


def test_the_task_needs_depth(command, data, tmp_path):
    label(data)
    for path in (data / "depth").rglob("*.png"):
        path.unlink()
    save_small(tmp_path / "start", DEPTH_ANYTHING, DEPTH_PROCESSOR)
    status, _, err = train(command, data, "70x70", "--task", "depth")
    assert status == 1
    assert "that needs the folder depth beside images" in err


@pytest.mark.parametrize("labelled", [False, True])
def test_the_doctor_has_nothing_to_say(command, data, labelled):
    if labelled:
        label(data)
    status, out, err = command("check", data)
    assert (status, err) == (0, "")
    assert "rooms: folder, images: 4 train, 2 val; 0 errors, 0 warnings" in out


@pytest.mark.parametrize("labelled", [False, True])
def test_the_doctor_finds_depths_of_another_size(command, data, labelled):
    if labelled:
        label(data)
    Image.new("I;16", (20, 18)).save(data / "depth" / "val" / "1.png")
    status, out, _ = command("check", data)
    assert status == 1
    assert "1.png is 20 x 18 pixels and its image 80 x 72" in " ".join(out.split())


def test_the_doctor_finds_damaged_images_and_missing_partners(command, data):
    (data / "images" / "val" / "1.png").write_bytes(b"no image")
    (data / "depth" / "train" / "2.png").unlink()
    status, out, _ = command("check", data)
    assert status == 1
    assert "damaged-file" in out
    assert "image-without-labels" in out
