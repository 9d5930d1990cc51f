"""Splits, tasks, and images with their annotations."""

import pytest

from annotated import storage_of
from everymask.datasets.listing import choose_split, choose_task, find_files, pair
from everymask.errors import DataError

STORAGE = storage_of({"images/a.jpg": b""})


@pytest.mark.parametrize(
    ("available", "split", "chosen"),
    [
        (["val"], None, "val"),
        ([""], None, ""),
        (["train", "val"], "val", "val"),
        (["training", "validation"], "val", "validation"),
        (["training", "validation"], "train", "training"),
        (["train", "val"], "validation", "val"),
        (["val", "validation"], "validation", "validation"),
    ],
)
def test_the_split_that_is_meant(available, split, chosen):
    assert choose_split(available, split, STORAGE) == chosen


@pytest.mark.parametrize(
    ("available", "split", "message"),
    [
        (["train", "val"], None, r"data has the splits train, val: say which, as in split='train'"),
        (["train", "val"], "test", r"data has no split 'test' with images and annotations; it has train, val"),
        ([""], "test", r"data has no splits, so there is no split 'test': leave split out"),
        (["", "train"], "train", r"has images outside the folders of its splits, train: move each into one of them"),
    ],
)
def test_a_split_that_is_not_there_or_not_clear(available, split, message):
    with pytest.raises(DataError, match=message):
        choose_split(available, split, STORAGE)


def test_the_task_is_the_richest_or_the_one_that_is_asked_for():
    assert choose_task(None, ("panoptic", "semantic"), STORAGE, "") == "panoptic"
    assert choose_task("semantic", ("panoptic", "semantic"), STORAGE, "") == "semantic"
    with pytest.raises(DataError, match=r"cannot be read for the task 'instance', only for semantic: add instances"):
        choose_task("instance", ("semantic",), STORAGE, "add instances")


def test_files_by_split_and_name():
    storage = storage_of({"images/val/b/c.jpg": b"", "images/val/a.x.png": b"", "labels/val/a.png": b""})
    found = find_files(storage, r"images/(?P<split>[^/]+)/(?P<name>.+)\.[^./]+")
    assert found == {"val": {"b/c": "images/val/b/c.jpg", "a.x": "images/val/a.x.png"}}


def test_two_files_of_one_name():
    storage = storage_of({"images/a.jpg": b"", "images/a.png": b""})
    with pytest.raises(DataError, match=r"data holds both images/a.jpg and images/a.png, and one of them is too many"):
        find_files(storage, r"images/(?P<name>.+)\.[^./]+")


def test_entries_come_by_name():
    images, labels = {"b": "i/b.jpg", "a": "i/a.jpg"}, {"a": "l/a.png", "b": "l/b.png"}
    entries = pair(STORAGE, images, labels)
    assert [(each.name, each.image, each.labels, each.instances) for each in entries] == [
        ("a", "i/a.jpg", "l/a.png", None),
        ("b", "i/b.jpg", "l/b.png", None),
    ]
    assert pair(STORAGE, images, labels, {"a": "n/a.png", "b": "n/b.png"})[1].instances == "n/b.png"


@pytest.mark.parametrize(
    ("without", "message"),
    [
        ("labels", r"1 image\(s\) have no partner in data/labels/val, the first is b: add what is missing"),
        ("images", r"1 label file\(s\) have no partner in data/images/val, the first is b"),
        ("instances", r"1 image\(s\) have no partner in data/instances/val, the first is b"),
    ],
)
def test_a_missing_partner(without, message):
    files = {kind: {name: f"{kind}/val/{name}.png" for name in "ab"} for kind in ("images", "labels", "instances")}
    del files[without]["b"]
    with pytest.raises(DataError, match=message):
        pair(STORAGE, files["images"], files["labels"], files["instances"])
