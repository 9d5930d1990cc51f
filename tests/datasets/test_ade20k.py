"""ADE20K's class maps and instances."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from annotated import expected, photo, pieces, png, storage_of
from everymask.datasets import ade20k
from everymask.errors import DataError
from everymask.labels import label_set

SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 6))
# The annotations' README: things are counted from 1; bed, windowpane and cabinet are 1, 2 and 3, flag is 100.
THINGS = {1: 7, 2: 8, 3: 10, 100: 149}
NAME = "ADE_val_00000001"


def storage(semantic=None, instances=None, split="validation", name=NAME):
    shape = (semantic if semantic is not None else instances).shape
    files = {f"images/{split}/{name}.jpg": photo(*shape[:2])}
    if semantic is not None:
        files[f"annotations/{split}/{name}.png"] = png(semantic)
    if instances is not None:
        files[f"annotations_instance/{split}/{name}.png"] = png(instances)
    return storage_of(files)


def rgb(red, green):
    return np.stack((red, green, np.full_like(red, 77)), axis=2).astype(np.uint8)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(arrays(np.uint8, SHAPES, elements=st.sampled_from([0, 1, 2, 8, 9, 11, 150])))
def test_semantic_truth(stored):
    data = ade20k.read(storage(stored))
    assert data.tasks == ("semantic",)
    truth = data.read_truth(0)
    assert pieces(truth) == expected((label, False, stored == label + 1) for label in range(150))
    assert (truth.class_map(ignored=-1) == stored.astype(int) - 1).all()


@settings(derandomize=True, deadline=None, max_examples=40)
@given(arrays(np.uint8, SHAPES, elements=st.sampled_from([0, 1, 2, 8, 9, 11, 150])), st.data())
def test_panoptic_and_instance_truth(stored, drawn):
    green = drawn.draw(arrays(np.uint8, stored.shape, elements=st.sampled_from([0, 1, 2, 7, 255])))
    class_of = dict(zip((1, 2, 7, 255), (1, 100, 2, 1), strict=True))
    red = np.vectorize(lambda instance: class_of.get(instance, 0), otypes=[np.uint8])(green)
    files = storage(stored, rgb(red, green))
    instances = [(THINGS[class_of[each]], False, green == each) for each in class_of]
    # Mask2Former's prepare_ade20k_pan_seg pastes stuff first and the instances over it.
    is_stuff = [not thing for thing in label_set("ade20k").things]
    stuff = [(label, False, (stored == label + 1) & (green == 0)) for label in range(150) if is_stuff[label]]

    panoptic = ade20k.read(files)
    assert panoptic.tasks == ("panoptic", "instance", "semantic")
    assert pieces(panoptic.read_truth(0)) == expected(stuff + instances)
    alone = ade20k.read(files, task="instance")
    assert alone.tasks == ("instance",)
    assert pieces(alone.read_truth(0)) == expected(instances)
    assert pieces(ade20k.read(storage(None, rgb(red, green))).read_truth(0)) == expected(instances)
    semantic = ade20k.read(files, task="semantic").read_truth(0)
    assert (semantic.class_map() == stored.astype(int) - 1).all()


def test_panoptic_annotations_as_mask2former_prepares_them():
    generator = np.random.default_rng(0)
    stored = generator.choice([0, 1, 2, 8], (8, 12)).astype(np.uint8)
    green = generator.choice([0, 0, 1, 2], (8, 12)).astype(np.uint8)
    both = storage(stored, rgb(np.where(green, 1, 0).astype(np.uint8), green))
    truth = ade20k.read(both).read_truth(0)

    ids = np.zeros(stored.shape, np.int64)
    infos = []
    for place, segment in enumerate(truth.segments, 1):
        id = 1000 * place + segment.label_id
        ids[truth.id_map == place] = id
        infos.append({"id": id, "category_id": segment.label_id, "area": segment.area, "iscrowd": 0, "bbox": [0] * 4})
    labels = label_set("ade20k")
    document = {
        "images": [{"id": NAME, "file_name": f"{NAME}.jpg", "width": 12, "height": 8}],
        "annotations": [{"image_id": NAME, "file_name": f"{NAME}.png", "segments_info": infos}],
        "categories": [
            {"id": index, "name": labels.names[index], "isthing": int(thing), "color": labels.colors[index]}
            for index, thing in enumerate(labels.things)
        ],
    }
    files = storage(stored).source.files | {
        "ade20k_panoptic_val.json": json.dumps(document).encode(),
        f"ade20k_panoptic_val/{NAME}.png": png(
            np.stack((ids % 256, ids // 256 % 256, ids // 65536), 2).astype(np.uint8)
        ),
    }
    for task in (None, "panoptic"):
        data = ade20k.read(storage_of(files), "val", task)
        assert data.labels == labels
        assert data.names == (NAME,)
        assert pieces(data.read_truth(0)) == pieces(truth)
        assert data.read_image(0).shape == (8, 12, 3)
    assert ade20k.read(storage_of(files), "val", "semantic").tasks == ("semantic",)
    # The instances themselves come first.
    with_instances = files | both.source.files
    assert ade20k.read(storage_of(with_instances)).conventions == ade20k.CONVENTIONS


def test_splits_labels_and_conventions():
    stored = np.ones((2, 3), np.uint8)
    files = storage(stored).source.files | storage(stored, split="training", name="ADE_train_00000002").source.files
    both = storage_of(files | {"images/testing/ADE_test_1.jpg": b"", "objectInfo150.txt": b""})
    assert ade20k.recognise(both)
    assert ade20k.splits(both) == ("training", "validation")
    data = ade20k.read(both, "val")
    assert data.names == [NAME]
    assert data.name == "ADE20K validation"
    assert len(data.labels) == 150
    assert data.labels.names[149] == "flag"
    assert (data.conventions.ignore, data.conventions.offset) == ((0,), 1)
    assert ade20k.read(both, "train").names == ["ADE_train_00000002"]
    assert not ade20k.recognise(storage(stored, name="mine"))


def test_a_task_that_takes_other_files():
    stored = np.ones((2, 3), np.uint8)
    with pytest.raises(DataError, match=r"for the task 'panoptic', only for semantic: .* takes both"):
        ade20k.read(storage(stored), task="panoptic")
    with pytest.raises(DataError, match="only for instance"):
        ade20k.read(storage(None, rgb(stored, stored)), task="semantic")


@pytest.mark.parametrize(
    ("semantic", "instances", "message"),
    [
        ([[151]], None, r"annotations/.*png holds the value 151; .* is this the 150-class version"),
        (None, [[(101, 1, 0)]], r"gives instance 1 the class 101 \(red\), which is none of the things 1 to 100"),
        (None, [[(0, 3, 0)]], r"gives instance 3 the class 0 \(red\)"),
        (None, [[(5, 3, 0), (6, 3, 0)]], r"gives instance 3 \(green\) the classes 5 and 6 \(red\)"),
        (None, [[1]], r"has the mode L: these annotations are RGB PNGs"),
        ([[1, 1]], [[(5, 3, 0)]], r"annotations/.*png and data/annotations_instance/.*png have different sizes"),
        ([[(1, 1, 1)]], None, r"has the mode RGB: .* not colours"),
    ],
)
def test_annotations_that_are_wrong(semantic, instances, message):
    semantic, instances = (None if each is None else np.array(each, np.uint8) for each in (semantic, instances))
    with pytest.raises(DataError, match=message):
        ade20k.read(storage(semantic, instances)).read_truth(0)


def test_missing_files():
    stored = np.ones((2, 3), np.uint8)
    files = storage(stored).source.files
    with pytest.raises(DataError, match="holds no images with annotations where they are expected, images/training"):
        ade20k.read(storage_of({f"images/validation/{NAME}.jpg": b""}))
    with pytest.raises(
        DataError, match=r"1 image\(s\) have no partner in data/annotations/validation, the first is ADE_x"
    ):
        ade20k.read(storage_of(files | {"images/validation/ADE_x.jpg": b""}))
