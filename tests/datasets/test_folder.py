"""Plain folders and CamVid, which is one."""

import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from annotated import expected, palette_png, photo, pieces, png, storage_of
from everymask.datasets import camvid, folder
from everymask.datasets.storage import Storage
from everymask.errors import DataError
from shared import SHARED, needs_shared

CLASSES = b'{"names": ["road", "car", "sky"], "things": ["car"], "offset": 2, "ignore": [0, 255]}'
SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 6))
STORED = arrays(np.uint8, SHAPES, elements=st.sampled_from([0, 2, 3, 4, 255]))


def grey(rows):
    return png(np.array(rows, np.uint8))


def one_image(labels, classes=CLASSES, **files):
    height, width = np.asarray(labels).shape
    base = {"images/a.jpg": photo(height, width), "labels/a.png": png(np.asarray(labels)), "classes.json": classes}
    return storage_of(base | {name.replace("__", "/").replace("_", "."): content for name, content in files.items()})


@settings(derandomize=True, deadline=None, max_examples=40)
@given(STORED)
def test_semantic_truth(stored):
    data = folder.read(one_image(stored))
    truth = data.read_truth(0)
    assert pieces(truth) == expected((label, False, stored == label + 2) for label in range(3))
    assert (truth.class_map(ignored=9) == np.where(np.isin(stored, [0, 255]), 9, stored.astype(int) - 2)).all()
    assert data.tasks == ("semantic",)
    assert (data.conventions.offset, data.conventions.ignore) == (2, (0, 255))


@settings(derandomize=True, deadline=None, max_examples=40)
@given(STORED, st.data())
def test_instances(stored, drawn):
    instance = drawn.draw(arrays(np.uint16, stored.shape, elements=st.integers(0, 3)))
    # Where a thing has no instance, 0 and class * 256 say the same; so they do for stuff, with any instance.
    zero = drawn.draw(arrays(np.bool_, stored.shape))
    numbers = np.where(zero, 0, stored.astype(np.uint16) * 256 + instance).astype(np.uint16)
    storage = one_image(stored, instances__a_png=png(numbers))
    truly = np.where(zero, 0, instance)
    stuff = [(label, False, stored == label + 2) for label in (0, 2)]
    cars = [(1, number == 0, (stored == 3) & (truly == number)) for number in range(4)]

    panoptic = folder.read(storage)
    assert panoptic.tasks == ("panoptic", "instance", "semantic")
    assert pieces(panoptic.read_truth(0)) == expected(stuff + cars)
    assert pieces(folder.read(storage, task="instance").read_truth(0)) == expected(cars)
    semantic = folder.read(storage, task="semantic")
    assert pieces(semantic.read_truth(0)) == expected([*stuff, (1, False, stored == 3)])
    assert semantic.tasks == ("semantic",)


def test_instances_that_contradict_the_labels():
    labels = np.array([[2, 3]], np.uint8)
    storage = one_image(labels, instances__a_png=png(np.array([[0, 2 * 256 + 1]], np.uint16)))
    with pytest.raises(
        DataError, match=r"instances/a.png holds 2 \* 256 \+ 1 at x 1, y 0, so class 2, where .* holds 3:"
    ):
        folder.read(storage).read_truth(0)
    storage = one_image(labels, instances__a_png=png(np.array([[0]], np.uint16)))
    with pytest.raises(DataError, match=r"labels/a.png and data/instances/a.png have different sizes"):
        folder.read(storage).read_truth(0)
    storage = one_image(labels.astype(np.uint16) * 300, instances__a_png=png(np.array([[0, 0]], np.uint16)))
    with pytest.raises(DataError, match=r"holds the value 900: beside instances, labels hold 0 to 255"):
        folder.read(storage).read_truth(0)


def test_a_palette_is_only_for_looking_at():
    stored = np.array([[0, 2, 3], [4, 255, 3]], np.uint8)
    data = folder.read(one_image(stored, labels__a_png=palette_png(stored)))
    assert data.read_truth(0).class_map().tolist() == [[-1, 0, 1], [2, -1, 1]]


def test_more_than_255_classes():
    names = "".join(f"class {each}\n" for each in range(847)).encode()
    stored = np.array([[0, 255, 846, 65535]], np.uint16)
    storage = storage_of({"images/a.jpg": photo(1, 4), "labels/a.png": png(stored), "classes.txt": names})
    assert folder.read(storage).read_truth(0).class_map().tolist() == [[0, 255, 846, -1]]
    storage = storage_of({"images/a.jpg": photo(1, 4), "labels/a.png": png(stored + 1), "classes.txt": names})
    with pytest.raises(
        DataError, match=r"847, which is neither one of the 847 classes, stored as 0 to 846, nor .* 65535"
    ):
        folder.read(storage).read_truth(0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            grey([[1, 2, 3]]),
            r"holds the value 1, which is neither one of the 3 classes, stored as 2 to 4, nor .* 0 or 255",
        ),
        (png(np.zeros((1, 3, 3), np.uint8)), r"has the mode RGB: labels must be single-channel PNGs .* not colours"),
        (photo(1, 3), r"cannot be read as a PNG: .*save it as a PNG"),
        (b"", r"cannot be read as a PNG"),
        (grey(np.random.default_rng(0).integers(2, 5, (40, 40)))[:-300], r"cannot be read as a PNG"),
    ],
)
def test_labels_that_are_wrong(content, message):
    data = folder.read(one_image(np.array([[2, 2, 2]], np.uint8), labels__a_png=content))
    with pytest.raises(DataError, match=rf"data/labels/a\.png {message}"):
        data.read_truth(0)


@pytest.fixture
def splits(tmp_path):
    root = tmp_path / "mine"
    for split, names in (("train", "abc"), ("val", "de")):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for index, name in enumerate(names):
            (root / "images" / split / f"{name}.jpg").write_bytes(photo(3, 4 + index))
            (root / "labels" / split / f"{name}.png").write_bytes(png(np.full((3, 4 + index), index, np.uint8)))
    (root / "classes.txt").write_text("road\ncar\nsky\n")
    return root


@pytest.mark.parametrize("packed", [False, True])
def test_splits_of_a_folder_and_of_a_zip(splits, tmp_path, packed):
    location = splits
    if packed:
        location = tmp_path / "mine.zip"
        with zipfile.ZipFile(location, "w") as archive:
            for path in splits.rglob("*.*"):
                archive.write(path, path.relative_to(tmp_path))
    storage = Storage.open(location)
    assert folder.recognise(storage)
    assert folder.splits(storage) == ("train", "val")
    data = folder.read(storage, "train")
    assert data.names == ["a", "b", "c"]
    assert data.labels.names == ("road", "car", "sky")
    assert [data.read_truth(index).class_map().max() for index in range(3)] == [0, 1, 2]
    assert [data.read_image(index).shape for index in range(3)] == [(3, 4, 3), (3, 5, 3), (3, 6, 3)]
    assert data.source(1).replace("\\", "/").endswith("images/train/b.jpg")
    with pytest.raises(DataError, match="has the splits train, val: say which"):
        folder.read(storage)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: (d / "labels/val/d.png").unlink(), r"1 image\(s\) have no partner in .*labels.val, the first is d"),
        (lambda d: (d / "images/val/e.jpg").unlink(), r"1 label file\(s\) have no partner in .*images.val.*is e"),
        (
            lambda d: Image.new("RGB", (4, 3)).save(d / "images/val/d.png"),
            r"both images/val/d.jpg and images/val/d.png",
        ),
        (
            lambda d: [f.unlink() for f in d.glob("labels/val/*")],
            "has no split 'val' with images and annotations; .* train",
        ),
        (lambda d: (d / "images").rename(d / "pictures"), "holds no images with annotations where they are expected"),
        (lambda d: (d / "classes.txt").unlink(), "has no list of classes: write classes.txt"),
        (lambda d: (d / "images/val/d.jpg").rename(d / "images/d.jpg"), r"label file\(s\) have no partner"),
    ],
)
def test_incomplete_folders(splits, change, message):
    change(splits)
    with pytest.raises(DataError, match=message):
        folder.read(Storage.open(splits), "val")


def test_what_is_no_data_is_left_out(splits):
    (splits / "images/val/.DS_Store").write_bytes(b"x")
    assert folder.read(Storage.open(splits), "val").names == ["d", "e"]


def camvid_like(names, image="images/test/{}.jpg", label="labels/test/{}.png", stored=((0, 10), (11, 255))):
    labels = np.array(stored, np.uint8)
    files = {image.format(name): photo(*labels.shape) for name in names}
    return storage_of(files | {label.format(name): png(labels) for name in names})


@pytest.mark.parametrize(
    "layout", [{}, {"image": "test/{}.png", "label": "testannot/{}.png"}, {"image": "images/test/{}.png"}]
)
def test_camvid_in_both_layouts(layout):
    storage = camvid_like(["0001TP_008550", "Seq05VD_f00000"], **layout)
    assert camvid.recognise(storage)
    data = camvid.read(storage)
    assert data.names == ["0001TP_008550", "Seq05VD_f00000"]
    assert data.name == "CamVid test"
    assert data.labels.names[8] == "car"
    assert data.tasks == ("semantic",)
    assert data.read_truth(1).class_map().tolist() == [[0, 10], [-1, -1]]
    with pytest.raises(DataError, match="cannot be read for the task 'panoptic', only for semantic"):
        camvid.read(storage, task="panoptic")


def test_what_is_not_camvid():
    assert not camvid.recognise(camvid_like(["a"]))
    listed = camvid_like(["0001TP_008550"])
    assert not camvid.recognise(storage_of(listed.source.files | {"classes.txt": b"a"}))
    with pytest.raises(DataError, match=r"holds the value 12, which is neither one of the 11 classes"):
        camvid.read(camvid_like(["a"], stored=((12, 0),))).read_truth(0)


@needs_shared
def test_camvid_reads_whole():
    storage = Storage.open(SHARED / "data" / "camvid")
    assert camvid.recognise(storage)
    assert camvid.splits(storage) == ("test", "train", "val")
    data = {split: camvid.read(storage, split) for split in camvid.splits(storage)}
    assert {split: len(each.names) for split, each in data.items()} == {"train": 367, "val": 101, "test": 233}
    for index in (0, 100, 232):
        name = data["test"].names[index]
        stored = np.asarray(Image.open(SHARED / "data" / "camvid" / "labels" / "test" / f"{name}.png")).astype(int)
        assert (data["test"].read_truth(index).class_map() == np.where(stored == 11, -1, stored)).all()
        assert data["test"].read_image(index).shape == (360, 480, 3)
