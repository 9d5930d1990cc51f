"""Pascal VOC's class maps, objects and lists."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from annotated import expected, palette_png, photo, pieces, png, storage_of
from everymask.datasets import pascal_voc
from everymask.errors import DataError

SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 6))
CLASSES = st.sampled_from([0, 1, 15, 20, 255])


def files(classes, objects=None, name="2007_000032", lists=("train",)):
    found = {f"JPEGImages/{name}.jpg": photo(*classes.shape[:2])}
    found[f"SegmentationClass/{name}.png"] = palette_png(classes) if classes.ndim == 2 else png(classes)
    if objects is not None:
        found[f"SegmentationObject/{name}.png"] = palette_png(objects) if objects.dtype == np.uint8 else png(objects)
    return found | {f"ImageSets/Segmentation/{each}.txt": f"{name}\n".encode() for each in lists}


@settings(derandomize=True, deadline=None, max_examples=40)
@given(arrays(np.uint8, SHAPES, elements=CLASSES))
def test_semantic_truth(classes):
    data = pascal_voc.read(storage_of(files(classes)))
    assert data.tasks == ("semantic",)
    assert (data.conventions.ignore, data.conventions.offset) == ((255,), 0)
    truth = data.read_truth(0)
    assert pieces(truth) == expected((label, False, classes == label) for label in range(21))
    assert (truth.class_map(ignored=255) == classes).all()


@settings(derandomize=True, deadline=None, max_examples=40)
@given(arrays(np.uint8, SHAPES, elements=CLASSES), st.data())
def test_panoptic_and_instance_truth(classes, drawn):
    objects = drawn.draw(arrays(np.uint8, classes.shape, elements=st.sampled_from([0, 1, 2, 254, 255])))
    storage = storage_of(files(classes, objects))
    things = [(label, False, (classes == label) & (objects == each)) for label in (1, 15, 20) for each in (1, 2, 254)]

    panoptic = pascal_voc.read(storage)
    assert panoptic.tasks == ("panoptic", "instance", "semantic")
    assert pieces(panoptic.read_truth(0)) == expected([(0, False, classes == 0), *things])
    assert pieces(pascal_voc.read(storage, task="instance").read_truth(0)) == expected(things)
    semantic = pascal_voc.read(storage, task="semantic").read_truth(0)
    assert pieces(semantic) == expected((label, False, classes == label) for label in range(21))


def test_the_lists_are_the_splits():
    classes = np.zeros((2, 3), np.uint8)
    both = files(classes, name="b") | files(classes, name="a", lists=["val"])
    both |= {"ImageSets/Segmentation/trainval.txt": b"b\r\na\r\n", "JPEGImages/unlabelled.jpg": b""}
    both |= {"ImageSets/Main/train.txt": b"x", "Annotations/a.xml": b""}
    storage = storage_of(both)
    assert pascal_voc.recognise(storage)
    assert pascal_voc.splits(storage) == ("train", "trainval", "val")
    assert pascal_voc.read(storage, "train").names == ["b"]
    data = pascal_voc.read(storage, "trainval")
    assert data.names == ["a", "b"]
    assert data.labels.names[:2] == ("background", "aeroplane")
    assert data.read_image(0).shape == (2, 3, 3)
    assert not pascal_voc.recognise(storage_of({"JPEGImages/a.jpg": b""}))


@pytest.mark.parametrize(
    ("changes", "task", "message"),
    [
        (
            {"ImageSets/Segmentation/train.txt": b"a\nb\n"},
            None,
            r"1 of the 2 names in .*train.txt .*JPEGImages, .* is b",
        ),
        ({"ImageSets/Segmentation/train.txt": b"\n"}, None, r"train.txt names no images: write one name a line"),
        (
            {"ImageSets/Segmentation/train.txt": None},
            None,
            r"where they are expected, .*ImageSets/Segmentation/train.txt",
        ),
        ({"SegmentationClass/a.png": None}, None, r"holds no images with annotations"),
        (
            {"SegmentationObject/a.png": None},
            "panoptic",
            r"only for semantic: that needs the folder SegmentationObject",
        ),
        (
            {"SegmentationObject/a.png": None, "SegmentationObject/b.png": b""},
            "panoptic",
            r"1 of the 1 names .* have no file in data/SegmentationObject, the first is a: add what is missing",
        ),
    ],
)
def test_incomplete_data(changes, task, message):
    zeros = np.zeros((2, 3), np.uint8)
    found = files(zeros, zeros, name="a") | changes
    with pytest.raises(DataError, match=message):
        pascal_voc.read(
            storage_of({name: content for name, content in found.items() if content is not None}), None, task
        )


def test_objects_may_be_missing_for_classes_alone():
    zeros = np.zeros((2, 3), np.uint8)
    found = files(zeros, name="a") | {"SegmentationObject/b.png": b""}
    assert pascal_voc.read(storage_of(found), task="semantic").read_truth(0).size == (2, 3)


@pytest.mark.parametrize(
    ("classes", "objects", "message"),
    [
        (
            [[21]],
            None,
            r"holds the value 21, which is neither one of the 21 classes nor the ignored 255: is this Pascal",
        ),
        ([[21]], [[1]], r"SegmentationClass/.* holds the value 21"),
        ([[1]], [[256]], r"SegmentationObject/.* holds the value 256: instances are 1 to 254"),
        ([[1]], [[1, 1]], r"have different sizes"),
        ([[(128, 0, 0)]], None, r"has the mode RGB: .* not colours; replace each colour"),
    ],
)
def test_annotations_that_are_wrong(classes, objects, message):
    objects = None if objects is None else np.array(objects, np.uint16 if np.max(objects) > 255 else np.uint8)
    data = pascal_voc.read(storage_of(files(np.array(classes, np.uint8), objects)))
    with pytest.raises(DataError, match=message):
        data.read_truth(0)
