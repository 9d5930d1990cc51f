"""everymask segment, with a network that segments by colour."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from color_model import LABELS, color_checkpoint, picture


@pytest.fixture
def photo(tmp_path):
    picture(40, 30).save(tmp_path / "photo.png")
    return "photo.png"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_one_photo(everymask_command, photo, tmp_path):
    done = everymask_command("segment", photo)
    assert (done.status, done.err) == (0, "")
    [overlay] = names(tmp_path / "everymask-out")
    [line] = done.out.splitlines()
    assert line.startswith("photo.png: 2 segments (")
    assert "1 red" in line
    assert "1 blue" in line
    assert line.endswith(f"-> everymask-out/{overlay}")
    assert Image.open(tmp_path / "everymask-out" / overlay).width >= 40


def test_formats_with_commas_and_repeated(everymask_command, photo, tmp_path):
    one = everymask_command(
        "segment", photo, "--format", "json,coco,panoptic-png", "--format", "masks", "--output", "a"
    )
    assert one.status == 0
    every = everymask_command(
        "segment", photo, "--format", "json, coco", "--format", "panoptic-png,masks", "--output", "b"
    )
    assert every.status == 0
    assert names(tmp_path / "a") == names(tmp_path / "b")
    assert len(names(tmp_path / "a")) >= 4


def test_a_bad_file_is_reported_at_the_end_and_does_not_stop_the_others(everymask_command, photo, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    picture(20, 30, left="lime").save(tmp_path / "zebra.png")
    done = everymask_command("segment", "gone.png", "broken.jpg", photo, "zebra.png", "--batch-size", 2)
    assert done.status == 1
    assert [line.split(":")[0] for line in done.out.splitlines()] == ["photo.png", "zebra.png"]
    assert len(names(tmp_path / "everymask-out")) == 2
    first, *errors = done.err.splitlines()
    assert first == "2 of 4 inputs failed:"
    assert errors[0] == "error: gone.png does not exist"
    assert errors[1].startswith("error: ")
    assert "broken.jpg" in errors[1]
    assert "Traceback" not in done.err


def test_inputs_of_one_name_do_not_overwrite_each_other(everymask_command, tmp_path):
    for folder, left in (("x", "red"), ("y", "lime")):
        (tmp_path / folder).mkdir()
        picture(left=left).save(tmp_path / folder / "a.png")
    done = everymask_command("segment", "x", "y", "--format", "json")
    assert done.status == 0
    contents = [(tmp_path / "everymask-out" / name).read_text() for name in names(tmp_path / "everymask-out")]
    assert len(contents) == 2
    assert sorted("green" in {s["label"] for s in json.loads(text)["segments"]} for text in contents) == [False, True]


def test_task_and_thresholds_change_the_result(everymask_command, photo):
    assert "1 segment (1 red)" in everymask_command("segment", photo, "--task", "instance").out
    assert ": 0 segments ->" in everymask_command("segment", photo, "--threshold", 0.99999).out


def test_the_size_reaches_the_network_and_not_the_result(everymask_command, photo, tmp_path, monkeypatch):
    checkpoint = color_checkpoint()
    monkeypatch.setattr("everymask.loading.load_checkpoint", lambda name, **options: checkpoint)
    done = everymask_command("segment", photo, "--size", "60", "--format", "panoptic-png")
    assert done.status == 0
    assert checkpoint.network.batches == [(1, 3, 60, 80)]
    [saved] = (tmp_path / "everymask-out").glob("*.png")
    assert Image.open(saved).size == (40, 30)


def test_explain_tells_why_queries_were_dropped(everymask_command, photo):
    done = everymask_command("segment", photo, "--explain")
    assert done.status == 0
    table = done.out[done.out.index("why it was dropped") :]
    assert [row.split("│")[2].strip() for row in table.splitlines() if row.startswith("│")] == ["green", "dark"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope.png"], "error: no input found: nope.png does not exist"),
        (["photo.png", "--task", "depth"], "'depth'"),
        (["photo.png", "--format", "svg"], "svg"),
        (["photo.png", "--format", "overlay,"], "format"),
        (["photo.png", "--task", "instance", "--format", "panoptic-png"], "panoptic-png"),
        (["photo.png", "--threshold", "2"], "threshold"),
        (["photo.png", "--threshold", "nan"], "threshold"),
        (["photo.png", "--task", "semantic", "--threshold", "0.5"], "threshold"),
        (["photo.png", "--batch-size", "0"], "batch-size"),
        (["photo.png", "--size", "31"], "error: size is 31"),
        (["photo.png", "--size", "large"], "error: size is 'large'"),
        (["photo.png", "--size", "published"], "error: at which size colors was measured is not known here"),
        (["photo.png", "--device", "tpu"], "error: unknown device 'tpu'"),
        (["photo.png", "--device", "cpu", "--dtype", "float16"], "error: dtype 'float16' is refused on the CPU"),
        (["photo.png", "--engine", "fast"], "error: unknown engine 'fast': choose auto, eager, compile"),
        ([], "INPUT"),
    ],
)
def test_wrong_usage_ends_with_status_2_and_writes_nothing(everymask_command, photo, tmp_path, arguments, message):
    done = everymask_command("segment", *arguments)
    assert done.status == 2
    assert message in done.err
    assert "Traceback" not in done.err
    assert done.out == ""
    assert not (tmp_path / "everymask-out").exists()


def test_labels_are_printed_as_they_are(everymask_command, photo, monkeypatch):
    labels = replace(LABELS, names=("red", "[bold]green", ":car:", "dark"))
    checkpoint = replace(color_checkpoint(), labels=labels)
    monkeypatch.setattr("everymask.loading.load_checkpoint", lambda name, **options: checkpoint)
    done = everymask_command("segment", photo, "--explain")
    assert "1 :car:" in done.out
    assert "[bold]green" in done.out


def test_an_error_is_one_line(everymask_command, photo):
    done = everymask_command("segment", photo, "--device", "tpu")
    assert len(done.err.splitlines()) == 1


def test_the_overlay_shows_the_segments(everymask_command, photo, tmp_path):
    everymask_command("segment", photo)
    [overlay] = (tmp_path / "everymask-out").iterdir()
    pixels = np.asarray(Image.open(overlay).convert("RGB")).astype(int)
    assert pixels[15, 10, 0] > pixels[15, 10, 2]  # red on the left
    assert pixels[15, 30, 2] > pixels[15, 30, 0]  # blue on the right
