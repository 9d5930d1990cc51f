"""Seeded faults of the numbers in label pictures: each is found as what it is, and its fix cures it."""

import json

import numpy as np
import pytest
from clean_sets import (
    CLASSES,
    FORMATS,
    IGNORED,
    PALETTE,
    blocks,
    class_file,
    every,
    folder,
    load,
    save,
    save_photograph,
)
from faults import cured, note, only_alarm, run
from PIL import Image

from everymask.labels import label_set


def each_label(root, change, pattern="labels/*/*.png"):
    """Replaces every label picture by what ``change`` makes of its numbers."""
    paths = sorted(root.glob(pattern))
    assert paths
    for path in paths:
        save(path, change(load(path)))


def names_in(names, values, root):
    """A plain folder whose classes have ``names`` and whose labels hold ``values``."""
    root.mkdir(exist_ok=True)
    (root / "classes.txt").write_text("\n".join(names) + "\n")
    for number, (split, name, seed) in enumerate(every()):
        save_photograph(root / "images" / split / f"{name}.jpg", seed)
        some = [values[(20 * number + place) % len(values)] for place in range(20)]
        save(root / "labels" / split / f"{name}.png", blocks(seed, some))


def test_one_too_high_as_in_ade20k(tmp_path):
    """0 is unlabelled, the classes are 1 to N, and the data set declares 0 to N - 1."""
    folder(tmp_path)
    each_label(tmp_path, lambda a: np.where(a == IGNORED, 0, a + 1))
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity, found.count) == ("offset-by-one", "error", 8)
    assert "go up to 5, and the 5 classes are stored as 0 to 4" in found.message
    assert found.fix.startswith("classes.yaml: set offset: 1 and ignore: [0, 255]; where 5 means unlabelled instead")
    class_file(tmp_path, offset=1, ignore=[0, 255])
    assert cured(tmp_path)


def test_one_too_high_without_unlabelled_pixels(tmp_path):
    folder(tmp_path, values=range(5))
    (tmp_path / "classes.yaml").unlink()
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    each_label(tmp_path, lambda a: a + 1)
    found = only_alarm(tmp_path)
    assert (found.kind, found.count) == ("offset-by-one", 8)
    assert "one too high: 0 (the first class, 'ground') never occurs, and 5 does" in found.message
    run(found.fix, tmp_path)  # writes classes.yaml in place of classes.txt
    assert cured(tmp_path)
    assert not (tmp_path / "classes.txt").exists()


def test_one_too_high_in_a_published_layout(tmp_path):
    FORMATS["camvid"](tmp_path)
    each_label(tmp_path, lambda a: a + 1)
    found = only_alarm(tmp_path)
    assert (found.kind, found.count) == ("offset-by-one", 8)
    assert "(the first class, 'sky') never occurs, and 12 does" in found.message
    run(found.fix, tmp_path)
    assert cured(tmp_path)


def test_one_too_high_where_the_void_hides_it(tmp_path):
    """CamVid without void: the last class is stored as 11, which is ignored, and no value is unknown."""
    FORMATS["camvid"](tmp_path)
    each_label(tmp_path, lambda a: np.where(a == 11, 1, a + 1))
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity, found.count) == ("offset-by-one", "warning", 8)


def test_one_too_low(tmp_path):
    """ADE20K's labels after "reduce_labels": 0 is the wall and 255 is ignored."""
    FORMATS["ade20k"](tmp_path)
    each_label(tmp_path, lambda a: np.where(a == 0, 255, a - 1), "annotations/*/*.png")
    found = only_alarm(tmp_path)
    assert (found.kind, found.count) == ("offset-by-one", 8)
    assert "one too low: 0 is declared ignored, but 255 is what is ignored, and 150" in found.message
    run(found.fix, tmp_path)
    assert cured(tmp_path)


def test_one_too_low_in_a_plain_folder(tmp_path):
    folder(tmp_path, offset=1)
    found = only_alarm(tmp_path)
    assert (found.kind, found.fix) == ("offset-by-one", "classes.yaml: set offset: 0 and ignore: [255]")
    class_file(tmp_path, offset=0, ignore=[255])
    assert cured(tmp_path)


def test_white_masks_that_are_a_class(tmp_path):
    """0 and 255 for looking at; 255 is ignored by default, so that no object is left."""
    names_in(["background", "crack"], [0, 255], tmp_path)
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity, found.count) == ("ignore-255-used-as-class", "error", 8)
    assert "'crack', whose value is 1" in found.message
    run(found.fix, tmp_path)
    assert cured(tmp_path)
    assert set(np.unique(load(tmp_path / "labels" / "val" / "a.png"))) == {0, 1}


def test_255_that_nobody_declared(tmp_path):
    folder(tmp_path, ignore=[6])
    found = only_alarm(tmp_path)
    assert (found.kind, found.count) == ("undeclared-ignore", 8)
    assert found.fix == "classes.yaml: set ignore: [6, 255]"
    class_file(tmp_path, ignore=[6, 255])
    assert cured(tmp_path)


def test_a_class_that_is_declared_ignored(tmp_path):
    folder(tmp_path, ignore=[0])
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity) == ("class-list", "error")
    assert 'ignore 0 stands for the class "ground" too' in found.where[0]
    assert "count the others from offset" in found.fix


@pytest.mark.parametrize(("index", "settings"), [(0, {"offset": 1, "ignore": 0}), (4, {"ignore": 4})])
def test_unlabelled_that_is_a_class(tmp_path, index, settings):
    names = list(CLASSES)
    names[index] = "Void"
    folder(tmp_path, values=range(5), names=names)
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity, found.where) == ("unlabelled-as-class", "warning", ("Void",))
    assert all(f"{key}: {value}" in found.fix for key, value in settings.items())
    names.pop(index)
    class_file(tmp_path, names=names, palette=PALETTE[:4], **settings)
    assert cured(tmp_path)


def test_ids_outside_the_classes(tmp_path):
    folder(tmp_path)
    path = tmp_path / "labels" / "val" / "c.png"
    save(path, np.where(load(path) == 2, 77, load(path)))
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity, found.where, found.count) == ("unknown-ids", "error", ("labels/val/c.png",), 1)
    assert "the values 77, which are neither ignored nor one of the 5 classes (0 to 4)" in found.message


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ("coco-instance", "COCO's instance ids (80 of 1 to 90)"),
        ("coco-panoptic", "COCO's panoptic ids (133 of 1 to 200)"),
        ("cityscapes", "Cityscapes' label ids (19 of 0 to 33)"),
    ],
)
def test_ids_with_gaps_for_contiguous_classes(tmp_path, known, message):
    detr = label_set("coco-detr")
    ids = {
        "coco-instance": [each for each in detr.classes if detr.things[each]],
        "coco-panoptic": detr.classes,
        "cityscapes": [7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33],
    }[known]
    names_in(label_set(known).names, ids, tmp_path)
    truth = {path: load(path) for path in tmp_path.glob("labels/*/*.png")}
    found = only_alarm(tmp_path)
    assert found.kind == "category-map"
    assert message in found.message
    run(found.fix, tmp_path)
    assert cured(tmp_path)
    for path, before in truth.items():
        assert np.array_equal(np.asarray(ids)[load(path)], before)


def test_contiguous_classes_for_ids_with_gaps(tmp_path):
    FORMATS["coco-stuff"](tmp_path)
    values = [*range(1, 171, 9), 11, IGNORED]
    each_label(tmp_path, lambda a: blocks(a.sum(), values), "stuffthingmaps/*/*.png")
    found = only_alarm(tmp_path)
    assert found.kind == "category-map"
    assert "contiguous class indices (0 to 170), but this format's values have gaps (0 to 181)" in found.message
    run(found.fix, tmp_path)
    assert cured(tmp_path)


def test_train_ids_in_the_place_of_label_ids(tmp_path):
    FORMATS["cityscapes"](tmp_path)
    each_label(tmp_path, lambda a: blocks(a.sum(), (0, 3, 8, 13, 18, 255)), "gtFine/*/*/*_labelIds.png")
    found = only_alarm(tmp_path, format="cityscapes")
    assert found.kind == "category-map"
    assert "contiguous class indices (0 to 18)" in found.message
    run(found.fix, tmp_path)
    assert cured(tmp_path)


def test_labels_resized_with_interpolation(tmp_path):
    folder(tmp_path)
    for path in sorted(tmp_path.glob("labels/train/*.png")):
        small = Image.open(path).resize((32, 24), Image.Resampling.NEAREST)
        small.resize((64, 48), Image.Resampling.BILINEAR).save(path)
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity, found.count) == ("interpolated-labels", "error", 4)
    assert found.where[0] == "labels/train/a.png"
    assert "Resampling.NEAREST" in found.fix


def coloured(root):
    table = np.zeros((256, 3), np.uint8)
    table[: len(PALETTE)] = PALETTE
    return {path: table[load(path)] for path in sorted(root.glob("labels/*/*.png"))}


def test_colours_in_the_place_of_classes(tmp_path):
    folder(tmp_path)
    truth = load(tmp_path / "labels" / "val" / "b.png")
    for path, colours in coloured(tmp_path).items():
        save(path, colours)
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity, found.count) == ("labels-in-colour", "error", 8)
    assert "colours of the classes" in found.message
    run(found.fix, tmp_path)
    assert cured(tmp_path)
    assert np.array_equal(load(tmp_path / "labels" / "val" / "b.png"), truth)


def test_a_palette_png_saved_in_rgb(tmp_path):
    FORMATS["pascal-voc"](tmp_path)
    paths = sorted(tmp_path.glob("SegmentationClass/*.png"))
    for path in paths:
        Image.open(path).convert("RGB").save(path)
    found = only_alarm(tmp_path)
    assert (found.kind, found.count) == ("labels-in-colour", 8)
    run(found.fix, tmp_path)
    assert cured(tmp_path)
    assert set(np.unique(load(paths[0]))) == {0, 1, 15, 20, 255}


def test_colours_that_no_class_has(tmp_path):
    folder(tmp_path)
    table = np.random.default_rng(1).integers(0, 256, (256, 3), np.uint8)
    each_label(tmp_path, lambda a: table[a])
    found = only_alarm(tmp_path)
    assert (found.kind, found.count) == ("labels-in-colour", 8)
    assert "6 different ones" in found.message


def test_colours_read_as_grey(tmp_path):
    folder(tmp_path)
    for path, colours in coloured(tmp_path).items():
        Image.fromarray(colours).convert("L").save(path)
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity, found.count) == ("colours-as-grey", "error", 8)
    assert "convert('L')" in found.fix


def test_indices_saved_as_rgb(tmp_path):
    folder(tmp_path)
    each_label(tmp_path, lambda a: np.repeat(a[..., None], 3, axis=2))
    found = only_alarm(tmp_path)
    assert (found.kind, found.count) == ("labels-in-rgb", 8)
    run(found.fix, tmp_path)
    assert cured(tmp_path)


def test_jpeg_labels(tmp_path):
    folder(tmp_path)
    for path in sorted(tmp_path.glob("labels/val/*.png")):
        Image.open(path).save(path.with_suffix(".jpg"), quality=95)
        path.unlink()
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity, found.count) == ("jpeg-labels", "error", 4)
    assert found.where[0] == "labels/val/a.jpg"
    assert "as PNG" in found.fix


def test_eight_bits_scaled_to_sixteen(tmp_path):
    folder(tmp_path)
    each_label(tmp_path, lambda a: a * 257)
    found = only_alarm(tmp_path)
    assert (found.kind, found.count) == ("bit-depth", 8)
    run(found.fix, tmp_path)
    assert cured(tmp_path)


def test_sixteen_bits_cut_to_eight(tmp_path):
    folder(tmp_path, names=[f"class {number}" for number in range(300)], palette=[[0, 0, 0]] * 300)
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity, found.count) == ("bit-depth", "error", 8)
    assert "go up to the value 299" in found.message
    assert "uint16" in found.fix


def test_instances_cut_to_eight_bits(tmp_path):
    FORMATS["cityscapes"](tmp_path)
    each_label(tmp_path, lambda a: a % 256, "gtFine/train/*/*_instanceIds.png")
    found = only_alarm(tmp_path)
    assert (found.kind, found.count) == ("bit-depth", 4)
    assert found.where[0] == "gtFine/train/ulm/a_gtFine_instanceIds.png"


def test_instances_of_stuff(tmp_path):
    FORMATS["cityscapes"](tmp_path)
    path = tmp_path / "gtFine/val/ulm/b_gtFine_instanceIds.png"
    save(path, np.where(load(path) == 7, 7001, load(path)))
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity) == ("stuff-instances", "warning")
    assert found.where == ("gtFine/val/ulm/b_gtFine_instanceIds.png: road 1",)


def test_labels_that_are_all_ignored(tmp_path):
    folder(tmp_path)
    save(tmp_path / "labels" / "train" / "b.png", np.full((48, 64), IGNORED))
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity, found.where) == ("all-ignored", "warning", ("labels/train/b.png",))


def test_classes_that_never_occur_are_noted(tmp_path):
    folder(tmp_path, values=(0, 2, 3))
    assert note(tmp_path, "class-never-occurs").where == ("wall", "person")


def test_extreme_imbalance_is_noted(tmp_path):
    folder(tmp_path, values=(0, 1, 2, 3))
    path = tmp_path / "labels" / "val" / "a.png"
    labels = np.zeros((48, 64), np.int64)
    for each in tmp_path.glob("labels/*/*.png"):
        save(each, labels)
    labels[:1, :1] = 4
    save(path, labels)
    assert note(tmp_path, "class-imbalance").where == ("person: 1 pixels",)


def test_specks_are_noted(tmp_path):
    folder(tmp_path)
    path = tmp_path / "labels" / "val" / "a.png"
    labels = np.zeros((48, 64), np.int64)
    labels[::4, ::4] = 3
    save(path, labels)
    assert note(tmp_path, "specks").where == ("labels/val/a.png: 6.2%",)


def test_two_bits_of_grey_are_indices(tmp_path):
    """Pillow spreads them over 0..255; readers, and so the doctor, undo that."""
    folder(tmp_path, values=range(4))
    for path in tmp_path.glob("labels/*/*.png"):
        picture = Image.fromarray(load(path).astype(np.uint8), "P")
        picture.save(path, bits=2)
    assert cured(tmp_path)
    assert json.loads((tmp_path / "classes.yaml").read_text())["names"] == list(CLASSES)
