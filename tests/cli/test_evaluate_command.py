"""everymask evaluate, with a network that segments by colour: the figures are known."""

import json

import numpy as np
import pytest
from PIL import Image

from color_model import LABELS, color_checkpoint, picture
from everymask.stopwatch import PHASES


def add(data, name, left, truth, split="test"):
    """A picture, ``left`` half a colour and right half blue, and its (H, W) truth."""
    for kind in ("images", "labels"):
        (data / kind / split).mkdir(parents=True, exist_ok=True)
    truth = np.asarray(truth, np.uint8)
    picture(truth.shape[1], truth.shape[0], left=left).save(data / "images" / split / f"{name}.png")
    Image.fromarray(truth).save(data / "labels" / split / f"{name}.png")


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    add(folder, "a", "red", [[0, 0, 2, 2]] * 2)  # all right
    add(folder, "b", "lime", [[1, 0, 2, 255]] * 2)  # one column of red called green; one void
    add(folder, "c", "red", [[0, 255, 2, 2]] * 4)
    (folder / "classes.txt").write_text("\n".join(LABELS.names))
    return folder


def test_the_figures(everymask_command, data, tmp_path):
    done = everymask_command(
        "evaluate",
        "colors",
        data,
        "--json",
        "figures.json",
        "--batch-size",
        2,
        "--device",
        "cpu",
        "--dtype",
        "bfloat16",
    )
    assert (done.status, done.err) == (0, "")
    figures = json.loads((tmp_path / "figures.json").read_text())
    iou = {row["label"]: row["IoU"] for row in figures["classes"]}
    red, green, blue = 8 / 10, 2 / 4, 14 / 14
    assert iou == {"red": pytest.approx(red), "green": pytest.approx(green), "blue": blue, "dark": None}
    assert figures["mIoU"] == pytest.approx((red + green + blue) / 3)
    assert figures["aAcc"] == pytest.approx(24 / 26)
    assert figures["mAcc"] == pytest.approx((8 / 10 + 1 + 1) / 3)
    assert (figures["model"], figures["task"], figures["images"]) == ("colors", "semantic", 3)
    assert (figures["engine"], figures["dtype"]) == ("eager", "bfloat16")
    assert figures["failures"] == figures["worst"] == []
    assert done.out.splitlines()[-1].startswith("mIoU 76.67%  aAcc 92.31%  mAcc 93.33%  fwIoU ")
    for text in ("red", "80.00", "green", "50.00", "blue", "100.00", "dark", "-", *PHASES, "3 images"):
        assert text in done.out
    assert not (tmp_path / "everymask-worst").exists()


def test_limit_takes_the_first_by_name(everymask_command, data):
    done = everymask_command("evaluate", "colors", data, "--limit", 1, "--device", "cpu", "--dtype", "float32")
    assert "semantic, 1 image, eager in float32\n" in done.out
    assert done.out.splitlines()[-1].startswith("mIoU 100.00%  aAcc 100.00%  mAcc 100.00%")


@pytest.fixture
def instances(data):
    """The same with instances: of red things some, of green ones none, so that these are crowds."""
    for name, numbers in (("a", [[1, 1, 0, 0]] * 2), ("b", [[0, 1, 0, 0]] * 2), ("c", [[1, 0, 0, 0]] * 4)):
        (data / "instances" / "test").mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(numbers, np.uint16)).save(data / "instances" / "test" / f"{name}.png")
    (data / "classes.txt").unlink()
    (data / "classes.json").write_text(json.dumps({"names": LABELS.names, "things": ["red", "green"]}))
    return data


def test_panoptic_counts_are_whole_numbers(everymask_command, instances):
    done = everymask_command("evaluate", "colors", instances)
    assert done.status == 0
    assert "colors on data test, panoptic, 3 images" in done.out
    [header] = [line for line in done.out.splitlines() if "true positives" in line]
    assert "PQ %" in header
    assert "true positives %" not in header
    assert done.out.splitlines()[-1].startswith("PQ ")


def test_instances_have_average_precision(everymask_command, instances):
    done = everymask_command("evaluate", "colors", instances, "--task", "instance")
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines()[-1].startswith("AP ")


def test_annotations_are_read_for_the_models_task(everymask_command, instances, tmp_path, monkeypatch):
    monkeypatch.setattr("everymask.loading.load_checkpoint", lambda name, **options: color_checkpoint(("semantic",)))
    done = everymask_command("evaluate", "colors", instances, "--json", "figures.json")
    assert done.status == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["task"] == "semantic"
    assert figures["aAcc"] == pytest.approx(24 / 26)  # crowds have a class, too


def test_the_size_reaches_the_network(everymask_command, data, monkeypatch):
    checkpoint = color_checkpoint()
    monkeypatch.setattr("everymask.loading.load_checkpoint", lambda name, **options: checkpoint)
    done = everymask_command("evaluate", "colors", data, "--limit", 1, "--size", 32)
    assert done.status == 0
    assert checkpoint.network.batches == [(1, 3, 26, 53)]  # of 2 x 4 pixels, the longer edge limited to 32 * 1333 / 800
    assert everymask_command("evaluate", "colors", data, "--size", "small").status == 2


def test_the_worst_images_are_drawn(everymask_command, data, tmp_path):
    done = everymask_command("evaluate", "colors", data, "--save-worst", 2, "--output", "worst", "--json", "f.json")
    assert done.status == 0
    assert sorted(path.name for path in (tmp_path / "worst").iterdir()) == ["worst-001-b.png", "worst-002-a.png"]
    assert "the 2 worst images beside their truth: worst" in done.out
    assert [each["image"] for each in json.loads((tmp_path / "f.json").read_text())["worst"]] == ["b", "a"]
    with Image.open(tmp_path / "worst" / "worst-001-b.png") as drawn:
        assert drawn.width > 3 * drawn.height


def wrong_size(data):
    Image.new("L", (9, 9)).save(data / "labels" / "test" / "b.png")


def wrong_class(data):
    Image.fromarray(np.full((2, 4), 7, np.uint8)).save(data / "labels" / "test" / "b.png")


def broken_image(data):
    (data / "images" / "test" / "b.png").write_bytes(b"no image")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (wrong_size, "b.png is 9 x 9 pixels and its image 4 x 2"),
        (wrong_class, "b.png holds the value 7, which is neither one of the 4 classes"),
        (broken_image, "b.png"),
    ],
)
def test_what_cannot_be_read_is_told_and_left_out(everymask_command, data, tmp_path, change, message):
    change(data)
    done = everymask_command("evaluate", "colors", data, "--json", "figures.json")
    assert done.status == 1
    error, summary = done.err.splitlines()
    assert error.startswith("error: ")
    assert message in error
    assert summary == "1 of 3 images failed; the figures leave them out"
    assert "2 of 3 images" in done.out
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["images"] == 2
    [failure] = figures["failures"]
    assert failure["image"] == "b"
    assert message in failure["error"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--split", "val"], 1, "test"),  # the splits there are
        (["--task", "flow"], 2, "--task is 'flow': choose from panoptic, instance, semantic, depth"),
        (["--task", "depth"], 1, "that needs the folder depth beside images"),
        (["--task", "panoptic"], 1, "panoptic"),
        (["--format", "vision"], 2, 'there is no format "vision"'),
        (["--save-worst", "1", "--output", "data/classes.txt"], 2, "cannot write"),
    ],
)
def test_wrong_usage_is_one_error_line(everymask_command, data, arguments, status, message):
    done = everymask_command("evaluate", "colors", data, *arguments)
    assert (done.status, done.out) == (status, "")
    assert done.err.startswith("error: ")
    assert message in done.err
    assert len(done.err.splitlines()) == 1


def test_other_classes_are_one_error_line(everymask_command, data):
    (data / "classes.txt").write_text("red\ngreen\nblue\nlight")
    done = everymask_command("evaluate", "colors", data)
    assert done.status == 2
    assert 'only the model has "dark"; only the data has "light"' in done.err
