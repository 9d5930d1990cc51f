"""Mapillary Vistas' class maps and instances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from annotated import expected, palette_png, photo, pieces, png, storage_of
from everymask.datasets import mapillary_vistas
from everymask.datasets.storage import Storage
from everymask.errors import DataError
from everymask.labels import label_set

SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 6))
CLASSES = st.sampled_from([0, 2, 13, 43, 55, 64, 65])  # Bird, Curb, Road, Pothole, Car, Ego Vehicle, unlabelled
THINGS = (0, 55)


def files(labels=None, instances=None, split="training", version="v1.2/", name="a"):
    shape = (labels if labels is not None else instances).shape
    found = {f"{split}/images/{name}.jpg": photo(*shape)}
    if labels is not None:
        found[f"{split}/{version}labels/{name}.png"] = palette_png(labels)
    if instances is not None:
        found[f"{split}/{version}instances/{name}.png"] = png(instances)
    return found


@settings(derandomize=True, deadline=None, max_examples=40)
@given(arrays(np.uint8, SHAPES, elements=CLASSES), st.sampled_from(["v1.2/", ""]))
def test_semantic_truth(stored, version):
    data = mapillary_vistas.read(storage_of(files(stored, version=version)))
    assert data.tasks == ("semantic",)
    assert data.conventions.ignore == (65,)
    assert pieces(data.read_truth(0)) == expected((label, False, stored == label) for label in range(65))


@settings(derandomize=True, deadline=None, max_examples=40)
@given(arrays(np.uint8, SHAPES, elements=CLASSES), st.data())
def test_panoptic_and_instance_truth(stored, drawn):
    instance = drawn.draw(arrays(np.uint16, stored.shape, elements=st.sampled_from([0, 1, 255])))
    numbers = stored.astype(np.uint16) * 256 + instance
    semantic = [(label, False, stored == label) for label in range(65)]
    things = [(label, False, numbers == label * 256 + each) for label in THINGS for each in (0, 1, 255)]
    storage = storage_of(files(stored, numbers))
    stuff = [each for each in semantic if each[0] not in THINGS]
    assert not any(label_set("mapillary-vistas").things[label] for label in (2, 13, 43, 64))

    panoptic = mapillary_vistas.read(storage)
    assert panoptic.tasks == ("panoptic", "instance", "semantic")
    assert pieces(panoptic.read_truth(0)) == expected(stuff + things)
    assert pieces(mapillary_vistas.read(storage, task="instance").read_truth(0)) == expected(things)
    for each in (storage, storage_of(files(None, numbers))):
        assert pieces(mapillary_vistas.read(each, task="semantic").read_truth(0)) == expected(semantic)


def test_splits():
    stored = np.full((2, 3), 13, np.uint8)
    testing = {"testing/images/t.jpg": b"", "config_v1.2.json": b"{}"}
    storage = storage_of(files(stored) | files(stored, split="validation", name="b") | testing)
    assert mapillary_vistas.recognise(storage)
    assert mapillary_vistas.splits(storage) == ("training", "validation")
    assert mapillary_vistas.read(storage, "val").names == ["b"]
    assert mapillary_vistas.read(storage, "train").name == "Mapillary Vistas training"


@pytest.mark.parametrize("opened", ["vistas", "vistas/validation"])
def test_one_split_alone(tmp_path, opened):
    for name, content in files(np.full((2, 3), 13, np.uint8), split="validation").items():
        path = tmp_path / "vistas" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    storage = Storage.open(tmp_path / opened)
    assert mapillary_vistas.recognise(storage)
    assert mapillary_vistas.splits(storage) == ("validation",)
    for split in (None, "val", "validation"):
        data = mapillary_vistas.read(storage, split)
        assert data.read_truth(0).class_map().tolist() == [[13] * 3] * 2
    with pytest.raises(DataError, match="has no split 'train'"):
        mapillary_vistas.read(storage, "train")


def test_what_is_wrong():
    stored = np.array([[66, 0]], np.uint8)
    with pytest.raises(
        DataError, match=r"labels/a.png holds the value 66, which is none of the classes 0 to 65: is it"
    ):
        mapillary_vistas.read(storage_of(files(stored))).read_truth(0)
    with pytest.raises(
        DataError, match=r"instances/a.png holds the value 16896, .* 0 to 65 times 256 plus an instance"
    ):
        mapillary_vistas.read(storage_of(files(None, stored.astype(np.uint16) * 256))).read_truth(0)
    second = storage_of(files(stored, version="v2.0/"))
    assert mapillary_vistas.recognise(second)
    with pytest.raises(DataError, match=r"holds version 2.0 of Mapillary Vistas, .* unpack the folders v1.2"):
        mapillary_vistas.read(second)
    with pytest.raises(DataError, match="where they are expected, training/images/NAME"):
        mapillary_vistas.read(storage_of({"training/images/a.jpg": b""}))
    with pytest.raises(DataError, match="only for semantic: that needs the folder instances beside labels"):
        mapillary_vistas.read(storage_of(files(stored)), task="panoptic")
    assert not mapillary_vistas.recognise(storage_of({"images/a.jpg": b"", "labels/a.png": b""}))
