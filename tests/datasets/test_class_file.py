"""The list of classes of a plain folder."""

import json

import pytest

from annotated import storage_of
from everymask.datasets.class_file import read_class_list
from everymask.errors import DataError


def read(**files):
    return read_class_list(storage_of({name.replace("_", "."): text.encode() for name, text in files.items()}))


@pytest.mark.parametrize("text", ["road\ncar\n", "road\r\ncar", "\ufeffroad \n  car\n\n\n"])
def test_a_name_on_every_line(text):
    classes = read(classes_txt=text)
    assert classes.labels.names == ("road", "car")
    assert classes.labels.things == (False, False)
    assert classes.labels.colors == (None, None)
    assert (classes.ignore, classes.offset) == ((255,), 0)


FULL = {"names": ["road", "car", "sky"], "things": ["car"], "palette": [[1, 2, 3], [4, 5, 6], [7, 8, 9]], "offset": 1}
PALETTE = f"palette: {FULL['palette']}"


@pytest.mark.parametrize(
    "files",
    [
        {"classes_json": json.dumps(FULL)},
        {"classes_yaml": f"names: [road, car, sky]\nthings: [1]\n{PALETTE}\noffset: 1\n"},
        {"classes_yml": f"names: {{1: car, 0: road, 2: sky}}\nthings: [car]\noffset: 1\n{PALETTE}"},
        {"classes_json": json.dumps(FULL | {"names": {"2": "sky", "1": "car", "0": "road"}})},
    ],
)
def test_names_things_palette_and_offset(files):
    classes = read(**files)
    assert classes.labels.names == ("road", "car", "sky")
    assert classes.labels.things == (False, True, False)
    assert classes.labels.colors == ((1, 2, 3), (4, 5, 6), (7, 8, 9))
    assert (classes.ignore, classes.offset) == ((0, 255), 1)


def test_a_list_of_names_is_enough():
    assert read(classes_yaml="- road\n- car\n").labels.names == ("road", "car")
    assert read(classes_json='["road", "car"]').labels.names == ("road", "car")


@pytest.mark.parametrize(
    ("count", "offset", "ignored"), [(255, 0, 255), (256, 0, 65535), (254, 1, 255), (255, 1, 65535), (847, 0, 65535)]
)
def test_what_is_ignored_unless_the_list_says(count, offset, ignored):
    classes = read(classes_json=json.dumps({"names": [f"c{each}" for each in range(count)], "offset": offset}))
    assert classes.ignore == (*range(offset), ignored)


@pytest.mark.parametrize(("ignore", "values"), [(7, (7,)), ([9, 7, 7], (7, 9)), ([], ())])
def test_what_is_ignored_where_the_list_says(ignore, values):
    assert read(classes_json=json.dumps({"names": ["road"], "ignore": ignore})).ignore == values


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"other_txt": ""}, r"data has no list of classes: write classes.txt there"),
        ({"classes_txt": "a", "classes_json": "[]"}, r"data holds classes.txt and classes.json: keep one"),
        ({"classes_txt": ""}, r"classes.txt: class 0 is called '': give it a name"),
        ({"classes_txt": "a\n\nb"}, r"class 1 is called ''"),
        ({"classes_txt": "a\nb\na"}, r'two classes are called "a"'),
        ({"classes_json": "{"}, r"classes.json cannot be read: .*correct it there"),
        ({"classes_yaml": "names: [a"}, r"classes.yaml cannot be read: .*correct it there"),
        ({"classes_yaml": "names: !!python/object/apply:os.getcwd []"}, r"classes.yaml cannot be read"),
        ({"classes_yaml": "names: [yes, no]"}, r"class 0 is called True: give it a name, in quotes"),
        ({"classes_yaml": ""}, r"names must be a list of the classes, not None"),
        ({"classes_yaml": "names: {0: a, 2: b}"}, r"names must count from 0 without gaps"),
        (
            {"classes_json": '{"offest": 1, "names": ["a"]}'},
            r"has the key 'offest': write names, and where needed things",
        ),
        ({"classes_json": '{"offset": 1}'}, r"classes.json has no names"),
        ({"classes_json": '{"names": ["a"], "offset": -1}'}, r"offset must be a number from 0 on"),
        ({"classes_json": '{"names": ["a"], "offset": 65536}'}, r"offset must be a number from 0 on"),
        ({"classes_json": '{"names": ["a"], "ignore": "255"}'}, r"ignore must be a stored number or a list"),
        ({"classes_json": '{"names": ["a", "b"], "ignore": 1}'}, r'ignore 1 stands for the class "b" too: take'),
        ({"classes_json": '{"names": ["a"], "things": ["b"]}'}, r"the thing 'b' is none of the names"),
        ({"classes_json": '{"names": ["a"], "things": [1]}'}, r"the thing 1 is none of the names"),
        ({"classes_json": '{"names": ["a"], "things": "a"}'}, r"things must be a list"),
        ({"classes_json": '{"names": ["a"], "palette": []}'}, r"palette must give .* each of the 1 classes"),
        ({"classes_json": '{"names": ["a"], "palette": [[1, 2, 256]]}'}, r"palette must give"),
    ],
)
def test_a_list_that_says_something_else(files, message):
    with pytest.raises(DataError, match=message):
        read(**files)


def test_text_that_is_no_utf8():
    with pytest.raises(DataError, match=r"classes.txt is no UTF-8 text"):
        read_class_list(storage_of({"classes.txt": "Straße".encode("latin-1")}))
