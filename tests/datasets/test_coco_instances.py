"""COCO instance annotations: masks equal to those of pycocotools, and damage is refused."""

import contextlib
import copy
import io
import json
import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as official
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from annotated import photo, storage_of
from everymask.datasets import coco_instances
from everymask.errors import DataError
from everymask.geometry import Size
from everymask.labels import label_set
from everymask.metrics.instance import AveragePrecision
from everymask.runs import Runs
from everymask.segmentation import Segment, Segmentation

CATEGORIES = [{"id": 44, "name": "bottle"}, {"id": 3, "name": "car", "supercategory": "vehicle"}]
SQUARE = [[1.5, 1.5, 6.25, 1.5, 6.25, 5.0, 1.5, 5.0]]


def annotation(segmentation, id=1, image=9, category=3, **more):
    return {"id": id, "image_id": image, "category_id": category, "segmentation": segmentation, "iscrowd": 0, **more}


def document_of(annotations, size=(8, 10), categories=CATEGORIES, images=(9,)):
    height, width = size
    entries = [{"id": id, "file_name": f"{id:012}.jpg", "height": height, "width": width} for id in images]
    return {"images": entries, "annotations": annotations, "categories": categories}


def open_document(document, name="annotations/instances_val2017.json"):
    height, width = document["images"][0]["height"], document["images"][0]["width"]
    files = {f"val2017/{image['file_name']}": photo(height, width) for image in document["images"]}
    return coco_instances.read(storage_of({**files, name: json.dumps(document).encode()}))


def official_masks(document):
    """The masks that pycocotools makes of the annotations of image 9."""
    coco = COCO()
    coco.dataset = document
    coco.createIndex()
    runs = [coco.annToRLE(each) for each in coco.imgToAnns[9]]
    return [Runs(Size(*each["size"]), each["counts"]).to_mask() for each in runs]


coordinates = st.floats(-12, 40, allow_nan=False).map(lambda value: round(value, 2))
polygons = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=9).map(
    lambda points: [number for point in points for number in point]
)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(
    st.lists(st.lists(polygons, min_size=1, max_size=3), min_size=1, max_size=4),
    st.tuples(st.integers(1, 24), st.integers(1, 24)),
)
def test_polygons_are_drawn_as_pycocotools_draws_them(objects, size):
    document = document_of([annotation(each, id) for id, each in enumerate(objects, 1)], size)
    truth = open_document(document).read_truth(0)
    assert truth.id_map is None
    assert truth.size == size
    for segment, mask in zip(truth.segments, official_masks(document), strict=True):
        assert (segment.pixels.to_mask() == mask).all()
        assert segment.area == mask.sum()


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.integers(1, 12), st.integers(1, 12), st.data())
def test_runs_compressed_or_not(height, width, data):
    flat = data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    mask = np.array(flat, np.uint8).reshape(height, width)
    encoded = official.encode(np.asfortranarray(mask))
    column = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(column, prepend=0))
    counts = np.diff(np.concatenate(([0], changes, [column.size]))).tolist()
    compressed = {"size": [height, width], "counts": encoded["counts"].decode()}
    document = document_of(
        [
            annotation(compressed, 1),
            annotation({"size": [height, width], "counts": counts}, 2, category=44, iscrowd=1),
        ],
        (height, width),
    )
    truth = open_document(document).read_truth(0)
    assert [segment.is_crowd for segment in truth.segments] == [False, True]
    assert [segment.label_id for segment in truth.segments] == [0, 1]
    for segment in truth.segments:
        assert (segment.pixels.to_mask() == mask).all()


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 3000), min_size=1, max_size=12))
def test_the_pixels_of_compressed_runs_are_counted(lengths):
    total = sum(lengths)
    counts = official.frPyObjects({"size": [total, 1], "counts": lengths}, total, 1)["counts"]
    assert coco_instances._total(counts) == total


def test_images_categories_and_areas():
    document = document_of(
        [annotation(SQUARE, 5, image=9, area=13.25), annotation(SQUARE, 6, image=4, category=44)], images=(9, 4, 7)
    )
    data = open_document(document)
    assert data.labels.names == ("car", "bottle")
    assert data.labels.things == (True, True)
    assert data.tasks == ("instance",)
    assert data.names == ("000000000009", "000000000004", "000000000007")
    assert data.source(1) == "data/val2017/000000000004.jpg"
    first, second, none = (data.read_truth(index).segments for index in range(3))
    assert [(each.label_id, each.stated_area, each.area) for each in first] == [
        (0, 13.25, official_masks(document)[0].sum())
    ]
    assert [(each.label_id, each.stated_area) for each in second] == [(1, None)]
    assert none == ()
    assert data.read_image(2).shape == (8, 10, 3)
    assert pickle.loads(pickle.dumps(data)).read_truth(0) == data.read_truth(0)


def test_cocos_80_classes_have_its_palette():
    known = label_set("coco-instance")
    ids = [index for index in label_set("coco-detr").classes if index <= 90]
    categories = [{"id": id, "name": name} for id, name in zip(ids, known.names, strict=True)]
    assert open_document(document_of([annotation(SQUARE)], categories=categories[::-1])).labels == known


def test_of_several_files_a_split_is_chosen():
    document = json.dumps(document_of([annotation(SQUARE)])).encode()
    files = {f"annotations/instances_{split}2017.json": document for split in ("train", "val")}
    files |= {"annotations/captions_val2017.json": b"{}", "annotations/person_keypoints_val2017.json": b"{}"}
    storage = storage_of({**files, "val2017/000000000009.jpg": photo(8, 10)})
    assert coco_instances.splits(storage) == ("instances_train2017", "instances_val2017")
    assert coco_instances.read(storage, "val").name == "instances_val2017"
    with pytest.raises(DataError, match="has the splits instances_train2017, instances_val2017: say which"):
        coco_instances.read(storage)


def test_files_beside_their_photographs_are_named_by_the_folder():
    document = json.dumps(document_of([annotation(SQUARE)])).encode()
    files = {f"{split}/_annotations.coco.json": document for split in ("train", "valid")}
    files |= {f"{split}/000000000009.jpg": photo(8, 10) for split in ("train", "valid")}
    storage = storage_of(files)
    assert coco_instances.splits(storage) == ("train", "valid")
    assert coco_instances.read(storage, "valid").source(0) == "data/valid/000000000009.jpg"
    assert coco_instances.read(storage, "train").source(0) == "data/train/000000000009.jpg"


ENCODED = {
    "size": [8, 10],
    "counts": official.encode(np.asfortranarray(np.eye(8, 10, dtype=np.uint8)))["counts"].decode(),
}


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([], "the annotation 1 of instances_val2017 has no segmentation, perhaps only a box"),
        ([[1, 1, 5, 5]], "has a polygon of 4 numbers: it takes x and y of at least three points"),
        ([[1, 1, 5, 5, 3, 2, 7]], "has a polygon of 7 numbers"),
        ([SQUARE[0], []], "has a polygon of 0 numbers"),
        ([[1, 1, 5, float("nan"), 3, 2]], "has a polygon with points far outside the image"),
        ([[1, 1, 5, 1e300, 3, 2]], "has a polygon with points far outside the image"),
        ({**ENCODED, "size": [10, 8]}, "has runs for 8 x 10 pixels and its image is 10 x 8: write them again"),
        ({**ENCODED, "counts": ENCODED["counts"][:-1]}, "has damaged runs, which do not fill the image"),
        ({**ENCODED, "counts": ENCODED["counts"] + "5"}, "has damaged runs"),
        ({**ENCODED, "counts": ""}, "has damaged runs"),
        ({**ENCODED, "counts": "PPPPPPPPPPPPP"}, "has damaged runs"),
        ({**ENCODED, "counts": "\n\n"}, "has damaged runs"),
    ],
)
def test_a_damaged_segmentation_is_refused_when_it_is_read(segmentation, message):
    data = open_document(document_of([annotation(segmentation)]))
    with pytest.raises(DataError, match=message):
        data.read_truth(0)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (document_of([annotation(SQUARE, image=1)]), "annotates the image 1, which is not listed"),
        (document_of([annotation(SQUARE, category=1)]), "uses the category id 1, which is not listed"),
        (document_of([], images=(9, 9)), "has two images of one id"),
        (document_of([], categories=[]), '"categories" is empty'),
        (document_of([annotation("polygon")]), "is no file of COCO instances"),
        (document_of([annotation([["1", "2"]])]), "is no file of COCO instances"),
        (document_of([annotation({"size": [8, 10]})]), "is no file of COCO instances .KeyError.'counts'"),
        (document_of([annotation({"size": [8, 10], "counts": [3, 4]})]), "make up 7 pixels, those .* 10 x 8 are 80"),
        (document_of([annotation({"size": [8, 10], "counts": [-3, 83]})]), "make up 80 pixels"),
        ({"images": document_of([])["images"]}, "is no file of COCO instances .KeyError"),
    ],
)
def test_a_json_that_contradicts_itself_is_refused(document, message):
    with pytest.raises(DataError, match=message):
        open_document(document)


def test_a_thousand_objects_are_runs_and_nothing_dense():
    def peak(number):
        rng = np.random.default_rng(0)
        corners = rng.uniform(0, 400, (number, 2))
        annotations = [
            annotation([[x, y, x + 90, y, x + 90, y + 60, x, y + 60]], id) for id, (x, y) in enumerate(corners.tolist())
        ]
        data = open_document(document_of(annotations, (480, 640)))
        data.read_truth(0)  # what is loaded once is not counted
        tracemalloc.start()
        truth = data.read_truth(0)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(truth.segments) == number
        assert all(isinstance(segment.pixels, Runs) for segment in truth.segments)
        assert truth.segments[0].pixels.size == Size(480, 640)
        return used

    assert peak(1000) < peak(10) + 3_000_000  # a thousand masks of 480 x 640 are 307,200,000 bytes


def test_average_precision_is_that_of_pycocotools():
    rng = np.random.default_rng(7)
    images, size = tuple(range(1, 9)), (120, 160)

    def polygon():
        angles = np.sort(rng.uniform(0, 2 * np.pi, 8))
        points = rng.uniform((20, 20), (140, 100)) + np.stack((np.cos(angles), np.sin(angles)), 1) * rng.uniform(4, 60)
        return points.round(2).ravel().tolist()

    true = [
        annotation(
            [polygon()], id, int(rng.choice(images)), int(rng.choice((3, 44))), area=float(rng.uniform(50, 12000))
        )
        for id in range(1, 60)
    ]
    for each in true[::9]:  # crowds, as runs
        each |= {"iscrowd": 1, "segmentation": official.frPyObjects(each["segmentation"], *size)[0]}
        each["segmentation"]["counts"] = each["segmentation"]["counts"].decode()
    document = document_of(true, size, images=images)
    predicted = []
    for each in true:
        outline = polygon() if each["iscrowd"] else each["segmentation"][0]
        moved = [[number + float(rng.normal(0, 2)) for number in outline]]
        runs = official.frPyObjects(moved, *size)[0]
        predicted.append({**each, "segmentation": runs, "score": float(rng.random()), "id": len(predicted) + 1})

    coco = COCO()
    coco.dataset = copy.deepcopy(document)  # the evaluator writes into it
    coco.createIndex()
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator = COCOeval(coco, coco.loadRes(copy.deepcopy(predicted)), "segm")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()

    data = open_document(document)
    precision = AveragePrecision(data.labels)
    for place, image in enumerate(images):
        segments = [
            Segment(
                each["id"],
                "",
                {3: 0, 44: 1}[each["category_id"]],
                each["score"],
                int(official.area(each["segmentation"])),
                (0, 0, 1, 1),
                True,
                Runs(Size(*size), each["segmentation"]["counts"]),
            )
            for each in sorted(predicted, key=lambda each: -each["score"])
            if each["image_id"] == image
        ]
        precision.add(Segmentation("instance", Size(*size), tuple(segments), None, data.labels), data.read_truth(place))
    scores = precision.scores()
    ours = [scores.ap, scores.ap50, scores.ap75, scores.ap_small, scores.ap_medium, scores.ap_large]
    ours += [scores.ar1, scores.ar10, scores.ar100, scores.ar_small, scores.ar_medium, scores.ar_large]
    assert ours == pytest.approx(evaluator.stats.tolist(), abs=1e-12)
    assert 0.1 < scores.ap < 0.9
