"""The cases of transformers' own pipeline tests, rewritten: each runs through transformers' pipeline and through ours.

They stand in tests/pipelines/test_pipelines_image_segmentation.py, test_pipelines_depth_estimation.py and
test_pipelines_common.py of transformers, under the names that are given here. They download their checkpoints and
images; here these are the tiny checkpoints and pictures of our own, and expected values are those of transformers where
the original records hashes of masks. Left out: TensorFlow's and Flax's cases, which transformers skips itself, and
those of the base class that concern text.
"""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from huggingface_hub import ImageSegmentationOutputElement
from official_processors import torchvision
from PIL import Image
from pipeline_answers import Pipelines, assert_same, equal_pixels, picture, pipelines
from torch.utils.data import Dataset

from everymask.compat.transformers import pipeline

__all__ = ["pipelines", "torchvision"]  # fixtures

Make = Callable[..., Any]
ALL = {"threshold": 0.0, "mask_threshold": 0, "overlap_mask_area_threshold": 0}


@pytest.fixture(params=["theirs", "ours", "like_transformers"])
def make(request: pytest.FixtureRequest, pipelines: Pipelines) -> Make:
    """``pipeline`` for a tiny checkpoint's name, with one import and with the other."""
    made: Make = getattr(pipelines, request.param)
    return made


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("photo") / "000000039769.png"
    picture().save(path)
    return str(path)


def assert_annotations(found: Any, size: tuple[int, int] = (120, 90)) -> None:
    """A list of {score, label, mask} as the Hub's specification of the task has them, the mask a picture still."""
    assert isinstance(found, list)
    for each in found:
        assert each.keys() == {"score", "label", "mask"} == set(ImageSegmentationOutputElement.__annotations__)
        assert each["score"] is None or isinstance(each["score"], float)
        assert isinstance(each["label"], str)
        assert isinstance(each["mask"], Image.Image)
        assert (each["mask"].mode, each["mask"].size) == ("L", size)


@pytest.mark.parametrize("name", ["detr", "mask2former", "oneformer", "eomt", "segformer", "beit"])
def test_run_pipeline_test(make: Make, pipelines: Pipelines, photo: str, name: str) -> None:
    """A path, pictures of several modes, and five times the same path in batches of two."""
    segmenter = make(name)
    found = segmenter(photo, **ALL)
    assert len(found) >= 1
    assert_annotations(found)
    for mode in ("RGBA", "LA", "L"):
        assert_annotations(segmenter(picture().convert(mode), **ALL))
    batch = segmenter([photo] * 5, **ALL, batch_size=1 if name == "detr" else 2)
    assert [len(each) for each in batch] == [len(found)] * 5
    for each in batch:
        assert_same(each, found)


@pytest.mark.parametrize("subtask", ["panoptic", "instance"])
@pytest.mark.parametrize("name", ["segformer", "upernet", "beit", "dpt"])
def test_small_model_pt_no_panoptic(make: Make, pipelines: Pipelines, photo: str, name: str, subtask: str) -> None:
    segmenter = make(name)
    with pytest.raises(ValueError, match=f"(?i)subtask '?{subtask}'? is not supported for"):
        segmenter(photo, subtask=subtask)


def test_small_model_pt(make: Make, pipelines: Pipelines, photo: str) -> None:
    """Options given once hold for all calls; a call may change them."""
    segmenter = make("detr", image_processor=str(pipelines.folder("detr")), subtask="panoptic", **ALL)
    found = segmenter(photo)
    assert len(found) > 1
    assert_annotations(found)
    assert_same(segmenter([photo, photo]), [found, found])
    assert all(0 < each["score"] <= 1 for each in segmenter(photo, subtask="instance"))
    semantic = segmenter(photo, subtask="semantic")
    assert [each["score"] for each in semantic] == [None] * len(semantic)
    covered = sum(np.asarray(each["mask"]).astype(bool).astype(int) for each in semantic)
    assert (covered == 1).all()
    # "This must be surprising to the reader": the three tasks find different segments.
    assert [each["label"] for each in semantic] != [each["label"] for each in found]


@pytest.mark.parametrize("name", ["segformer", "upernet", "beit", "dpt"])
def test_small_model_pt_semantic(pipelines: Pipelines, photo: str, name: str) -> None:
    """The recorded masks of a network that scores pixels: ours need no task, since the folder tells it."""
    recorded = pipelines.theirs(name)(photo)
    for decoding in ("everymask", "transformers"):
        found = pipeline(model=str(pipelines.folder(name)), device="cpu", decoding=decoding)(photo)
        assert [(each["score"], each["label"]) for each in found] == [(None, each["label"]) for each in recorded]
        for each, expected in zip(found, recorded, strict=True):
            assert equal_pixels(each["mask"], expected["mask"]) >= 0.999


@pytest.mark.parametrize("name", ["detr", "maskformer", "mask2former", "oneformer", "eomt"])
def test_threshold(make: Make, pipelines: Pipelines, photo: str, name: str) -> None:
    """Instead of the recorded segments: all that exceed the threshold, and no others."""
    segmenter = make(name, overlap_mask_area_threshold=0)
    scores = [[each["score"] for each in segmenter(photo, threshold=limit)] for limit in (0.0, 0.8, 0.999)]
    assert len(scores[0]) > len(scores[2])
    assert 0 < min(scores[0]) < 0.8 < min(scores[1], default=1)
    assert min(scores[2], default=1) > 0.999


@pytest.mark.parametrize("name", ["maskformer", "oneformer"])
def test_maskformer_and_test_oneformer(make: Make, pipelines: Pipelines, photo: str, name: str) -> None:
    """One task after the other from one pipeline; OneFormer is told which."""
    segmenter = make(name)
    by_default = segmenter(photo, threshold=0.3)
    assert_same(segmenter(photo, threshold=0.3, subtask="panoptic"), by_default)
    for task in ("instance", "semantic"):
        found = segmenter(photo, threshold=0.3, subtask=task)
        assert len(found) >= 1
        assert_annotations(found)
        assert all((each["score"] is None) == (task == "semantic") for each in found)
    assert_same(segmenter(photo, threshold=0.3), by_default)


@pytest.mark.parametrize("name", ["detr", "mask2former", "segformer"])
def test_save_load(pipelines: Pipelines, photo: str, name: str, tmp_path: Path) -> None:
    """What transformers' pipeline saves loads everywhere."""
    saved = pipelines.theirs(name)
    saved.save_pretrained(tmp_path)
    expected = saved(photo, **ALL)
    for loaded in (pipelines.theirs(name, model=str(tmp_path)), pipelines.like_transformers(name, model=str(tmp_path))):
        assert_same(loaded(photo, **ALL), expected)
    assert len(pipelines.ours(name, model=str(tmp_path))(photo, **ALL)) > 1


@pytest.mark.parametrize("name", ["detr", "oneformer", "segformer"])
def test_run_batch_test(make: Make, pipelines: Pipelines, photo: str, name: str) -> None:
    """A generator of ten in batches of four: ten answers."""
    segmenter = make(name, threshold=0.3)
    examples = [photo, picture()]

    def data(count: int) -> Iterator[Any]:
        for _ in range(count):
            yield random.choice(examples)

    at_once = 2 if name == "oneformer" else 4  # transformers cannot take apart more than it has decoder layers
    found = list(segmenter(data(10), batch_size=at_once))
    assert len(found) == 10
    for each in found:
        assert_annotations(each)


def test_iterator_data_and_test_pipeline_iteration(make: Make, pipelines: Pipelines, photo: str) -> None:
    """A data set of torch and a generator: an answer for each image, in order."""

    class Pictures(Dataset[Any]):
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> Any:
            return (photo, picture(seed=1), picture(seed=2))[index]

    segmenter = make("segformer")
    expected = [segmenter(Pictures()[index]) for index in range(3)]
    assert_same(list(segmenter(Pictures())), expected)
    assert_same(list(segmenter(Pictures(), batch_size=2)), expected)
    assert_same(list(segmenter(Pictures()[index] for index in range(3))), expected)


def test_pipeline_batch_size_global(make: Make, pipelines: Pipelines) -> None:
    """A size of batches given once holds for all calls; a call may change it."""
    segmenter = make("segformer", batch_size=2, num_workers=0)
    images = [picture(seed=seed) for seed in range(3)]
    expected = [segmenter(image) for image in images]
    assert_same(segmenter(images), expected)
    assert_same(segmenter(images, batch_size=3, num_workers=0), expected)


@pytest.mark.parametrize("make_pipeline", [transformers.pipeline, pipeline], ids=["theirs", "ours"])
def test_unknown_task_and_no_task(make_pipeline: Make, pipelines: Pipelines) -> None:
    """``check_task`` and what ``pipeline`` asks for first."""
    with pytest.raises(KeyError, match=r"(?i)unknown task"):
        make_pipeline("image-segmentations", model=str(pipelines.folder("segformer")))
    with pytest.raises(RuntimeError):
        make_pipeline()


@pytest.mark.parametrize("name", ["dpt-depth", "depth-anything"])
def test_depth_run_pipeline_test(pipelines: Pipelines, photo: str, name: str) -> None:
    """A path, then a list of a PIL image, a path and pictures of several modes."""
    for estimator in (pipelines.theirs(name), pipelines.ours(name)):
        modes = [picture().convert(mode) for mode in ("RGBA", "LA", "L")]
        for each in [estimator(photo), *estimator([picture(), photo, *modes])]:
            assert each.keys() == {"predicted_depth", "depth"}
            assert isinstance(each["predicted_depth"], torch.Tensor)
            assert tuple(each["predicted_depth"].shape) == (90, 120)
            assert isinstance(each["depth"], Image.Image)
