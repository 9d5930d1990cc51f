"""Opening data of any format from any place."""

import json
import shutil

import fsspec
import numpy as np
import pytest

from annotated import photo, png, storage_of
from everymask.datasets.opening import list_splits, open_dataset, recognise_formats
from everymask.errors import DataError, OptionError
from shared import SHARED, needs_shared

SAMPLE = SHARED / "data" / "panoptic_sample"
IMAGE = {"id": 1, "file_name": "1.jpg", "height": 1, "width": 2}
CATEGORY = {"id": 1, "name": "cat", "isthing": 1}
PANOPTIC = {
    "images": [IMAGE],
    "categories": [CATEGORY],
    "annotations": [{"image_id": 1, "file_name": "1.png", "segments_info": [{"id": 1, "category_id": 1}]}],
}
INSTANCES = {"images": [IMAGE], "categories": [CATEGORY], "annotations": []}
PANOPTIC_FILES = {
    "val2017/1.jpg": photo(1, 2),
    "annotations/panoptic_val2017.json": json.dumps(PANOPTIC).encode(),
    "annotations/panoptic_val2017/1.png": png(np.array([[[1, 0, 0], [0, 0, 0]]], np.uint8)),
}
INSTANCE_FILES = {
    "val2017/1.jpg": photo(1, 2),
    "annotations/instances_val2017.json": json.dumps(INSTANCES).encode(),
}
STUFF_FILES = {
    "val2017/1.jpg": photo(1, 2),
    "stuffthingmaps/val2017/1.png": png(np.array([[0, 255]], np.uint8)),
}
FORMATS = {
    "coco-panoptic": (*PANOPTIC_FILES,),
    "coco-instances": (*INSTANCE_FILES,),
    "coco-stuff": (*STUFF_FILES,),
    "ade20k": ("images/training/ADE_train_1.jpg", "annotations/training/ADE_train_1.png", "objectInfo150.txt"),
    "cityscapes": (
        "leftImg8bit/val/ulm/ulm_0_0_leftImg8bit.png",
        "gtFine/val/ulm/ulm_0_0_gtFine_labelIds.png",
        "gtFine/cityscapes_panoptic_val.json",
        "gtFine/cityscapes_panoptic_val/ulm_0_0_gtFine_panoptic.png",
    ),
    "mapillary-vistas": ("training/images/a.jpg", "training/v1.2/labels/a.png", "config_v1.2.json"),
    "pascal-voc": ("JPEGImages/a.jpg", "SegmentationClass/a.png", "ImageSets/Segmentation/val.txt"),
    "camvid": ("images/val/0001TP_1.jpg", "labels/val/0001TP_1.png"),
    "folder": ("images/a.jpg", "labels/a.png", "classes.txt"),
}


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_recognised_by_the_names_of_its_files(name):
    assert recognise_formats(storage_of(dict.fromkeys(FORMATS[name], b""))) == (name,)


def test_any_format_can_be_asked_for(tmp_path):
    write(tmp_path, {**PANOPTIC_FILES, **INSTANCE_FILES})
    assert open_dataset(tmp_path, format="coco-instances", split="val2017").tasks == ("instance",)
    assert open_dataset(tmp_path, format="coco-panoptic").name == "panoptic_val2017"
    assert list_splits(tmp_path, format="coco-panoptic") == ("panoptic_val2017",)
    with pytest.raises(OptionError, match='no format "coco" of data sets; known are coco-panoptic, coco-instances, '):
        open_dataset(tmp_path, format="coco")
    with pytest.raises(DataError, match="holds no images with annotations"):
        open_dataset(tmp_path, format="coco-stuff")


def test_of_several_formats_the_task_chooses_or_the_caller(tmp_path):
    write(tmp_path, {**PANOPTIC_FILES, **INSTANCE_FILES, **STUFF_FILES})
    message = 'several formats: coco-panoptic, coco-instances, coco-stuff; say which, as in format="coco-panoptic"'
    with pytest.raises(DataError, match=message):
        open_dataset(tmp_path)
    assert open_dataset(tmp_path, task="panoptic").name == "panoptic_val2017"
    assert open_dataset(tmp_path, task="instance").name == "instances_val2017"
    assert open_dataset(tmp_path, task="semantic").name == "COCO-Stuff val2017"


def test_a_strange_folder_is_told_what_was_looked_for(tmp_path):
    write(tmp_path, {"pictures/a.jpg": b"", "masks/a.png": b""})
    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path)
    message = str(caught.value)
    assert "is in no known format. It holds masks, pictures; looked for were" in message
    assert all(f"\n  {name}: " in message for name in FORMATS)
    assert message.endswith("or say which it is with format=")


@needs_shared
def test_the_sample_opens_alike_from_everywhere(tmp_path):
    zipped = shutil.make_archive(str(tmp_path / "a"), "zip", SAMPLE.parent, SAMPLE.name)
    packed = shutil.make_archive(str(tmp_path / "b"), "gztar", SAMPLE)
    tarred = shutil.make_archive(str(tmp_path / "c"), "tar", SAMPLE)
    memory = fsspec.filesystem("memory")
    memory.put(str(SAMPLE), "/everymask-sample", recursive=True)
    try:
        places = (SAMPLE, zipped, packed, tarred, "memory://everymask-sample", f"zip://{SAMPLE.name}::file://{zipped}")
        opened = [open_dataset(place) for place in places]
        expected = opened[0].read_truth(0)
        for data in opened:
            assert (data.name, data.names) == ("truth", ("000000142238", "000000439180"))
            assert (data.read_truth(0).id_map == expected.id_map).all()
            assert (data.read_image(1) == opened[0].read_image(1)).all()
    finally:
        memory.rm("/everymask-sample", recursive=True)


@needs_shared
def test_camvid_opens_with_its_splits():
    location = SHARED / "data" / "camvid"
    assert list_splits(location) == ("test", "train", "val")
    assert [len(open_dataset(location, split=split).names) for split in ("train", "val", "test")] == [367, 101, 233]
