"""Faults seeded in photographs: CamVid's, a few of each split."""

import shutil

import numpy as np
import pytest
from clean_sets import load, save
from faults import cured, only_alarm, run
from PIL import Image

from everymask.images.decode import ORIENTATION_TAG
from everymask.labels import label_set
from shared import SHARED, needs_shared

pytestmark = needs_shared
CAMVID = SHARED / "data" / "camvid"


@pytest.fixture
def camvid(tmp_path):
    for split in ("train", "val", "test"):
        for path in sorted((CAMVID / "labels" / split).iterdir())[::40][:4]:
            for kind, name in (("images", f"{path.stem}.jpg"), ("labels", path.name)):
                (tmp_path / kind / split).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(CAMVID / kind / split / name, tmp_path / kind / split / name)
    return tmp_path


def each_label(root, change):
    for path in root.glob("labels/*/*.png"):
        save(path, change(load(path)))


def test_these_are_without_a_fault(camvid):
    assert cured(camvid)


def test_one_too_high(camvid):
    each_label(camvid, lambda a: a + 1)
    found = only_alarm(camvid)
    assert (found.kind, found.severity) == ("offset-by-one", "error")
    run(found.fix, camvid)
    assert cured(camvid)


@pytest.mark.parametrize("resample", [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC])
@pytest.mark.parametrize("side", [(240, 180), (720, 540)])
def test_labels_resized_with_interpolation(camvid, resample, side):
    """Up or down, then to the size of the image without interpolation, as if nothing had been."""
    for path in camvid.glob("labels/val/*.png"):
        with Image.open(path) as labels:
            labels.resize(side, resample).resize((480, 360), resample).save(path)
    found = only_alarm(camvid)
    assert (found.kind, found.severity, found.count) == ("interpolated-labels", "error", 3)


def test_colours_read_as_grey(camvid):
    table = np.array([*label_set("camvid").colors, (0, 0, 0)], np.uint8)
    for path in camvid.glob("labels/*/*.png"):
        Image.fromarray(table[load(path)]).convert("L").save(path)
    found = only_alarm(camvid)
    assert (found.kind, found.severity) == ("colours-as-grey", "error")


def test_colours(camvid):
    truth = {path: load(path) for path in camvid.glob("labels/*/*.png")}
    table = np.array([*label_set("camvid").colors, (0, 0, 0)], np.uint8)
    each_label(camvid, lambda a: table[a])
    found = only_alarm(camvid)
    assert (found.kind, found.severity) == ("labels-in-colour", "error")
    run(found.fix, camvid)
    assert cured(camvid)
    for path, before in truth.items():
        after = load(path)
        assert np.array_equal(np.where(after == 255, 11, after), before)


def test_jpeg_under_the_name_of_png(camvid):
    for path in camvid.glob("labels/test/*.png"):
        with Image.open(path) as labels:
            labels.save(path, "JPEG", quality=95)
    found = only_alarm(camvid)
    assert (found.kind, found.severity, found.count) == ("jpeg-labels", "error", 4)


def test_a_camera_that_was_turned(camvid):
    path = min(camvid.glob("images/val/*.jpg"))
    with Image.open(path) as image:
        exif = image.getexif()
        exif[ORIENTATION_TAG] = 6
        image.save(path, exif=exif)
    found = only_alarm(camvid)
    assert (found.kind, found.count) == ("exif-rotation", 1)


def test_a_photograph_in_two_splits(camvid):
    path = min(camvid.glob("images/val/*.jpg"))
    shutil.copy(path, camvid / "images/train" / path.name)
    shutil.copy(camvid / "labels/val" / f"{path.stem}.png", camvid / "labels/train" / f"{path.stem}.png")
    found = only_alarm(camvid)
    assert (found.kind, found.count) == ("splits-share-images", 1)
    run(found.fix.partition("trained on: ")[2], camvid)
    assert cured(camvid)


def test_a_photograph_saved_again_in_another_split(camvid):
    path = min(camvid.glob("images/val/*.jpg"))
    with Image.open(path) as image:
        image.resize((240, 180)).resize((480, 360)).save(camvid / "images/train/again.jpg", quality=50)
    shutil.copy(camvid / "labels/val" / f"{path.stem}.png", camvid / "labels/train/again.png")
    found = only_alarm(camvid)
    assert (found.kind, found.severity, found.count) == ("near-duplicates-across-splits", "warning", 1)
