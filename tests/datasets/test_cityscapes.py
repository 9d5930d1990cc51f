"""Cityscapes' ids, train ids and instances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from annotated import expected, photo, pieces, png, storage_of
from everymask.datasets import cityscapes
from everymask.errors import DataError

SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 6))
NAME = "aachen/aachen_000000_000019"
# helpers/labels.py of cityscapesScripts: id, train id and whether it has instances, of all that is evaluated.
TRAIN_IDS = {
    7: 0,
    8: 1,
    11: 2,
    12: 3,
    13: 4,
    17: 5,
    19: 6,
    20: 7,
    21: 8,
    22: 9,
    23: 10,
    24: 11,
    25: 12,
    26: 13,
    27: 14,
    28: 15,
    31: 16,
    32: 17,
    33: 18,
}
HAVE_INSTANCES = (24, 25, 26, 27, 28, 31, 32, 33)


def storage(split="train", name=NAME, **annotations):
    shape = next(iter(annotations.values())).shape
    files = {f"leftImg8bit/{split}/{name}_leftImg8bit.png": photo(*shape[:2], "PNG")}
    for kind, values in annotations.items():
        files[f"gtFine/{split}/{name}_gtFine_{kind}.png"] = png(values)
    return storage_of(files)


def semantic_pieces(ids):
    return expected((train_id, False, ids == id) for id, train_id in TRAIN_IDS.items())


@settings(derandomize=True, deadline=None, max_examples=40)
@given(arrays(np.uint8, SHAPES, elements=st.integers(0, 33)))
def test_ids_and_train_ids_say_the_same(ids):
    data = cityscapes.read(storage(labelIds=ids))
    assert data.tasks == ("semantic",)
    assert data.conventions.ignore == (0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30)
    assert pieces(data.read_truth(0)) == semantic_pieces(ids)

    train_ids = np.vectorize(lambda id: TRAIN_IDS.get(id, 255), otypes=[np.uint8])(ids)
    data = cityscapes.read(storage(labelTrainIds=train_ids))
    assert data.conventions.ignore == (255,)
    assert pieces(data.read_truth(0)) == semantic_pieces(ids)
    assert (data.read_truth(0).class_map(ignored=255) == train_ids).all()


def panoptic_by_cityscapesscripts(numbers):
    """The rules of cityscapesScripts' createPanopticImgs, with train ids: (train id, crowd, mask) of every segment."""
    segments = []
    for number in np.unique(numbers):
        id, crowd = (number, True) if number < 1000 else (number // 1000, False)
        if id in TRAIN_IDS:
            segments.append((TRAIN_IDS[id], crowd and id in HAVE_INSTANCES, numbers == number))
    return segments


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    arrays(np.uint16, SHAPES, elements=st.sampled_from([0, 3, 7, 11, 24, 26, 33, 24000, 26000, 26001, 29001, 33999]))
)
def test_instances_and_groups(numbers):
    segments = panoptic_by_cityscapesscripts(numbers)
    ids = np.where(numbers < 1000, numbers, numbers // 1000).astype(np.uint8)
    files = storage(labelIds=ids, instanceIds=numbers)

    panoptic = cityscapes.read(files)
    assert panoptic.tasks == ("panoptic", "instance", "semantic")
    assert len(panoptic.labels) == 19
    assert pieces(panoptic.read_truth(0)) == expected(segments)

    instance = cityscapes.read(files, task="instance")
    assert instance.labels.names == ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
    things = [(train_id - 11, crowd, mask) for train_id, crowd, mask in segments if train_id >= 11]
    assert pieces(instance.read_truth(0)) == expected(things)

    for semantic in (files, storage(instanceIds=numbers)):
        data = cityscapes.read(semantic, task="semantic")
        assert data.tasks == ("semantic",)
        assert pieces(data.read_truth(0)) == semantic_pieces(ids)


def test_splits_and_cities():
    ids = np.full((2, 3), 7, np.uint8)
    files = storage(labelIds=ids).source.files | storage("val", "ulm/ulm_000000_000019", labelIds=ids).source.files
    other = storage(name="aachen/aachen_000001_000019", labelIds=ids).source.files
    both = storage_of(files | other | {"leftImg8bit/test/bonn/b_leftImg8bit.png": b"", "README": b""})
    assert cityscapes.recognise(both)
    assert cityscapes.splits(both) == ("train", "val")
    assert cityscapes.read(both, "train").names == [NAME, "aachen/aachen_000001_000019"]
    data = cityscapes.read(both, "val")
    assert data.source(0) == "data/leftImg8bit/val/ulm/ulm_000000_000019_leftImg8bit.png"
    assert data.read_image(0).shape == (2, 3, 3)
    assert not cityscapes.recognise(storage_of({"leftImg8bit/a.png": b""}))


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (
            "labelIds",
            34,
            r"labelIds.png holds the value 34, which is no id of Cityscapes, 0 to 33, alone or times 1000",
        ),
        ("labelTrainIds", 19, r"labelTrainIds.png holds the value 19; labelTrainIds are 0 to 18, and 255"),
        ("instanceIds", 999, r"instanceIds.png holds the value 999, which is no id"),
        ("instanceIds", 34001, r"instanceIds.png holds the value 34001, which is no id"),
    ],
)
def test_values_that_mean_nothing(kind, value, message):
    data = cityscapes.read(storage(**{kind: np.array([[7, value]], np.uint16)}))
    with pytest.raises(DataError, match=message):
        data.read_truth(0)


def test_missing_files():
    ids = np.full((2, 3), 7, np.uint8)
    with pytest.raises(
        DataError, match="only for semantic: gtFine/train needs the files that end with _gtFine_instanceIds"
    ):
        cityscapes.read(storage(labelIds=ids), task="instance")
    with pytest.raises(
        DataError, match="holds no images with annotations where they are expected, leftImg8bit/train/CITY"
    ):
        cityscapes.read(storage_of({"leftImg8bit/train/a/a_leftImg8bit.png": b""}))
    more = storage(labelIds=ids).source.files | {"leftImg8bit/train/ulm/u_leftImg8bit.png": b""}
    with pytest.raises(
        DataError, match=r"1 image\(s\) have no partner in data/gtFine/train/aachen, the first is ulm/u"
    ):
        cityscapes.read(storage_of(more))
