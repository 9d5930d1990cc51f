"""everymask evaluate, with a network that segments by colour: the figures are known."""

import json

import numpy as np
import pytest
from PIL import Image

from color_model import color_checkpoint, picture


def add(data, name, left, truth):
    """A picture, ``left`` half a colour and right half blue, and its (H, W) truth."""
    for kind in ("images", "labels"):
        (data / kind / "test").mkdir(parents=True, exist_ok=True)
    truth = np.asarray(truth, np.uint8)
    picture(truth.shape[1], truth.shape[0], left=left).save(data / "images" / "test" / f"{name}.png")
    Image.fromarray(truth).save(data / "labels" / "test" / f"{name}.png")


@pytest.fixture
def data(tmp_path):
    add(tmp_path / "data", "a", "red", [[0, 0, 2, 2]] * 2)  # all right
    add(tmp_path / "data", "b", "lime", [[1, 0, 2, 255]] * 2)  # one column of red called green; one void by 255
    add(tmp_path / "data", "c", "red", [[0, 4, 2, 2]] * 4)  # one column void by "one past the last class"
    return tmp_path / "data"


def test_the_figures(everymask_command, data, tmp_path):
    done = everymask_command("evaluate", "colors", data, "--json", "figures.json", "--batch-size", 2)
    assert (done.status, done.err) == (0, "")
    figures = json.loads((tmp_path / "figures.json").read_text())
    iou = {row["label"]: row["IoU"] for row in figures["classes"]}
    red, green, blue = 8 / 10, 2 / 4, 14 / 14
    assert iou == {"red": pytest.approx(red), "green": pytest.approx(green), "blue": blue, "dark": None}
    assert figures["mIoU"] == pytest.approx((red + green + blue) / 3)
    assert figures["aAcc"] == pytest.approx(24 / 26)
    assert figures["mAcc"] == pytest.approx((8 / 10 + 1 + 1) / 3)
    assert (figures["model"], figures["split"], figures["images"]) == ("colors", "test", 3)
    assert done.out.splitlines()[-1] == "mIoU 76.67%  aAcc 92.31%  mAcc 93.33%"
    for text in ("red", "80.00", "green", "50.00", "blue", "100.00", "dark", "-"):
        assert text in done.out


def test_limit_takes_the_first_by_name(everymask_command, data):
    done = everymask_command("evaluate", "colors", data, "--limit", 1)
    assert "1 images" in done.out
    assert done.out.splitlines()[-1] == "mIoU 100.00%  aAcc 100.00%  mAcc 100.00%"


def test_the_size_reaches_the_network(everymask_command, data, monkeypatch):
    checkpoint = color_checkpoint()
    monkeypatch.setattr("everymask.loading.load_checkpoint", lambda name, **options: checkpoint)
    done = everymask_command("evaluate", "colors", data, "--limit", 1, "--size", 32)
    assert done.status == 0
    assert checkpoint.network.batches == [(1, 3, 26, 53)]  # of 2 x 4 pixels, the longer edge limited to 32 * 1333 / 800
    assert everymask_command("evaluate", "colors", data, "--size", "small").status == 2


def wrong_size(data):
    Image.new("L", (9, 9)).save(data / "labels" / "test" / "b.png")


def wrong_class(data):
    Image.fromarray(np.full((2, 4), 7, np.uint8)).save(data / "labels" / "test" / "b.png")


def no_partner(data):
    (data / "labels" / "test" / "b.png").unlink()


def broken_image(data):
    (data / "images" / "test" / "b.png").write_bytes(b"no image")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (wrong_size, r"b.png is 9 x 9 pixels and its image 4 x 2"),
        (wrong_class, r"b.png holds the value 7, which is neither one of the 4 classes"),
        (no_partner, "have no partner"),
        (broken_image, "b.png"),
    ],
)
def test_bad_data_is_one_error_line(everymask_command, data, change, message):
    change(data)
    done = everymask_command("evaluate", "colors", data, "--json", "figures.json")
    assert done.status == 1
    assert done.err.startswith("error: ")
    assert message in done.err
    assert len(done.err.splitlines()) == 1
    assert not (data.parent / "figures.json").exists()


def test_a_missing_split_is_one_error_line(everymask_command, data):
    done = everymask_command("evaluate", "colors", data, "--split", "val")
    assert done.status == 1
    assert "is not a folder: the data is expected as" in done.err
