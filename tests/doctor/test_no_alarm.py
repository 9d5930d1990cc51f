"""Data without a fault raises no alarm, in any format, from any place."""

import shutil

import pytest
from clean_sets import FORMATS

from everymask.doctor import check
from everymask.errors import DataError, OptionError
from shared import SHARED, needs_shared


def alarms(report):
    return [(each.kind, each.message, each.where) for each in report.findings if each.severity != "note"]


@pytest.mark.parametrize("format", FORMATS)
def test_a_clean_set(tmp_path, format):
    FORMATS[format](tmp_path / "data")
    report = check(tmp_path / "data")
    assert alarms(report) == []
    assert report.format == format
    assert list(report.splits.values()) == [4, 4]


@pytest.mark.parametrize("format", ["folder", "coco-panoptic"])
def test_a_clean_set_in_an_archive(tmp_path, format):
    FORMATS[format](tmp_path / "data")
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "data")
    assert alarms(check(archive)) == []


def test_one_split_alone(tmp_path):
    FORMATS["folder"](tmp_path)
    (tmp_path / "labels" / "val" / "a.png").unlink()
    assert [each.kind for each in check(tmp_path).findings] == ["image-without-labels"]
    report = check(tmp_path, split="train")
    assert (alarms(report), report.splits) == ([], {"train": 4})


def test_progress_counts_images(tmp_path):
    FORMATS["folder"](tmp_path)
    seen = []
    check(tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 8) for done in range(1, 9)]


def test_what_cannot_be_checked_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        check(tmp_path / "nowhere")
    FORMATS["folder"](tmp_path)
    with pytest.raises(DataError, match="no split 'test'; it has train, val"):
        check(tmp_path, split="test")
    with pytest.raises(OptionError, match="no format"):
        check(tmp_path, format="yolo")


@needs_shared
def test_camvid():
    report = check(SHARED / "data" / "camvid")
    assert report.splits == {"test": 233, "train": 367, "val": 101}
    assert alarms(report) == []


@needs_shared
def test_the_coco_sample():
    report = check(SHARED / "data" / "panoptic_sample")
    assert report.splits == {"truth": 2}
    assert alarms(report) == []
