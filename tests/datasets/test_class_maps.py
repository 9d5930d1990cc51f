"""The CamVid-shaped folder reader."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from everymask.datasets.class_maps import ignored_values, list_class_maps, read_class_map
from everymask.errors import DataError
from everymask.geometry import Size

CAMVID = Path(__file__).parents[3] / "shared" / "data" / "camvid"


@pytest.fixture
def data(tmp_path):
    for kind in ("images", "labels"):
        (tmp_path / kind / "val").mkdir(parents=True)
    for name in ("b", "a"):
        Image.new("RGB", (4, 3)).save(tmp_path / "images" / "val" / f"{name}.jpg")
        Image.fromarray(np.full((3, 4), 2, np.uint8)).save(tmp_path / "labels" / "val" / f"{name}.png")
    return tmp_path


def test_pairs_come_by_name(data):
    pairs = list_class_maps(data, "val")
    assert [(pair.image.name, pair.labels.name) for pair in pairs] == [("a.jpg", "a.png"), ("b.jpg", "b.png")]
    assert (read_class_map(pairs[0].labels, Size(3, 4), 3) == 2).all()


def test_camvid_reads_whole():
    if not CAMVID.is_dir():
        pytest.skip("the shared CamVid data is not here")
    assert [len(list_class_maps(CAMVID, split)) for split in ("train", "val", "test")] == [367, 101, 233]
    pair = list_class_maps(CAMVID, "test")[0]
    classes = read_class_map(pair.labels, Size(360, 480), 11)
    assert (classes == np.asarray(Image.open(pair.labels))).all()
    assert classes.max() == 11


def test_hidden_files_are_not_data(data):
    (data / "images" / "val" / ".DS_Store").write_bytes(b"x")
    assert len(list_class_maps(data, "val")) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: (d / "labels/val/a.png").unlink(), r"1 image\(s\) have no partner in .*labels.val, the first is a"),
        (lambda d: (d / "images/val/b.jpg").unlink(), r"1 label file\(s\) have no partner in .*images.val.*is b"),
        (lambda d: Image.new("RGB", (4, 3)).save(d / "images/val/a.png"), "holds both a.jpg and a.png"),
        (lambda d: [f.unlink() for f in (*d.glob("images/val/*"), *d.glob("labels/val/*"))], "holds no images"),
        (lambda d: (d / "images").rename(d / "pictures"), "images.val is not a folder: the data is expected as"),
    ],
)
def test_incomplete_data_is_refused(data, change, message):
    change(data)
    with pytest.raises(DataError, match=message):
        list_class_maps(data, "val")


def grey(values):
    return Image.fromarray(np.array(values, np.uint8))


def test_void_and_255_are_ignored_values_and_a_palette_is_not_colours(tmp_path):
    picture = grey([[0, 1, 2], [11, 255, 10]]).convert("P")
    picture.putdata([0, 1, 2, 11, 255, 10])
    picture.save(tmp_path / "p.png")
    classes = read_class_map(tmp_path / "p.png", Size(2, 3), 11)
    assert classes.tolist() == [[0, 1, 2], [11, 255, 10]]
    assert set(ignored_values(11)) == {11, 255}


def test_more_than_255_classes(tmp_path):
    Image.fromarray(np.array([[0, 255, 846, 65535, 847]], np.uint16)).save(tmp_path / "l.png")
    assert read_class_map(tmp_path / "l.png", Size(1, 5), 847).tolist() == [[0, 255, 846, 65535, 847]]
    assert set(ignored_values(847)) == {847, 65535}


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (grey([[0, 1, 12]]), "holds the value 12, which is neither one of the 11 classes nor the ignored 11 or 255"),
        (grey([[0, 1]]), "is 2 x 1 pixels and its image 3 x 1"),
        (Image.new("RGB", (3, 1)), "has the mode RGB: .*not colours"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path, picture, message):
    picture.save(tmp_path / "labels.png")
    with pytest.raises(DataError, match=rf"labels\.png {message}"):
        read_class_map(tmp_path / "labels.png", Size(1, 3), 11)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"])
def test_unreadable_labels_are_refused(tmp_path, content):
    (tmp_path / "labels.png").write_bytes(content)
    with pytest.raises(DataError, match=r"labels\.png cannot be read as a PNG"):
        read_class_map(tmp_path / "labels.png", Size(1, 3), 11)


def test_a_truncated_png_is_refused(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 11, (40, 40), np.uint8)).save(tmp_path / "labels.png")
    content = (tmp_path / "labels.png").read_bytes()
    (tmp_path / "labels.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="cannot be read as a PNG"):
        read_class_map(tmp_path / "labels.png", Size(40, 40), 11)
