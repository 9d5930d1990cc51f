"""Seeded faults of COCO's JSON and panoptic PNGs."""

import json
import shutil

import numpy as np
import pytest
from clean_sets import (
    CATEGORIES,
    HEIGHT,
    WIDTH,
    annotation,
    coco_instances,
    coco_panoptic,
    edit,
    id_colors,
    load,
    runs,
    save,
    save_photograph,
)
from faults import cured, note, only_alarm, run
from PIL import Image

from everymask.doctor import check
from everymask.labels import label_set

INSTANCES = "annotations/instances_val2017.json"
PANOPTIC = "annotations/panoptic_val2017.json"
FIRST_PNG = "annotations/panoptic_val2017/a.png"


def instances(root, change):
    coco_instances(root)
    edit(root / INSTANCES, change)


def panoptic(root, change):
    coco_panoptic(root)
    edit(root / PANOPTIC, change)


def polygon(points, box=None):
    """A change: the first annotation gets this polygon and its box."""

    def change(document):
        document["annotations"][0]["segmentation"] = [points]
        if box is not None:
            document["annotations"][0]["bbox"] = box

    return change


@pytest.mark.parametrize("points", [[4.0, 4.0, 34.0, 4.0], [4.0, 4.0, 34.0, 4.0, 4.0, 24.0, 9.0], [3.0, 3.0] * 4, []])
def test_degenerate_polygons(tmp_path, points):
    instances(tmp_path, polygon(points))
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity, found.where) == ("degenerate-polygon", "error", ("annotation 11 of a.jpg",))
    run(found.fix, tmp_path)
    assert cured(tmp_path)


def test_polygons_that_leave_the_image(tmp_path):
    instances(tmp_path, polygon([30.0, 4.0, 80.0, 4.0, 30.0, 24.0], [30, 4, 34, 20]))
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity, found.where) == ("polygon-outside", "error", ("annotation 11 of a.jpg",))
    run(found.fix.partition(" cuts them; ")[0], tmp_path)
    assert cured(tmp_path)
    first = json.loads((tmp_path / INSTANCES).read_text())["annotations"][0]
    assert first["segmentation"] == [[30.0, 4.0, 64, 4.0, 30.0, 24.0]]


def test_a_polygon_up_to_the_last_edge_is_right(tmp_path):
    instances(tmp_path, polygon([30.0, 4.0, 64.0, 4.0, 64.0, 48.0], [30, 4, 34, 44]))
    assert cured(tmp_path)


def test_polygons_as_shares_of_the_image(tmp_path):
    instances(tmp_path, polygon([0.1, 0.1, 0.9, 0.1, 0.5, 0.8]))
    found = only_alarm(tmp_path)
    assert (found.kind, found.count) == ("normalised-polygon", 1)
    run(found.fix, tmp_path)
    first = json.loads((tmp_path / INSTANCES).read_text())["annotations"][0]
    assert first["segmentation"] == [pytest.approx([6.4, 4.8, 57.6, 4.8, 32.0, 38.4])]


def test_runs_of_another_size(tmp_path):
    def change(document):
        document["annotations"][2]["segmentation"] = runs(np.eye(WIDTH, HEIGHT))

    instances(tmp_path, change)
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity, found.where) == ("runs-of-other-size", "error", ("annotation 13 of a.jpg",))


def test_boxes_that_do_not_fit_their_mask(tmp_path):
    def change(document):
        document["annotations"][0]["bbox"] = [4, 4, 36, 20]
        document["annotations"][2]["bbox"] = [40, 33, 20, 7]

    instances(tmp_path, change)
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity, found.count) == ("box-mismatch", "warning", 2)
    assert found.where == ("annotation 11 of a.jpg", "annotation 13 of a.jpg")


def test_boxes_as_corners(tmp_path):
    def change(document):
        for each in document["annotations"]:
            x, y, width, height = each["bbox"]
            each["bbox"] = [x, y, x + width, y + height]

    instances(tmp_path, change)
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity, found.count) == ("boxes-as-corners", "error", 12)
    run(found.fix, tmp_path)
    assert cured(tmp_path)


def test_annotations_of_unknown_images(tmp_path):
    instances(tmp_path, lambda document: document["annotations"].append(annotation(99, 77, 1, [], [], 0)))
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity, found.where) == ("unknown-image", "error", ("annotation 99: image 77",))
    run(found.fix.partition("remove the annotations: ")[2], tmp_path)
    assert cured(tmp_path)


def test_annotations_of_unknown_categories(tmp_path):
    def change(document):
        document["annotations"][1]["category_id"] = 9

    instances(tmp_path, change)
    found = only_alarm(tmp_path)
    assert (found.kind, found.where) == ("unknown-category", ("annotation 12 of a.jpg: category 9",))


def coco_categories(ids):
    names = label_set("coco-instance").names
    return [{"id": id_, "name": name} for id_, name in zip(ids, names, strict=True)]


DETR = label_set("coco-detr")
COCO_IDS = [each for each in DETR.classes if DETR.things[each]]


def test_contiguous_categories_with_coco_ids(tmp_path):
    """The 80 categories are numbered 1 to 80, the annotations still have COCO's ids, up to 90."""
    coco_instances(tmp_path, coco_categories(COCO_IDS))
    for path in tmp_path.glob("annotations/*.json"):
        edit(path, lambda document: document.update(categories=coco_categories(range(1, 81))))
    only_alarms = [each for each in check(tmp_path).findings if each.kind == "category-map"]
    assert len(only_alarms) == 2  # one a file
    found = only_alarms[0]
    assert "COCO's instance ids (80 of 1 to 90)" in found.message
    for each, file in zip(only_alarms, ("annotations/instances_train2017.json", INSTANCES), strict=True):
        assert file in each.fix
        run(each.fix, tmp_path)
    assert cured(tmp_path)


@pytest.mark.parametrize("first", [0, 1])
def test_coco_categories_with_contiguous_ids(tmp_path, first):
    coco_instances(tmp_path, coco_categories(COCO_IDS))

    def change(document):
        for number, each in enumerate(document["annotations"]):
            each["category_id"] = (0, 11, 44, 79)[number % 4] + first

    edit(tmp_path / INSTANCES, change)
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity) == ("category-map", "error")
    assert f"contiguous indices ({first} to {first + 79})" in found.message
    run(found.fix, tmp_path)
    assert cured(tmp_path)
    used = {each["category_id"] for each in json.loads((tmp_path / INSTANCES).read_text())["annotations"]}
    assert used == {COCO_IDS[0], COCO_IDS[11], COCO_IDS[44], 90}


def test_categories_counted_from_0_and_from_1(tmp_path):
    def change(document):
        for each in document["annotations"]:
            each["category_id"] -= 1

    instances(tmp_path, change)
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity) == ("offset-by-one", "error")
    run(found.fix, tmp_path)
    assert cured(tmp_path)


def test_duplicate_annotation_ids(tmp_path):
    def change(document):
        document["annotations"][4]["id"] = 11

    instances(tmp_path, change)
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity, found.where) == ("duplicate-annotation-id", "error", ("annotation 11",))
    run(found.fix, tmp_path)
    assert cured(tmp_path)


def test_duplicate_image_ids(tmp_path):
    def change(document):
        document["images"][1]["id"] = 1
        document["annotations"] = [each for each in document["annotations"] if each["image_id"] != 2]

    instances(tmp_path, change)
    found = only_alarm(tmp_path)
    assert (found.kind, found.where) == ("duplicate-image-id", ("image 1",))


def test_duplicate_category_ids(tmp_path):
    instances(tmp_path, lambda document: document["categories"].append({"id": 1, "name": "dog"}))
    found = only_alarm(tmp_path)
    assert (found.kind, found.where) == ("duplicate-category-id", ("category 1",))


def test_duplicate_class_names(tmp_path):
    coco_instances(tmp_path, [{"id": 1, "name": "car"}, {"id": 2, "name": "car "}])
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity, found.where) == ("duplicate-class-names", "warning", ("car",))


def test_images_that_are_not_there(tmp_path):
    coco_instances(tmp_path)
    shutil.rmtree(tmp_path / "train2017")  # its images have the same names
    (tmp_path / "annotations/instances_train2017.json").unlink()
    (tmp_path / "val2017/b.jpg").unlink()
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity, found.where) == ("labels-without-image", "error", ("b",))


def test_sizes_of_another_version(tmp_path):
    coco_instances(tmp_path)
    save_photograph(tmp_path / "val2017/b.jpg", 5)
    with Image.open(tmp_path / "val2017/b.jpg") as image:
        image.resize((128, 96)).save(tmp_path / "val2017/b.jpg")
    found = only_alarm(tmp_path)
    assert (found.kind, found.where) == ("size-mismatch", ("b: labels 64 x 48, image 128 x 96",))


def test_panoptic_ids_that_the_json_lacks(tmp_path):
    panoptic(tmp_path, lambda document: document["annotations"][0]["segments_info"].pop(0))
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity) == ("panoptic-id-not-in-json", "error")
    assert found.where == (f"{FIRST_PNG}: id 70000",)


def test_panoptic_ids_that_the_png_lacks(tmp_path):
    def change(document):
        document["annotations"][0]["segments_info"].append({"id": 999, "category_id": 1, "area": 0, "iscrowd": 0})

    panoptic(tmp_path, change)
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity, found.where) == (
        "panoptic-id-not-in-png",
        "error",
        (f"{FIRST_PNG}: id 999",),
    )


@pytest.mark.parametrize(("key", "value", "kind"), [("area", 9, "panoptic-area"), ("bbox", [0] * 4, "box-mismatch")])
def test_panoptic_areas_and_boxes_that_disagree(tmp_path, key, value, kind):
    def change(document):
        document["annotations"][0]["segments_info"][0][key] = value

    panoptic(tmp_path, change)
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity, found.where) == (kind, "warning", (f"{FIRST_PNG}: id 70000",))


def test_panoptic_pngs_with_red_and_blue_exchanged(tmp_path):
    coco_panoptic(tmp_path)
    for path in tmp_path.glob("annotations/panoptic_val2017/*.png"):
        save(path, load(path)[..., ::-1])
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity, found.count) == ("panoptic-bgr", "error", 4)
    run(found.fix, tmp_path)
    assert cured(tmp_path)


def test_panoptic_ids_cut_to_eight_bits(tmp_path):
    coco_panoptic(tmp_path)
    path = tmp_path / FIRST_PNG
    save(path, load(path)[..., 0])
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity, found.where) == ("bit-depth", "error", (FIRST_PNG,))


def test_panoptic_ids_in_a_single_channel(tmp_path):
    coco_panoptic(tmp_path)
    path = tmp_path / FIRST_PNG
    ids = load(path) @ [1, 256, 65536]
    small = np.unique(ids, return_inverse=True)[1].reshape(ids.shape)  # 0 to 5 in the order of the ids
    save(path, small)

    def change(document):
        info = document["annotations"][0]["segments_info"]
        for number, each in enumerate(sorted(info, key=lambda each: each["id"]), 1):
            each["id"] = number

    edit(tmp_path / PANOPTIC, change)
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity, found.where) == ("panoptic-not-rgb", "error", (FIRST_PNG,))
    run(found.fix, tmp_path)
    assert np.array_equal(load(path), id_colors(small))
    assert cured(tmp_path)


def test_panoptic_pngs_that_are_missing(tmp_path):
    coco_panoptic(tmp_path)
    (tmp_path / FIRST_PNG).unlink()
    found = only_alarm(tmp_path)
    assert (found.kind, found.where) == ("image-without-labels", ("val2017/a.jpg",))


def test_panoptic_pngs_that_the_json_lacks(tmp_path):
    coco_panoptic(tmp_path)
    save(tmp_path / "annotations/panoptic_val2017/z.png", np.zeros((4, 4, 3)))
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity) == ("png-not-in-json", "warning")
    run(found.fix.partition("remove the PNGs: ")[2], tmp_path)
    assert cured(tmp_path)


def test_several_segments_of_stuff(tmp_path):
    def change(document):
        document["annotations"][0]["segments_info"][0]["category_id"] = 7

    panoptic(tmp_path, change)
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity, found.where) == ("stuff-instances", "warning", ("a: road, 2 segments",))
    assert CATEGORIES[2] == {"id": 7, "name": "road", "isthing": 0}


def test_a_stated_size_that_is_not_the_images(tmp_path):
    def change(document):
        document["images"][0].update(width=HEIGHT, height=WIDTH)

    panoptic(tmp_path, change)
    found = only_alarm(tmp_path)
    assert (found.kind, found.where) == ("stated-size", ("a: JSON 48 x 64, image 64 x 48",))


def test_duplicate_segment_ids(tmp_path):
    def change(document):
        segments = document["annotations"][0]["segments_info"]
        segments.append(dict(segments[0]))

    panoptic(tmp_path, change)
    found = only_alarm(tmp_path)
    assert (found.kind, found.where) == ("duplicate-annotation-id", ("segment 70000 of a.jpg",))


def test_unlabelled_as_a_category(tmp_path):
    def change(document):
        document["categories"][1]["name"] = "unlabeled"

    coco_panoptic(tmp_path)
    for split in ("train2017", "val2017"):
        edit(tmp_path / f"annotations/panoptic_{split}.json", change)
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity, found.where) == ("unlabelled-as-class", "warning", ("unlabeled",))


def test_splits_whose_classes_differ(tmp_path):
    instances(tmp_path, lambda document: document["categories"][1].update(name="dog"))
    found = only_alarm(tmp_path)
    assert (found.kind, found.severity, found.count) == ("splits-differ-in-classes", "error", 1)
    assert "2 is 'dog', in annotations/instances_train2017.json 'car'" in found.where[0]


def test_images_that_no_json_lists_are_noted(tmp_path):
    coco_instances(tmp_path)
    save_photograph(tmp_path / "val2017/more.jpg", 77)
    found = note(tmp_path, "image-without-annotations")
    assert found.where == ("val2017/more.jpg",)
