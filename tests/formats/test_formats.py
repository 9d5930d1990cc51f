"""Saving: every format reads back with the same masks, in this library and in the official tools' readers."""

import dataclasses
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from faster_coco_eval import COCO
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from everymask.errors import DataError, OptionError
from everymask.formats import FORMATS, coco, json_summary, masks, panoptic_png
from everymask.geometry import Size
from everymask.labels import LabelSet
from everymask.runs import Runs
from everymask.segmentation import Region, Segment, Segmentation

LABELS = LabelSet(("sky", "car", "traffic light / сигнал"), (False, True, True), ((70, 130, 180), (0, 0, 142), None))

OF_SEGMENTS = [name for name in FORMATS if not name.startswith("depth-")]


def map_result(id_map: NDArray[np.int32], *, semantic: bool = False) -> Segmentation:
    """A result of the ids in ``id_map``, which are labelled in turn."""
    segments = []
    for id in np.unique(id_map[id_map > 0]).tolist():
        runs = Runs.from_mask(id_map == id)
        label = id % len(LABELS)
        score = None if semantic else 1 / id
        thing = LABELS.things[label]
        segments.append(Segment(id, LABELS.names[label], label, score, runs.area, runs.box, thing, Region(id_map, id)))
    image = np.full((*id_map.shape, 3), 90, np.uint8)
    task = "semantic" if semantic else "panoptic"
    return Segmentation(task, Size(*id_map.shape), tuple(segments), id_map, LABELS, image)


def mask_result(stack: NDArray[np.bool_]) -> Segmentation:
    """An instance result of the masks (N, H, W)."""
    segments = []
    for id, mask in enumerate(stack, 1):
        runs = Runs.from_mask(mask)
        segments.append(Segment(id, "car", 1, 1 / id, runs.area, runs.box, True, runs))
    size = Size(*stack.shape[1:])
    return Segmentation("instance", size, tuple(segments), None, LABELS, np.zeros((*size, 3), np.uint8))


@st.composite
def id_maps(draw: st.DrawFn) -> NDArray[np.int32]:
    """Random maps: noise has holes and parts, blocks have neither; ids need more than a byte."""
    height, width, block = draw(st.integers(1, 12)), draw(st.integers(1, 12)), draw(st.integers(1, 3))
    ids = np.array([0, *draw(st.lists(st.sampled_from([1, 2, 5, 255, 256, 65_536, 70_000]), max_size=4))], np.int32)
    seed = draw(st.integers(0, 9999))
    return np.random.default_rng(seed).choice(ids, (height, width)).repeat(block, axis=0).repeat(block, axis=1)


@st.composite
def mask_stacks(draw: st.DrawFn) -> NDArray[np.bool_]:
    """Random overlapping masks (N, H, W), some of them full."""
    count, height, width = draw(st.integers(0, 5)), draw(st.integers(1, 20)), draw(st.integers(1, 20))
    density = draw(st.sampled_from([0.05, 0.5, 0.95, 1.0]))
    rng = np.random.default_rng(draw(st.integers(0, 9999)))
    stack = rng.random((count, height, width)) < density
    stack[:, rng.integers(height), rng.integers(width)] = True  # no decoder gives an empty mask
    return stack


def assert_same_masks(read: dict[int, NDArray[np.bool_]], result: Segmentation) -> None:
    assert sorted(read) == sorted(segment.id for segment in result.segments)
    for segment in result.segments:
        assert read[segment.id].dtype == np.bool_
        assert np.array_equal(read[segment.id], segment.mask)


def assert_every_mask_reads_back(result: Segmentation) -> None:
    with TemporaryDirectory() as folder:
        coco_path, masks_path, json_path = result.save(folder, ["coco", "masks", "json"])
        assert_same_masks({id: runs.to_mask() for id, runs in coco.read(coco_path).items()}, result)
        assert_same_masks(masks.read(masks_path), result)
        segments = json_summary.read(json_path)
        assert_same_masks({segment.id: segment.mask for segment in segments}, result)
        for read, written in zip(segments, result.segments, strict=True):
            assert dataclasses.replace(read, pixels=written.pixels) == written


@settings(derandomize=True, deadline=None, max_examples=40)
@given(id_maps(), st.booleans())
def test_id_maps_read_back(id_map: NDArray[np.int32], semantic: bool) -> None:
    result = map_result(id_map, semantic=semantic)
    assert_every_mask_reads_back(result)
    with TemporaryDirectory() as folder:
        png, _ = result.save(folder, ["panoptic-png"])
        assert np.array_equal(panoptic_png.read(png), id_map)
        assert panoptic_png.read(png).dtype == np.int32


@settings(derandomize=True, deadline=None, max_examples=40)
@given(mask_stacks())
def test_overlapping_masks_read_back(stack: NDArray[np.bool_]) -> None:
    assert_every_mask_reads_back(mask_result(stack))


def ring_and_parts() -> Segmentation:
    """Segment 1 has a hole with a part of itself in it, segment 2 has two parts."""
    id_map = np.zeros((12, 16), np.int32)
    id_map[1:10, 1:10] = 1
    id_map[3:8, 3:8] = 0
    id_map[5, 5] = 1
    id_map[0:2, 12:16] = 2
    id_map[10:12, 12:15] = 2
    return map_result(id_map)


def test_a_faster_coco_eval_data_set_loads(tmp_path: Path) -> None:
    result = ring_and_parts()
    (path,) = result.save(tmp_path, ["coco"], stem="000000142238")
    dataset = COCO(str(path))
    assert dataset.getImgIds() == [142238]
    assert dataset.imgs[142238]["width"] == 16
    assert [category["name"] for category in dataset.loadCats(dataset.getCatIds())] == list(LABELS.names)
    for segment in result.segments:
        (annotation,) = dataset.loadAnns([segment.id])
        assert np.array_equal(dataset.annToMask(annotation).astype(bool), segment.mask)
        assert annotation["area"] == segment.area == segment.mask.sum()
        assert annotation["bbox"] == list(segment.box)
        assert annotation["category_id"] == segment.label_id
    results = dataset.loadRes(json.loads(path.read_text())["annotations"])
    assert [annotation["score"] for annotation in results.loadAnns(results.getAnnIds())] == [1.0, 0.5]


def test_semantic_annotations_have_no_score(tmp_path: Path) -> None:
    result = map_result(np.ones((4, 4), np.int32), semantic=True)
    coco_path, _, panoptic_path = result.save(tmp_path, ["coco", "panoptic-png"])
    assert "score" not in json.loads(coco_path.read_text())["annotations"][0]
    assert "score" not in json.loads(panoptic_path.read_text())["annotations"][0]["segments_info"][0]
    assert COCO(str(coco_path)).getAnnIds() == [1]


def test_the_panoptic_files_are_those_of_panopticapi(tmp_path: Path) -> None:
    id_map = np.zeros((2, 3), np.int32)
    id_map[0] = 1
    id_map[1, 1:] = 1 + 2 * 256 + 3 * 65536
    png, description = map_result(id_map).save(tmp_path, ["panoptic-png"], stem="7")
    assert (png.name, description.name) == ("7.panoptic.png", "7.panoptic.json")
    rgb = np.asarray(Image.open(png))
    assert rgb.shape == (2, 3, 3)
    assert rgb[0, 0].tolist() == [1, 0, 0]
    assert rgb[1, 2].tolist() == [1, 2, 3]
    assert rgb[1, 0].tolist() == [0, 0, 0]
    document = json.loads(description.read_text())
    assert document["images"] == [{"id": 7, "file_name": "7", "height": 2, "width": 3}]
    assert document["categories"][1] == {"id": 1, "name": "car", "isthing": 1, "color": [0, 0, 142]}
    (annotation,) = document["annotations"]
    assert (annotation["image_id"], annotation["file_name"]) == (7, "7.panoptic.png")
    assert annotation["segments_info"][0] == {
        "id": 1,
        "category_id": 1,
        "isthing": 1,
        "area": 3,
        "bbox": [0, 0, 3, 1],
        "iscrowd": 0,
        "score": 1.0,
    }
    assert annotation["segments_info"][1]["bbox"] == [1, 1, 2, 1]


def test_the_official_sample_reads_as_panopticapi_reads_it() -> None:
    folder = Path(__file__).parents[2].parent / "shared" / "data" / "panoptic_sample"
    if not folder.is_dir():
        pytest.skip("the shared panoptic sample is not here")
    for annotation in json.loads((folder / "truth.json").read_text())["annotations"]:
        id_map = panoptic_png.read(folder / "truth" / annotation["file_name"])
        ids, areas = np.unique(id_map[id_map > 0], return_counts=True)
        assert dict(zip(ids.tolist(), areas.tolist(), strict=True)) == {
            info["id"]: info["area"] for info in annotation["segments_info"]
        }


def test_the_json_summary_is_as_documented(tmp_path: Path) -> None:
    (path,) = ring_and_parts().save(tmp_path, ["json"], stem="street")
    assert path.name == "street.segments.json"
    document = json.loads(path.read_text())
    assert {key: document[key] for key in ("version", "task", "size")} == {
        "version": 1,
        "task": "panoptic",
        "size": {"height": 12, "width": 16},
    }
    first = document["segments"][0]
    assert list(first) == ["id", "label", "label_id", "score", "area", "box", "is_thing", "rle"]
    assert (first["label"], first["score"], first["box"], first["is_thing"]) == ("car", 1.0, [1, 1, 9, 9], True)
    assert first["rle"]["size"] == [12, 16]


def test_masks_are_black_and_white_pictures_with_safe_names(tmp_path: Path) -> None:
    (folder,) = ring_and_parts().save(tmp_path, ["masks"])
    assert folder == tmp_path / "image.masks"
    assert sorted(path.name for path in folder.iterdir()) == ["001-car.png", "002-traffic-light-сигнал.png"]
    with Image.open(folder / "001-car.png") as png:
        assert (png.mode, png.size) == ("1", (16, 12))
        assert png.getpixel((1, 1)) == 255
        assert png.getpixel((0, 0)) == 0


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("car", "car"),
        ("../../etc/passwd", "etc-passwd"),
        ('a\\b:c*?"<>|d\x00\n', "a-b-c-d"),
        ("windowpane ", "windowpane"),
        ("", "segment"),
        ("...", "segment"),
        ("\ud800", "segment"),
        ("犬", "犬"),
        ("W" * 500, "W" * 100),
        ("é" * 500, "é" * 50),
        ("犬" * 500, "犬" * 33),
    ],
)
def test_file_names_of_labels(label: str, name: str) -> None:
    assert masks.file_name_of(label) == name


@settings(derandomize=True, deadline=None)
@given(st.text())
def test_any_label_makes_a_file_name(label: str) -> None:
    name = masks.file_name_of(label)
    assert 0 < len(name.encode()) <= 100
    assert not set(name) & set('/\\:*?"<>|. \0')


def test_odd_labels_read_back_from_every_format(tmp_path: Path) -> None:
    for i, label in enumerate(("", "a/b", 'quote " and \\', "\ud800", "犬\n猫")):
        plain = map_result(np.ones((3, 3), np.int32))
        segment = dataclasses.replace(plain.segments[0], label=label)
        labels = LabelSet(("sky", label), (False, True), (None, None))
        result = dataclasses.replace(plain, segments=(segment,), labels=labels)
        paths = result.save(tmp_path, OF_SEGMENTS, stem=f"image{i}")
        (read,) = json_summary.read(paths[-1])
        assert read.label == label


def test_the_overlay_is_the_picture_with_its_legend(tmp_path: Path) -> None:
    result = ring_and_parts()
    (path,) = result.save(tmp_path, ["overlay"], stem="street")
    assert path == tmp_path / "street.overlay.png"
    with Image.open(path) as png:
        assert png.format == "PNG"
        assert np.array_equal(np.asarray(png), np.asarray(result.draw(legend=True)))


def test_all_formats_of_an_empty_result(tmp_path: Path) -> None:
    result = map_result(np.zeros((5, 6), np.int32))
    paths = result.save(tmp_path, OF_SEGMENTS)
    assert [path.name for path in paths] == [
        "image.overlay.png",
        "image.panoptic.png",
        "image.panoptic.json",
        "image.coco.json",
        "image.masks",
        "image.segments.json",
    ]
    assert all(path.exists() for path in paths)
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert masks.read(paths[4]) == coco.read(paths[3]) == {}
    assert json_summary.read(paths[5]) == ()


@pytest.mark.parametrize(
    ("read", "content"),
    [
        (coco.read, b"not json"),
        (coco.read, b'{"annotations": [{"id": 1}]}'),
        (coco.read, b"[]"),
        (json_summary.read, b'{"version": 2, "segments": []}'),
        (json_summary.read, b'{"version": 1}'),
        (panoptic_png.read, b"not a picture"),
        (masks.read, b"not a folder"),
    ],
)
def test_unreadable_files_are_data_errors(read: object, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(DataError, match="save it again"):
        read(path)  # type: ignore[operator]
    with pytest.raises(DataError, match="save it again"):
        read(tmp_path / "missing")  # type: ignore[operator]


def test_a_grey_picture_is_no_panoptic_png(tmp_path: Path) -> None:
    Image.new("L", (3, 3)).save(tmp_path / "grey.png")
    with pytest.raises(DataError, match="red, green, blue"):
        panoptic_png.read(tmp_path / "grey.png")


def test_instances_have_no_panoptic_png_and_nothing_is_written(tmp_path: Path) -> None:
    result = mask_result(np.ones((1, 4, 4), np.bool_))
    with pytest.raises(OptionError, match="coco or masks"):
        result.save(tmp_path / "out", ["coco", "panoptic-png"])
    assert not (tmp_path / "out").exists()


def test_without_an_image_the_overlay_is_refused_and_the_rest_is_saved(tmp_path: Path) -> None:
    result = dataclasses.replace(ring_and_parts(), image=None)
    with pytest.raises(OptionError, match="no image"):
        result.save(tmp_path, ["json", "overlay"])
    assert list(tmp_path.iterdir()) == []
    assert len(result.save(tmp_path, ["json", "coco", "masks", "panoptic-png"])) == 5
