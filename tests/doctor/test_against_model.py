"""A model's classes against those of the data, by name and by what it predicts."""

import json

import numpy as np
import pytest
from clean_sets import save
from faults import only_alarm, run

from color_model import LABELS, color_checkpoint
from everymask.doctor import check
from everymask.doctor.against_model import compare_names, compare_predictions
from everymask.labels import LabelSet, label_set

COLORS = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)], np.uint8)


def labels(*names):
    return LabelSet(names, (True,) * len(names), (None,) * len(names))


@pytest.fixture(autouse=True)
def color_model(monkeypatch):
    monkeypatch.setattr("everymask.loading.load_checkpoint", lambda name, **options: color_checkpoint())


def color_data(root, names=LABELS.names, stored=range(4), **settings):
    """Pictures of the colour model's four colours in blocks; colour c has the value ``stored[c]``."""
    root.mkdir(exist_ok=True)
    (root / "classes.yaml").write_text(json.dumps({"names": list(names)} | settings))
    for number in range(12):
        rng = np.random.default_rng(number)
        grid = rng.permutation(np.resize(np.arange(4), 16)).reshape(4, 4).repeat(8, 0).repeat(8, 1)
        save(root / "images" / f"{number}.png", COLORS[grid])
        save(root / "labels" / f"{number}.png", np.asarray(stored)[grid])


def test_a_model_of_the_same_classes(tmp_path):
    color_data(tmp_path)
    assert check(tmp_path, model="colors").findings == ()


def test_labels_shifted_against_the_model(tmp_path):
    """Five classes, of which the first is none of the model's: every index is one higher."""
    color_data(tmp_path, names=["nothing", *LABELS.names], stored=(1, 2, 3, 4))
    found = {each.kind: each for each in check(tmp_path, model="colors").findings if each.severity == "error"}
    assert set(found) == {"model-classes-shifted", "model-agrees-when-shifted"}
    by_name, by_pixels = found["model-classes-shifted"], found["model-agrees-when-shifted"]
    assert by_name.fix == "remove 'nothing' as the first class of the data"
    assert "mIoU 0.0% as they are" in by_pixels.message
    assert "100.0% with the one before" in by_pixels.message
    assert by_pixels.where[:2] == ("red -> red", "green -> green")
    assert by_pixels.message.startswith("labels are one too high for what the model predicts: ")
    assert by_pixels.fix == "classes.yaml: set offset: 1 and ignore: [0, 255]"


def test_a_shift_that_names_hide(tmp_path):
    """The list of classes is the model's; the numbers are shifted, and unlabelled is one of them."""
    color_data(tmp_path, stored=(1, 2, 3, 255), ignore=255)
    found = only_alarm(tmp_path, model="colors")
    assert found.kind == "model-agrees-when-shifted"
    assert found.where == ("green -> red", "blue -> green", "dark -> blue")
    assert found.fix == "classes.yaml: set offset: 1 and ignore: [0, 255]"


def test_labels_one_too_low_that_no_list_can_state(tmp_path):
    """An offset cannot be negative: the files are rewritten."""
    color_data(tmp_path, stored=(255, 0, 1, 2))
    found = only_alarm(tmp_path, model="colors")
    assert (found.kind, found.where) == ("model-agrees-when-shifted", ("red -> green", "green -> blue", "blue -> dark"))
    run(found.fix, tmp_path)
    assert check(tmp_path, model="colors").count("error") == 0


def test_classes_in_another_order(tmp_path):
    color_data(tmp_path, names=["blue", "dark", "red", "green"], stored=(2, 3, 0, 1))
    found = {each.kind: each for each in check(tmp_path, model="colors").findings}
    assert set(found) == {"model-classes-in-other-order", "model-agrees-when-permuted"}
    assert found["model-classes-in-other-order"].fix.endswith("new index of each = [2, 3, 0, 1]")
    assert set(found["model-agrees-when-permuted"].where) == {
        "blue -> blue",
        "dark -> dark",
        "red -> red",
        "green -> green",
    }


def test_data_that_cannot_be_read_is_left_out(tmp_path):
    color_data(tmp_path, stored=(1, 2, 3, 4))  # 4 is no class, so that no image can be read
    assert only_alarm(tmp_path, model="colors").kind == "offset-by-one"
    color_data(tmp_path)
    (tmp_path / "images" / "0.png").unlink()
    assert only_alarm(tmp_path, model="colors").kind == "labels-without-image"


def test_names_of_the_same_classes():
    assert compare_names(label_set("ade20k"), label_set("ade20k")) == []
    assert compare_names(labels("Sky ", "road"), labels("sky", "road")) == []


def test_names_of_other_data():
    (found,) = compare_names(label_set("cityscapes"), label_set("camvid"))
    assert (found.kind, found.severity) == ("model-has-other-classes", "warning")
    assert "19 classes and the data 11" in found.message
    assert found.where[0] == "0: sky / road"
    assert found.where[-1] == "18: - / bicycle"


@pytest.mark.parametrize(
    ("by", "fix"), [(1, "add 'background' as the first"), (-1, "remove 'background' as the first")]
)
def test_names_with_one_more_class_at_the_start(by, fix):
    short, long = labels("cat", "dog"), labels("background", "cat", "dog")
    (found,) = compare_names(*((long, short) if by > 0 else (short, long)))
    assert (found.kind, found.severity) == ("model-classes-shifted", "error")
    assert found.fix.startswith(fix)


def confusion(mapping, classes=5, noise=0):
    """Pixels by true and predicted class, where class c is predicted as ``mapping[c]``."""
    counts = np.full((classes, classes), noise, np.int64)
    for true, predicted in mapping.items():
        if predicted < classes:
            counts[true, predicted] += 1000
    return counts


FIVE = labels("a", "b", "c", "d", "e")


@pytest.mark.parametrize(
    ("mapping", "kinds"),
    [
        ({c: c for c in range(5)}, []),
        ({c: c + 1 for c in range(5)}, ["model-agrees-when-shifted"]),
        ({c: c - 1 for c in range(1, 5)}, ["model-agrees-when-shifted"]),
        ({0: 3, 1: 4, 2: 0, 3: 1, 4: 2}, ["model-agrees-when-permuted"]),
        ({0: 0, 1: 1, 2: 2, 3: 4, 4: 3}, []),  # two classes that a model mixes up are no other numbering
    ],
)
def test_what_predictions_say(mapping, kinds):
    found = compare_predictions(confusion(mapping, noise=10), FIVE, FIVE, None)
    assert [each.kind for each in found] == kinds


def test_a_bad_model_is_no_other_numbering():
    rng = np.random.default_rng(5)
    assert compare_predictions(rng.integers(0, 1000, (5, 5)), FIVE, FIVE, None) == []
    one_class = np.zeros((5, 5), np.int64)
    one_class[:, 2] = 1000  # it says "c" everywhere
    assert compare_predictions(one_class, FIVE, FIVE, None) == []
    assert compare_predictions(np.zeros((5, 5), np.int64), FIVE, FIVE, None) == []
