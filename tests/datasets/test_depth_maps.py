"""Depth beside the images of a plain folder: files that say what they hold, and files whose scale is stated."""

import io
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from annotated import photo, png, storage_of
from everymask.datasets import folder
from everymask.datasets.dataset import DepthDataSet
from everymask.datasets.opening import recognise_formats
from everymask.errors import DataError
from everymask.formats import depth_npz, depth_png, depth_tiff
from everymask.geometry import Size
from everymask.labels import LabelSet
from everymask.segmentation import Segmentation

STORED = arrays(np.uint16, st.tuples(st.integers(1, 6), st.integers(1, 6)))
LABELS = {"labels/a.png": png(np.zeros((2, 3), np.uint8)), "classes.json": b'["road"]'}


def saved(depth, kind="metric", format=depth_png):
    result = Segmentation("depth", Size(*depth.shape), (), None, LabelSet((), (), ()), depth=depth, depth_kind=kind)
    return next(iter(format.encode(result, "a").values()))


def one_image(depth, name="a.png", statement=b"scale: 1/256", size=(2, 3), **others):
    files = {"images/a.jpg": photo(*size), f"depth/{name}": depth, **others}
    return storage_of(files | ({"depth.yaml": statement} if statement else {}))


@settings(derandomize=True, deadline=None, max_examples=30)
@given(STORED, st.sampled_from([(b"scale: 1/256", 1 / 256), (b"unit: mm", 1e-3), (b"scale: 2\nunit: cm", 0.02)]))
def test_stored_numbers_are_steps(stored, stated):
    statement, step = stated
    storage = one_image(png(stored), statement=statement, size=stored.shape)
    assert recognise_formats(storage) == ("folder",)
    data = pickle.loads(pickle.dumps(folder.read(storage)))
    assert isinstance(data, DepthDataSet)
    assert (data.depth_kind, data.tasks, data.names, data.labels.names) == ("metric", ("depth",), ["a"], ())
    depth = data.read_depth(0)
    assert depth.dtype == np.float32
    assert depth == pytest.approx(stored * step, rel=1e-6)
    truth = data.read_truth(0)
    assert (truth.size, truth.segments) == (stored.shape, ())
    assert not truth.id_map.any()
    assert f"{step:g}" in data.conventions.depth


@pytest.mark.parametrize("kind", ["metric", "relative"])
@pytest.mark.parametrize(
    ("format", "name"),
    [(depth_png, "a.png"), (depth_png, "a.depth.PNG"), (depth_tiff, "a.tif"), (depth_npz, "a.depth.npz")],
)
def test_what_everymask_saved_says_itself_what_it_holds(kind, format, name):
    depth = np.array([[0.0, 1.5, 2.0], [4.0, 8.0, -1.0]], np.float32)
    if format is not depth_png:
        depth[0, 0] = np.nan
    data = folder.read(one_image(saved(depth, kind, format), name, statement=None, **{"depth/a.depth.json": b"{}"}))
    assert (data.depth_kind, data.tasks) == (kind, ("depth",))
    expected = np.where(depth > 0, depth, 0)
    assert data.read_depth(0) == pytest.approx(expected, abs=1e-3)
    assert data.read_depth(0)[1, 2] == 0


def test_depth_beside_labels_is_read_with_them():
    storage = one_image(png(np.full((2, 3), 512, np.uint16)), **LABELS)
    data = folder.read(storage)
    assert (data.tasks, data.labels.names) == (("semantic", "depth"), ("road",))
    assert data.read_truth(0).class_map().tolist() == [[0] * 3] * 2
    assert data.read_depth(0).tolist() == [[2.0] * 3] * 2
    alone = folder.read(storage, task="depth")
    assert (alone.tasks, alone.labels.names) == (("depth",), ())
    assert alone.read_truth(0).segments == ()


def test_the_list_of_classes_may_state_the_scale():
    labels = LABELS | {"classes.json": b'{"names": ["road"], "depth": {"scale": 0.5}}'}
    data = folder.read(one_image(png(np.full((2, 3), 3, np.uint16)), statement=None, **labels))
    assert data.read_depth(0).max() == 1.5
    with pytest.raises(DataError, match=r"depth.yaml and data/classes.json, depth both say"):
        folder.read(one_image(png(np.full((2, 3), 3, np.uint16)), **labels))


def test_splits_of_labels_and_splits_of_depth():
    depth, labels = png(np.full((2, 3), 512, np.uint16)), LABELS["labels/a.png"]
    storage = storage_of(
        {
            **{f"images/{split}/a.jpg": photo(2, 3) for split in ("train", "val", "test")},
            "labels/train/a.png": labels,
            "depth/train/a.png": depth,
            "depth/val/a.png": depth,
            "labels/test/a.png": labels,
            "classes.txt": b"road",
            "depth.json": b'{"scale": 0.001}',
        }
    )
    assert folder.splits(storage) == ("test", "train", "val")
    tasks = {split: folder.read(storage, split).tasks for split in folder.splits(storage)}
    assert tasks == {"test": ("semantic",), "train": ("semantic", "depth"), "val": ("depth",)}
    with pytest.raises(DataError, match="'semantic', only for depth: that needs the folder labels beside images"):
        folder.read(storage, "val", "semantic")
    with pytest.raises(DataError, match="'depth', only for semantic: that needs the folder depth beside images"):
        folder.read(storage, "test", "depth")


GREY = png(np.full((2, 3), 512, np.uint16))


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        (one_image(GREY, statement=None), "write data/depth.yaml with the metres of a step, as in scale: 1/256"),
        (one_image(GREY, statement=b"{}"), "depth.yaml must say how many metres"),
        (one_image(GREY, statement=b"scale: -1"), "scale is -1; it is a number above 0"),
        (one_image(GREY, statement=b"scale: [1]"), r"scale is \[1\]; it is a number"),
        (one_image(GREY, statement=b"scale: 1/0"), "scale is '1/0'"),
        (one_image(GREY, statement=b"unit: miles"), "unit is 'miles'; it is one of m, metres"),
        (one_image(GREY, statement=b"kind: relative\nunit: m"), "leave it out, for relative depth has none"),
        (one_image(GREY, statement=b"kind: far"), "kind is 'far'; it is one of metric, relative"),
        (one_image(GREY, statement=b"step: 3"), "must say scale, unit, kind"),
        (one_image(GREY, statement=b"1/256"), "must say scale, unit, kind"),
        (
            one_image(GREY, **{"images/b.jpg": photo(2, 3)}),
            r"1 image\(s\) have no partner in data/depth, .* b:",
        ),
        (one_image(GREY, **{"depth/b.png": GREY}), r"1 depth file\(s\) have no partner in data/images"),
        (one_image(GREY, **{"depth/a.tiff": GREY}), "depth/a.png and depth/a.tiff, and one of them is too many"),
    ],
)
def test_what_does_not_say_what_it_means_is_refused(storage, message):
    with pytest.raises(DataError, match=message):
        folder.read(storage)


def colours():
    return png(np.zeros((2, 3, 3), np.uint8))


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (png(np.full((4, 3), 5, np.uint16)), "a.png", "is 3 x 4 pixels and its image 3 x 2: depths must have the size"),
        (colours(), "a.png", "depth/a.png has the mode RGB"),
        (b"no picture", "a.png", "depth/a.png cannot be read as a PNG"),
        (b"no picture", "a.tiff", "cannot read data/depth/a.tiff as a depth TIFF"),
        (b"no archive", "a.npz", "cannot read data/depth/a.npz as a depth NPZ"),
        (saved(np.ones((2, 3), np.float32), "relative"), "a.png", "holds relative depth and the data set metric"),
    ],
)
def test_wrong_files_are_data_errors(content, name, message):
    with pytest.raises(DataError, match=message):
        folder.read(one_image(content, name)).read_depth(0)


def test_depth_of_a_photograph_that_exif_turns_lies_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = io.BytesIO()
    Image.new("RGB", (3, 2)).save(turned, "JPEG", exif=exif)
    storage = one_image(png(np.ones((3, 2), np.uint16)), **{"images/a.jpg": turned.getvalue()})
    assert folder.read(storage).read_depth(0).shape == (3, 2)
