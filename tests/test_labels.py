"""Label sets: the data files, and which set a checkpoint's names belong to."""

import json
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everymask.errors import OptionError
from everymask.labels import LABEL_SETS, LabelSet, canonical_names, label_set, match_labels

SHARED = Path(__file__).parents[1].parent / "shared"
SOURCES = {
    "coco-panoptic": "coco_panoptic_133",
    "coco-instance": "coco_instance_80",
    "coco-stuff": "coco_stuff_171",
    "ade20k": "ade20k_150",
    "cityscapes": "cityscapes_19",
    "mapillary-vistas": "mapillary_vistas_65",
    "pascal-voc": "pascal_voc_21",
}
blanks = st.text(" \t", max_size=2)


@pytest.mark.parametrize(
    ("name", "classes", "things"),
    [
        ("coco-panoptic", 133, 80),
        ("coco-instance", 80, 80),
        ("coco-stuff", 171, 80),
        ("ade20k", 150, 100),
        ("cityscapes", 19, 8),
        ("cityscapes-instance", 8, 8),
        ("mapillary-vistas", 65, 37),
        ("pascal-voc", 21, 20),
        ("camvid", 11, 4),
    ],
)
def test_sizes(name: str, classes: int, things: int) -> None:
    labels = label_set(name)
    assert len(labels) == len(labels.names) == len(labels.things) == len(labels.colors) == classes
    assert sum(labels.things) == things
    assert all(type(thing) is bool for thing in labels.things)
    assert labels.classes == list(range(classes))
    for color in labels.colors:
        assert color is not None
        assert len(color) == 3
        assert all(0 <= part <= 255 for part in color)
    assert all(each == each.strip() != "" for each in labels.names)


def test_every_data_file_is_known_and_names_its_source() -> None:
    files = sorted((Path(__file__).parents[1] / "src/everymask/data/labels").glob("*.json"))
    assert sorted(path.stem for path in files) == sorted(LABEL_SETS)
    for path in files:
        content = json.loads(path.read_text(encoding="utf-8"))
        assert content["dataset"]
        assert content["source"]


@pytest.mark.parametrize("name", SOURCES)
def test_equal_to_the_published_lists(name: str) -> None:
    if not SHARED.is_dir():
        pytest.skip("needs ../shared, the published label lists beside the repository")
    categories = json.loads((SHARED / "checkpoints" / "labels" / f"{SOURCES[name]}.json").read_text())["categories"]
    expected = LabelSet(
        tuple(each["name"].strip() for each in categories),
        tuple(each["isthing"] == 1 for each in categories),
        tuple(tuple(each["color"]) for each in categories),
    )
    assert label_set(name) == expected
    for key in {"name", "name_detectron2"} & categories[0].keys():
        found = match_labels([each[key] for each in categories])
        assert found is not None
        assert found.names == tuple(each[key].strip() for each in categories)
        assert (found.things, found.colors) == (expected.things, expected.colors)


def test_detr_numbers_the_classes_of_coco_panoptic_with_gaps() -> None:
    labels, panoptic = label_set("coco-detr"), label_set("coco-panoptic")
    assert len(labels) == 250
    assert len(labels.classes) == 133
    rows = list(zip(labels.names, labels.things, labels.colors, strict=True))
    assert [rows[i] for i in labels.classes] == list(zip(panoptic.names, panoptic.things, panoptic.colors, strict=True))
    assert {rows[i] for i in labels.holes} == {("N/A", False, None)}
    assert labels.holes == set(range(250)) - set(labels.classes)


@pytest.mark.parametrize("name", ["resnet-50", "resnet-101", "resnet-50-dc5"])
def test_public_detr_configs_are_known_whatever_they_call_the_gaps(name: str) -> None:
    if not SHARED.is_dir():
        pytest.skip("needs ../shared, the published configs beside the repository")
    path = SHARED / "checkpoints" / "configs" / f"facebook--detr-{name}-panoptic.json"
    id2label = json.loads(path.read_text())["id2label"]
    names = [id2label[str(index)] for index in range(250)]
    assert names[12] == "street sign"
    assert match_labels(names) == match_labels([*names[:12], "x", *names[13:]]) == label_set("coco-detr")
    rows = json.loads((SHARED / "checkpoints" / "labels" / "coco_detr_250.json").read_text())["categories"]
    used = [(row["index"], row["name"], row["isthing"] == 1) for row in rows if row["used"]]
    labels = label_set("coco-detr")
    assert used == [(i, labels.names[i], labels.things[i]) for i in labels.classes]


def test_other_names_leave_holes_alone() -> None:
    labels = label_set("coco-detr")
    named = labels.named([f" class {index}" for index in range(250)])
    assert named.names[:2] == ("N/A", "class 1")
    assert (named.things, named.colors, named.holes) == (labels.things, labels.colors, labels.holes)


def test_camvid() -> None:
    camvid = label_set("camvid")
    things = [name for name, thing in zip(camvid.names, camvid.things, strict=True) if thing]
    assert things == ["sign or symbol", "car", "pedestrian", "bicyclist"]
    assert camvid.names[0] == "sky"
    assert camvid.colors[4] == (60, 40, 222)
    assert "void" not in camvid.names


def test_cityscapes_instances_are_the_things_of_cityscapes() -> None:
    whole, part = label_set("cityscapes"), label_set("cityscapes-instance")
    rows = zip(whole.names, whole.things, whole.colors, strict=True)
    assert [(name, color) for name, thing, color in rows if thing] == list(zip(part.names, part.colors, strict=True))


@settings(derandomize=True, deadline=None, max_examples=60)
@given(data=st.data(), known=st.sampled_from(LABEL_SETS))
def test_blanks_do_not_matter_but_names_and_their_order_do(data: st.DataObject, known: str) -> None:
    labels = label_set(known)
    padded = [data.draw(blanks) + name + data.draw(blanks) for name in labels.names[:5]] + list(labels.names[5:])
    assert match_labels(padded) == labels
    i, j = data.draw(st.lists(st.sampled_from(labels.classes), min_size=2, max_size=2, unique=True))
    swapped = list(labels.names)
    swapped[i], swapped[j] = swapped[j], swapped[i]
    assert match_labels(swapped) is None
    assert match_labels([*labels.names[:i], labels.names[i] + "x", *labels.names[i + 1 :]]) is None
    assert match_labels(labels.names[:-1]) is None


def test_unknown_sets() -> None:
    assert match_labels(["cat", "dog"]) is None
    assert match_labels([]) is None
    with pytest.raises(OptionError, match='no label set "coco"; known are coco-panoptic, '):
        label_set("coco")


def test_canonical_names_are_the_same_for_both_of_ade20ks() -> None:
    labels = label_set("ade20k")
    file = json.loads((files("everymask") / "data" / "labels" / "ade20k.json").read_text(encoding="utf-8"))
    other = [each.get("other_name", each["name"]) for each in file["classes"]]
    assert [name.strip() for name in other] != list(labels.names)
    assert canonical_names(other) == canonical_names([f"{name} " for name in labels.names]) == labels.names
    assert canonical_names([" sky", "sea "]) == ("sky", "sea")
