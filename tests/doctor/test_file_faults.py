"""Seeded faults of files: missing, empty, damaged, of other sizes, and there twice."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from clean_sets import FORMATS, NAMES, SPLITS, coco_panoptic, folder, load, photograph, save
from faults import cured, note, only_alarm, run
from PIL import Image

from everymask.doctor import check
from everymask.doctor.duplicates import near_pairs
from everymask.images import read_image
from everymask.images.decode import ORIENTATION_TAG


def test_images_without_labels(tmp_path):
    folder(tmp_path)
    (tmp_path / "labels/train/b.png").unlink()
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity, found.where) == ("image-without-labels", "error", ("images/train/b.jpg",))
    assert found.fix.endswith("or remove these images: rm images/train/b.jpg")
    run("rm images/train/b.jpg", tmp_path)
    assert cured(tmp_path)


def test_labels_without_images(tmp_path):
    folder(tmp_path)
    (tmp_path / "images/train/b.jpg").unlink()
    (tmp_path / "images/train/c.jpg").unlink()
    found = only_alarm(tmp_path)
    assert (found.kind, found.count) == ("labels-without-image", 2)
    assert found.fix.endswith("rm labels/train/b.png labels/train/c.png")
    run("rm labels/train/b.png labels/train/c.png", tmp_path)
    assert cured(tmp_path)


def test_names_that_a_list_has_and_no_folder(tmp_path):
    FORMATS["pascal-voc"](tmp_path)
    with (tmp_path / "ImageSets/Segmentation/val.txt").open("a") as file:
        file.write("2007_nowhere\n")
    found = only_alarm(tmp_path)
    assert (found.kind, found.where) == ("listed-file-missing", ("val: 2007_nowhere",))


@pytest.mark.parametrize("file", ["images/val/c.jpg", "labels/val/c.png"])
def test_empty_files(tmp_path, file):
    folder(tmp_path)
    (tmp_path / file).write_bytes(b"")
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity, found.where) == ("empty-file", "error", (file,))
    assert file in found.fix


@pytest.mark.parametrize("file", ["images/val/c.jpg", "labels/val/c.png"])
def test_truncated_files(tmp_path, file):
    folder(tmp_path)
    content = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(content[: len(content) * 2 // 3])
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity, found.count) == ("damaged-file", "error", 1)
    assert found.where[0].startswith(f"{file}: ")
    assert "truncated" in found.where[0]


def test_files_that_are_no_images(tmp_path):
    folder(tmp_path)
    (tmp_path / "images/val/c.jpg").write_text("<html><title>404</title></html>")
    found = only_alarm(tmp_path)
    assert (found.kind, found.count) == ("damaged-file", 1)
    assert "is an HTML page, not an image" in found.where[0]


def test_labels_of_half_the_size(tmp_path):
    folder(tmp_path)
    path = tmp_path / "labels/val/d.png"
    save(path, load(path)[::2, ::2])
    found = only_alarm(tmp_path)
    assert (found.kind, found.where) == ("size-mismatch", ("labels/val/d.png: labels 32 x 24, image 64 x 48",))
    assert "Image.Resampling.NEAREST" in found.fix


def test_labels_that_were_cut(tmp_path):
    folder(tmp_path)
    path = tmp_path / "labels/val/d.png"
    save(path, load(path)[:, :50])
    found = only_alarm(tmp_path)
    assert (found.kind, found.where) == ("size-mismatch", ("labels/val/d.png: labels 50 x 48, image 64 x 48",))
    assert found.message.startswith("labels and images differ in size and shape")


def turned_by_exif(path: Path, orientation: int) -> None:
    """Gives an image the tag of a camera that was held otherwise; its stored pixels stay."""
    with Image.open(path) as image:
        exif = image.getexif()
        exif[ORIENTATION_TAG] = orientation
        image.save(path, exif=exif)


def test_images_that_exif_turns_without_their_labels(tmp_path):
    folder(tmp_path)
    turned_by_exif(tmp_path / "images/train/a.jpg", 6)
    turned_by_exif(tmp_path / "images/val/b.jpg", 8)
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity, found.count) == ("exif-rotation", "error", 2)
    assert found.where[0] == "labels/train/a.png: labels 64 x 48, image 48 x 64"
    run(found.fix, tmp_path)
    assert cured(tmp_path)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_labels_are_turned_as_their_images(tmp_path, orientation):
    """Labels that were the image itself are so after the fix."""
    folder(tmp_path)
    save(tmp_path / "images/train/a.png", np.repeat(load(tmp_path / "labels/train/a.png")[..., None], 3, axis=2))
    (tmp_path / "images/train/a.jpg").unlink()
    turned_by_exif(tmp_path / "images/train/a.png", orientation)
    run(only_alarm(tmp_path).fix, tmp_path)
    assert np.array_equal(read_image(tmp_path / "images/train/a.png")[..., 0], load(tmp_path / "labels/train/a.png"))


def test_annotations_of_images_that_exif_turns(tmp_path):
    coco_panoptic(tmp_path)
    turned_by_exif(tmp_path / "val2017/a.jpg", 6)
    found = only_alarm(tmp_path)
    assert (found.kind, found.count) == ("exif-rotation", 1)
    assert found.fix == "exiftool -overwrite_original -Orientation= val2017/a.jpg"


def test_labels_that_were_turned_too_are_right(tmp_path):
    folder(tmp_path)
    turned_by_exif(tmp_path / "images/train/a.jpg", 6)
    path = tmp_path / "labels/train/a.png"
    save(path, np.rot90(load(path), -1))
    assert cured(tmp_path)


def test_half_a_turn_is_noted(tmp_path):
    """Its size does not tell whether the labels were turned."""
    folder(tmp_path)
    turned_by_exif(tmp_path / "images/train/a.jpg", 3)
    assert note(tmp_path, "exif-orientation").where == ("images/train/a.jpg: orientation 3",)


def test_images_that_are_there_twice(tmp_path):
    folder(tmp_path)
    shutil.copy(tmp_path / "images/val/a.jpg", tmp_path / "images/val/d.jpg")
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity) == ("duplicate-images", "warning")
    assert found.where == ("images/val/a.jpg = images/val/d.jpg",)
    run(found.fix.partition(": ")[2], tmp_path)
    assert cured(tmp_path)


def test_images_that_splits_share(tmp_path):
    folder(tmp_path)
    for kind, name in (("images", "a.jpg"), ("labels", "a.png")):
        shutil.copy(tmp_path / kind / "val" / name, tmp_path / kind / "train" / name)
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity) == ("splits-share-images", "error")
    assert found.where == ("train: images/train/a.jpg = val: images/val/a.jpg",)
    run(found.fix.partition("trained on: ")[2], tmp_path)
    assert cured(tmp_path)
    assert (tmp_path / "images/val/a.jpg").exists()


def test_a_list_that_names_an_image_of_another(tmp_path):
    FORMATS["pascal-voc"](tmp_path)
    lists = tmp_path / "ImageSets/Segmentation"
    with (lists / "train.txt").open("a") as file:
        file.write("2007_val_c\n")
    found = only_alarm(tmp_path)
    assert (found.kind, found.count) == ("splits-share-images", 1)
    assert found.fix.endswith("say take off that of 'train': 2007_val_c")


@pytest.mark.parametrize(("split", "severity"), [("val", "warning"), ("train", "note")])
def test_images_that_were_saved_again(tmp_path, split, severity):
    folder(tmp_path)
    copy = photograph(0)  # train/a
    copy.save(tmp_path / "images" / split / "d.jpg", quality=60)
    kind = "near-duplicates-across-splits" if severity == "warning" else "near-duplicates"
    found = only_alarm(tmp_path) if severity == "warning" else note(tmp_path, kind)
    assert (found.kind, found.severity) == (kind, severity)
    assert found.where == (f"images/train/a.jpg ~ images/{split}/d.jpg",)


def test_near_pairs_are_those_of_all_comparisons():
    rng = np.random.default_rng(3)
    thumbs = rng.uniform(0, 255, (60, 16, 16)).astype(np.float32)
    for one, other, noise in ((3, 40, 0.5), (7, 8, 0.2), (0, 59, 0.9)):
        thumbs[other] = thumbs[one] + rng.uniform(-noise, noise, (16, 16))
    thumbs[20:22] = 128  # without contrast: a fog is not another fog
    assert near_pairs(thumbs) == [(0, 59), (3, 40), (7, 8)]


def test_two_faults_are_two_findings(tmp_path):
    folder(tmp_path)
    (tmp_path / "labels/train/b.png").unlink()
    (tmp_path / "images/val/c.jpg").write_bytes(b"")
    shutil.copy(tmp_path / "images/val/a.jpg", tmp_path / "images/val/d.jpg")
    found = check(tmp_path).findings
    assert [each.kind for each in found] == ["empty-file", "image-without-labels", "duplicate-images"]


def test_where_names_at_most_twenty(tmp_path):
    folder(tmp_path)
    for number in range(30):
        shutil.copy(tmp_path / "images/val/a.jpg", tmp_path / f"images/val/more{number}.jpg")
    missing = check(tmp_path).findings[0]
    assert (missing.kind, len(missing.where), missing.count) == ("image-without-labels", 20, 30)


FAULTS: list[Callable[[Path], None]] = [
    lambda root: (root / "classes.yaml").write_text("names: ["),
    lambda root: (root / "classes.yaml").unlink(),
    lambda root: (root / "classes.txt").write_text("a\nb\n"),
]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_list_of_classes_that_cannot_be_read(tmp_path, fault):
    folder(tmp_path)
    fault(tmp_path)
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity) == ("class-list", "error")


def test_json_that_cannot_be_read(tmp_path):
    coco_panoptic(tmp_path)
    path = tmp_path / "annotations/panoptic_val2017.json"
    path.write_text(path.read_text()[:-10])
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity) == ("bad-json", "error")
    assert found.fix == "fetch or write it again"


def test_what_only_the_reader_refuses(tmp_path):
    """Instances that nobody else looks into."""
    folder(tmp_path, things=["car"])
    for split in SPLITS:
        for name in NAMES:
            labels = load(tmp_path / "labels" / split / f"{name}.png")
            save(tmp_path / "instances" / split / f"{name}.png", labels * 256 + (labels == 3))
    assert cured(tmp_path)
    path = tmp_path / "instances/val/b.png"
    save(path, np.where(load(path) == 3 * 256 + 1, 9 * 256 + 1, load(path)))
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity, found.count) == ("refused", "error", 1)
    assert "b.png holds 9 * 256 + 1 at" in found.where[0]
