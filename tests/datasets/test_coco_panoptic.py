"""COCO panoptic annotations: against an independent decoding, and what contradicts itself is refused."""

import json
import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotated import expected, photo, pieces, png, storage_of
from everymask.datasets import coco_panoptic
from everymask.errors import DataError, ImageError
from everymask.labels import label_set
from shared import SHARED, needs_shared

SAMPLE = SHARED / "data" / "panoptic_sample"
CATEGORIES = [
    {"id": 30, "name": "grass", "isthing": 0, "color": [0, 200, 0]},
    {"id": 7, "name": "cat", "isthing": 1, "color": [200, 0, 0]},
    {"id": 12, "name": "dog", "isthing": 1},
]


def id_png(ids):
    """The panoptic PNG of an (H, W) map of ids."""
    return png(np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=2).astype(np.uint8))


def files_of(maps, infos, name="panoptic_val2017", categories=CATEGORIES):
    """The files of a data set: a map of ids and the segments' (id, category, crowd) for every image."""
    images = [
        {"id": number, "file_name": f"{number:03}.jpg", "height": ids.shape[0], "width": ids.shape[1]}
        for number, ids in enumerate(maps)
    ]
    annotations = [
        {
            "image_id": number,
            "file_name": f"{number:03}.png",
            "segments_info": [
                {"id": id, "category_id": category, "iscrowd": int(crowd)} for id, category, crowd in info
            ],
        }
        for number, info in enumerate(infos)
    ]
    files = {f"val2017/{image['file_name']}": photo(image["height"], image["width"]) for image in images}
    files |= {f"annotations/{name}/{each:03}.png": id_png(ids) for each, ids in enumerate(maps)}
    document = {"images": images, "annotations": annotations[::-1], "categories": categories}
    files[f"annotations/{name}.json"] = json.dumps(document).encode()
    return files


def changed(files, change, name="annotations/panoptic_val2017.json"):
    """The files with a JSON that ``change`` was done to."""
    document = json.loads(files[name])
    change(document)
    return {**files, name: json.dumps(document).encode()}


@st.composite
def data_sets(draw):
    height, width = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    number = draw(st.integers(0, 5))
    ids = draw(st.lists(st.integers(1, 2**24 - 1), min_size=number, max_size=number, unique=True))
    info = [(id, draw(st.sampled_from((7, 12, 30))), draw(st.booleans())) for id in ids]
    places = np.array(draw(st.lists(st.integers(0, number), min_size=height * width, max_size=height * width)))
    return np.array([0, *ids])[places].reshape(height, width), [
        each for each in info if each[0] in np.array([0, *ids])[places]
    ]


@settings(derandomize=True, deadline=None, max_examples=60)
@given(data_sets())
def test_random_maps(example):
    ids, info = example
    data = coco_panoptic.read(storage_of(files_of([ids, ids[::-1]], [info, info])))
    index = {7: 0, 12: 1, 30: 2}
    for place, dense in enumerate((ids, ids[::-1])):
        truth = data.read_truth(place)
        assert pieces(truth) == expected((index[category], crowd, dense == id) for id, category, crowd in info)
        assert [segment.label_id for segment in truth.segments] == [index[category] for _, category, _ in info]


def test_categories_are_classes_by_rising_id():
    data = coco_panoptic.read(storage_of(files_of([np.array([[5]])], [[(5, 12, False)]])))
    assert data.labels.names == ("cat", "dog", "grass")
    assert data.labels.things == (True, True, False)
    assert data.labels.colors == ((200, 0, 0), None, (0, 200, 0))
    assert data.conventions.ignore == (0,)
    assert data.tasks[0] == "panoptic"
    assert (data.name, data.names) == ("panoptic_val2017", ("000",))
    assert data.source(0) == "data/val2017/000.jpg"
    assert data.read_image(0).shape == (1, 1, 3)


@pytest.mark.parametrize("split", [None, "panoptic_train2017", "train2017", "train"])
def test_splits(split):
    files = files_of([np.array([[5]])], [[(5, 7, False)]], "panoptic_train2017")
    if split is not None:
        files |= files_of([np.array([[6]])], [[(6, 12, False)]])
    storage = storage_of(files)
    assert coco_panoptic.read(storage, split).read_truth(0).segments[0].label_id == 0
    assert "panoptic_train2017" in coco_panoptic.splits(storage)


def test_a_split_has_to_be_chosen_and_known():
    one = [np.array([[5]])], [[(5, 7, False)]]
    storage = storage_of(files_of(*one) | files_of(*one, "panoptic_train2017"))
    with pytest.raises(DataError, match="has the splits panoptic_train2017, panoptic_val2017: say which"):
        coco_panoptic.read(storage)
    with pytest.raises(DataError, match="has no split 'test'"):
        coco_panoptic.read(storage, "test")
    with pytest.raises(DataError, match="cannot be read for the task 'depth'"):
        coco_panoptic.read(storage, "val", "depth")


@needs_shared
def test_the_sample_has_the_areas_that_its_authors_give():
    from everymask.datasets.storage import Storage

    data = coco_panoptic.read(Storage.open(SAMPLE))  # the predictions beside it are no annotations
    document = json.loads((SAMPLE / "truth.json").read_bytes())
    assert data.labels == label_set("coco-panoptic")
    index = {category["id"]: place for place, category in enumerate(document["categories"])}
    for place, annotation in enumerate(document["annotations"]):
        truth = data.read_truth(place)
        stated = [(index[each["category_id"]], each["area"], each["iscrowd"]) for each in annotation["segments_info"]]
        assert [(each.label_id, each.area, each.is_crowd) for each in truth.segments] == stated
        assert truth.size == data.read_image(place).shape[:2]
        counted = np.bincount(truth.id_map.ravel(), minlength=len(stated) + 1)
        assert counted[1:].tolist() == [area for _, area, _ in stated]
    sent = pickle.loads(pickle.dumps(data))
    assert (sent.read_truth(1).id_map == data.read_truth(1).id_map).all()


@needs_shared
def test_the_sample_has_predictions_in_the_same_format():
    from everymask.datasets.storage import Storage

    storage = Storage.open(SAMPLE)
    assert coco_panoptic.splits(storage) == ("truth",)
    truth, predicted = (coco_panoptic.read(storage, split) for split in ("truth", "prediction_good"))
    assert predicted.names == truth.names
    assert predicted.labels == truth.labels
    agree = predicted.read_truth(0).class_map() == truth.read_truth(0).class_map()
    assert agree.mean() > 0.7
    with pytest.raises(ImageError, match="is without photographs"):
        predicted.read_image(0)


def test_predictions_alone_are_of_cocos_categories():
    files = files_of([np.array([[9, 9]])], [[(9, 200, False)]])
    document = json.loads(files["annotations/panoptic_val2017.json"])
    alone = {
        "results.json": json.dumps({"annotations": document["annotations"]}).encode(),
        "results/000.png": files["annotations/panoptic_val2017/000.png"],
    }
    data = coco_panoptic.read(storage_of(alone))
    assert data.labels == label_set("coco-panoptic")
    assert data.labels.names[data.read_truth(0).segments[0].label_id] == "rug-merged"
    assert data.source(0) == "data/results/000.png"


def test_photographs_are_found_where_their_name_is():
    files = files_of([np.array([[5]])], [[(5, 7, False)]])
    image = files.pop("val2017/000.jpg")
    for folder in ("", "images/", "images/val2017/", "JPEGImages/"):
        data = coco_panoptic.read(storage_of({**files, f"{folder}000.jpg": image}))
        assert data.source(0) == f"data/{folder}000.jpg"
    with pytest.raises(DataError, match=r"none of the images .* the first is 000\.jpg: put their folder there"):
        coco_panoptic.read(storage_of(files))


def test_a_missing_photograph_is_an_image_error():
    files = files_of([np.array([[5]])] * 2, [[(5, 7, False)]] * 2)
    del files["val2017/001.jpg"]
    data = coco_panoptic.read(storage_of(files))
    with pytest.raises(ImageError, match=r"val2017/001\.jpg does not exist"):
        data.read_image(1)


GOOD = files_of([np.array([[5, 300, 0]])], [[(5, 7, False), (300, 30, False)]])
PNG = "annotations/panoptic_val2017/000.png"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["categories"].clear(), '"categories" is empty or has an id twice'),
        (lambda d: d["categories"][0].pop("name"), '"categories" need a number as "id" and a "name" each'),
        (lambda d: d["categories"].append(d["categories"][0]), "has an id twice: give every class its own id"),
        (lambda d: d["images"].clear(), r"annotates the image 0, which is not in \"images\""),
        (lambda d: d["images"].append(dict(d["images"][0], id=9)), "lists the image 000 twice: keep one entry"),
        (lambda d: d["annotations"].append(d["annotations"][0]), "annotates an image twice"),
        (
            lambda d: d["annotations"][0]["segments_info"][0].update(category_id=8),
            "uses the category id 8 that it does",
        ),
        (
            lambda d: d["annotations"][0]["segments_info"][0].update(id=300),
            "has a segment of the id 0, or two of one id",
        ),
        (lambda d: d["annotations"][0]["segments_info"][0].update(id=0), "has a segment of the id 0, or two of one id"),
        (lambda d: d["annotations"][0].pop("segments_info"), "is no COCO panoptic file .KeyError.'segments_info'"),
    ],
)
def test_a_json_that_contradicts_itself_is_refused(change, message):
    with pytest.raises(DataError, match=message):
        coco_panoptic.read(storage_of(changed(GOOD, change)))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (changed(GOOD, lambda d: d["annotations"].clear()), "has no annotation of the image 000: add one"),
        (changed(GOOD, lambda d: d["images"][0].update(width=4)), "is 3 x 1 pixels and its image 4 x 1: make the PNG"),
        ({**GOOD, PNG: id_png(np.array([[5, 300, 6]]))}, r"000\.png holds the id 6 that the JSON does not list"),
        ({**GOOD, PNG: id_png(np.array([[1, 5, 300]]))}, r"000\.png holds the id 1 that the JSON does not list"),
        ({**GOOD, PNG: id_png(np.array([[5, 5, 0]]))}, r"000\.png has no pixel of the id 300 that the JSON lists"),
        ({**GOOD, PNG: png(np.zeros((1, 3), np.uint8))}, "has the mode L: these annotations are RGB PNGs"),
        ({**GOOD, PNG: GOOD[PNG][:40]}, "cannot be read as a PNG"),
    ],
)
def test_a_png_that_contradicts_the_json_is_refused(files, message):
    with pytest.raises(DataError, match=message):
        coco_panoptic.read(storage_of(files)).read_truth(0)


@pytest.mark.parametrize(
    ("content", "message"), [(b'{"images": [', "is no complete JSON"), (b"[]", "holds a JSON list, not COCO's object")]
)
def test_a_file_that_is_no_json_is_refused(content, message):
    with pytest.raises(DataError, match=message):
        coco_panoptic.read(storage_of({**GOOD, "annotations/panoptic_val2017.json": content}))


def test_no_files_at_all_are_refused():
    with pytest.raises(DataError, match=r"unpack panoptic_val2017\.zip there"):
        coco_panoptic.read(storage_of({"annotations/panoptic_val2017.json": b"{}", "val2017/000.jpg": b""}))


def test_the_memory_of_a_truth_does_not_depend_on_the_number_of_its_segments():
    def peak(number):
        rows, columns = np.indices((480, 640)) // 12
        ids = (rows * 54 + columns) % number + 1
        info = [(id, 7, False) for id in range(1, number + 1)]
        data = coco_panoptic.read(storage_of(files_of([ids], [info])))
        data.read_truth(0)  # what is loaded once is not counted
        tracemalloc.start()
        truth = data.read_truth(0)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(truth.segments) == number
        return used

    few, many = peak(10), peak(1000)
    assert many < few + 1_000_000  # one mask of 480 x 640 is 307,200 bytes
