"""COCO-Stuff: the published numbering with gaps, and the two that are prepared from it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotated import expected, palette_png, photo, pieces, png, storage_of
from everymask.datasets import coco_stuff
from everymask.errors import DataError
from everymask.labels import label_set

# The ids that COCO planned and never annotated (https://github.com/nightrome/cocostuff, labels.md).
GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
IDS = [id for id in range(1, 183) if id not in GAPS]
LAYOUTS = {
    "stuffthingmaps/val2017/a.png": True,
    "stuffthingmaps_detectron2/val2017/a.png": False,
    "annotations/val2017/a_labelTrainIds.png": False,
    "annotations/val2017/a.png": True,
    "deeper/stuffthingmaps/val2017/a.png": True,
}


def open_maps(files, height, width, image="val2017/a.jpg"):
    return coco_stuff.read(storage_of({**files, image: photo(height, width), "other.txt": b""}))


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(1, 8), st.integers(1, 8), st.sampled_from(sorted(LAYOUTS)), st.data())
def test_random_maps(height, width, name, data):
    labels = data.draw(st.lists(st.integers(-1, 170), min_size=height * width, max_size=height * width))
    classes = np.array(labels).reshape(height, width)
    stored = np.array([id - 1 for id in IDS])[classes] if LAYOUTS[name] else classes
    stored = np.where(classes < 0, 255, stored).astype(np.uint8)
    truth = open_maps({name: png(stored)}, height, width).read_truth(0)
    assert pieces(truth) == expected((label, False, classes == label) for label in range(171))
    assert (truth.class_map() == classes).all()


def test_what_the_data_says_of_itself():
    data = open_maps({"stuffthingmaps/val2017/a.png": palette_png(np.array([[181, 255]], np.uint8))}, 1, 2)
    assert data.labels == label_set("coco-stuff")
    assert data.labels.names[data.read_truth(0).segments[0].label_id] == "wood"
    assert data.tasks == ("semantic",)
    assert data.conventions.ignore == (255,)
    assert data.names == ["a"]
    assert data.read_image(0).shape == (1, 2, 3)


def test_indices_are_taken_before_ids():
    files = {
        "annotations/val2017/a.png": png(np.array([[181]], np.uint8)),
        "annotations/val2017/a_labelTrainIds.png": png(np.array([[4]], np.uint8)),
    }
    assert open_maps(files, 1, 1, "images/val2017/a.jpg").read_truth(0).segments[0].label_id == 4


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("stuffthingmaps/val2017/a.png", 11, "holds the value 11, which is neither a category id of COCO less one"),
        ("stuffthingmaps/val2017/a.png", 182, "holds the value 182, which is neither a category id of COCO less one"),
        ("annotations/val2017/a_labelTrainIds.png", 171, "171, which is neither the index of one of the 171 classes"),
    ],
)
def test_values_without_a_class_are_refused(name, value, message):
    data = open_maps({name: png(np.array([[0, value]], np.uint8))}, 1, 2)
    with pytest.raises(DataError, match=message):
        data.read_truth(0)


def test_splits_and_tasks():
    one = png(np.array([[0]], np.uint8))
    files = {f"stuffthingmaps/{split}2017/{split}.png": one for split in ("train", "val")}
    files |= {f"images/{split}2017/{split}.jpg": photo(1, 1) for split in ("train", "val")}
    storage = storage_of(files)
    assert coco_stuff.splits(storage) == ("train2017", "val2017")
    assert coco_stuff.read(storage, "val").names == ["val"]
    assert coco_stuff.read(storage, "train2017").names == ["train"]
    with pytest.raises(DataError, match="has the splits train2017, val2017: say which"):
        coco_stuff.read(storage)
    with pytest.raises(DataError, match="cannot be read for the task 'panoptic', only for semantic"):
        coco_stuff.read(storage, "val", "panoptic")
    with pytest.raises(DataError, match="holds no images with annotations where they are expected"):
        coco_stuff.read(storage_of({"stuffthingmaps/val2017/a.png": one}))
    with pytest.raises(DataError, match=r"1 image\(s\) have no partner"):
        coco_stuff.read(storage_of({**files, "images/val2017/b.jpg": photo(1, 1)}), "val")


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_layouts_are_recognised(name):
    assert coco_stuff.recognise(storage_of({name: b"", "val2017/a.jpg": b""}))


def test_other_pngs_are_not():
    names = ("annotations/panoptic_val2017/a.png", "annotations/training/ADE_1.png", "labels/val2017/a.png")
    assert not coco_stuff.recognise(storage_of(dict.fromkeys(names, b"")))
