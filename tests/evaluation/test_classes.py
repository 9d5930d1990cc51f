"""Which class of the data each class of the model is."""

import json
from importlib.resources import files

import numpy as np
import pytest

from everymask.errors import OptionError
from everymask.evaluation.classes import corresponding_classes, in_classes_of
from everymask.geometry import Size
from everymask.labels import LABEL_SETS, LabelSet, label_set
from everymask.segmentation import Region, Segment, Segmentation


def labels(*names, stuff=()):
    return LabelSet(names, tuple(name not in stuff for name in names), (None,) * len(names))


@pytest.mark.parametrize("name", LABEL_SETS)
@pytest.mark.parametrize("task", ["panoptic", "semantic"])
def test_a_label_set_corresponds_to_itself(name, task):
    known = label_set(name)
    assert corresponding_classes(known, known, task) == {index: index for index in known.classes}


def test_detrs_gaps_do_not_count():
    model, data = label_set("coco-detr"), label_set("coco-panoptic")
    pairs = corresponding_classes(model, data, "panoptic")
    assert len(pairs) == 133
    assert all(model.names[mine] == data.names[other] for mine, other in pairs.items())
    assert pairs[1] == 0
    assert corresponding_classes(data, model, "semantic") == {other: mine for mine, other in pairs.items()}


@pytest.mark.parametrize(
    ("model", "data"),
    [("coco-panoptic", "coco-instance"), ("coco-instance", "coco-panoptic"), ("coco-detr", "coco-instance")],
)
def test_the_instance_task_compares_things(model, data):
    model, data = label_set(model), label_set(data)
    pairs = corresponding_classes(model, data, "instance")
    assert len(pairs) == 80
    assert all(model.names[mine] == data.names[other] for mine, other in pairs.items())
    with pytest.raises(OptionError, match="they are not the same"):
        corresponding_classes(model, data, "semantic")


def test_names_correspond_in_any_order_and_case():
    assert corresponding_classes(labels("sky", "Car ", "road"), labels("car", "road", "Sky"), "semantic") == {
        0: 2,
        1: 0,
        2: 1,
    }


def test_ade20ks_two_sets_of_names_are_the_same():
    known = label_set("ade20k")
    file = json.loads((files("everymask") / "data" / "labels" / "ade20k.json").read_text(encoding="utf-8"))
    other = known.named([each.get("other_name", each["name"]) for each in file["classes"]])
    assert other.names != known.names
    assert corresponding_classes(other, known, "semantic") == {index: index for index in range(150)}


def test_a_name_that_occurs_twice_needs_the_same_order():
    twice = labels("car", "other", "other")
    assert corresponding_classes(twice, twice, "semantic") == {0: 0, 1: 1, 2: 2}
    with pytest.raises(OptionError, match=r'the model has "other" more than once, and the order differs'):
        corresponding_classes(twice, labels("other", "car", "other"), "semantic")


def test_what_differs_is_said():
    with pytest.raises(OptionError) as caught:
        corresponding_classes(labels("sky", "car", "a", "b", "c", "d", "e", "f"), labels("sky", "tram"), "semantic")
    assert str(caught.value) == (
        "the model has 8 classes and the data 2, and they are not the same: "
        'only the model has "car", "a", "b", "c", "d" and 2 more; only the data has "tram". '
        "Choose a model that was trained for these classes, or give the classes that mean the same the same names"
    )


def test_panoptic_needs_the_same_things():
    model, data = labels("sky", "car"), labels("sky", "car", stuff=("sky",))
    assert corresponding_classes(model, data, "semantic") == {0: 0, 1: 1}
    with pytest.raises(OptionError, match=r'disagree on whether "sky" can be counted'):
        corresponding_classes(model, data, "panoptic")


def test_results_are_told_in_the_datas_classes():
    model, data = labels("car", "sky"), labels("sky", "car", stuff=("sky",))
    id_map = np.array([[1, 2]], np.int32)
    segments = tuple(
        Segment(id, model.names[id - 1], id - 1, 0.9, 1, (id - 1, 0, 1, 1), True, Region(id_map, id)) for id in (1, 2)
    )
    result = Segmentation("panoptic", Size(1, 2), segments, id_map, model)
    told = in_classes_of(result, data, corresponding_classes(model, data, "semantic"))
    assert [(each.label, each.label_id, each.is_thing) for each in told.segments] == [
        ("car", 1, True),
        ("sky", 0, False),
    ]
    assert told.label_map.tolist() == [[1, 0]]
    assert told.labels == data
